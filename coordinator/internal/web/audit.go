package web

import (
	"context"
	"html"
	"html/template"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Auditor reads who did what, and checks that no entry was changed or removed.
// Faults are *job.Failure. Safe for concurrent use.
type Auditor interface {
	Audit(ctx context.Context, filter fleet.AuditFilter) (fleet.AuditPage, error)
	VerifyAudit(ctx context.Context) (fleet.AuditProof, error)
}

// auditPerPage is how many rows a page of the audit has.
const auditPerPage = 50

// auditPage is the data of the audit's page.
type auditPage struct {
	clock
	commands
	Filter  fleet.AuditFilter
	Entries []auditRow
	Next    string // address of the next page
	First   string // address of the first, when this is not it
	Verify  string // address of this page with the proof
	Proof   *fleet.AuditProof
	Fault   *job.Failure
}

func (s *site) audit(ctx context.Context, query url.Values, c commands) (*view, error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	page := &auditPage{clock: s.moment(), commands: c, Filter: fleet.AuditFilter{
		By: query.Get("by"), Action: query.Get("action"), Object: query.Get("object"), Limit: auditPerPage,
	}}
	v := &view{Title: "Audit", Nav: "/audit", Body: "audit", Data: page}
	if err := s.readAudit(ctx, page, query.Get("before")); err != nil {
		page.Fault = job.AsFailure(err)
		if v.Status = page.Fault.Code.HTTPStatus(); v.Status != job.InvalidRequest.HTTPStatus() {
			return nil, err
		}
	}
	if query.Get("verify") == "" {
		return v, nil
	}
	proof, err := s.Audit.VerifyAudit(ctx)
	page.Proof = &proof
	return v, wrap("the audit's chain", err)
}

// readAudit fills the page's rows.
func (s *site) readAudit(ctx context.Context, page *auditPage, before string) error {
	if before != "" {
		number, err := strconv.ParseUint(before, 10, 64)
		if err != nil {
			return job.Invalid("before", "%q is not the number of an entry", before)
		}
		page.Filter.Before, page.First = number, page.address(0)
	}
	page.Verify = withQuery("/audit", "by", page.Filter.By, "action", page.Filter.Action, "object", page.Filter.Object, "before", before, "verify", "1")
	found, err := s.Audit.Audit(ctx, page.Filter)
	if err != nil {
		return err
	}
	for _, entry := range found.Entries {
		page.Entries = append(page.Entries, auditRow{page.clock, entry})
	}
	if found.Before > 0 {
		page.Next = page.address(found.Before)
	}
	return nil
}

func (p *auditPage) address(before uint64) string {
	f, number := p.Filter, ""
	if before > 0 {
		number = strconv.FormatUint(before, 10)
	}
	return withQuery("/audit", "by", f.By, "action", f.Action, "object", f.Object, "before", number)
}

// Filtered reports whether the list leaves something out.
func (p *auditPage) Filtered() bool {
	return p.Filter.By != "" || p.Filter.Action != "" || p.Filter.Object != ""
}

// auditRow is one entry as the list shows it.
type auditRow struct {
	clock clock
	fleet.AuditEntry
}

// Done is when it was done.
func (r auditRow) Done() template.HTML { return r.clock.At(r.At) }

// Chip is the outcome.
func (r auditRow) Chip() chip {
	switch r.Outcome {
	case "done":
		return chip{"ok", "ok", "done"}
	case "requested":
		return chip{"idle", "sent", "requested"}
	case "refused":
		return chip{"warn", "stop", "refused"}
	}
	return stateChip(job.State(r.Outcome))
}

// Target is the page of what it is about; empty when that has none.
func (r auditRow) Target() string {
	kind, name, _ := strings.Cut(r.Object, "/")
	if name == "" {
		return ""
	}
	switch kind {
	case "host":
		return hostURL(name)
	case "repository":
		return repositoryURL(name)
	case "job":
		return jobURL(job.ID(name))
	case "user":
		return userURL(name)
	case "plan":
		return planURL(name)
	case "run":
		return runURL(name)
	}
	return ""
}

// jobMention is how details name a job.
var jobMention = regexp.MustCompile(`\bjob ([0-9A-Z]{26})\b`)

// About is the detail, in which jobs lead to their pages.
func (r auditRow) About() template.HTML {
	return template.HTML(jobMention.ReplaceAllString(html.EscapeString(r.Detail), `<a href="/jobs/$1">job $1</a>`)) //nolint:gosec // escaped
}

// ByURL is the list of what the same person or program did.
func (r auditRow) ByURL() string { return withQuery("/audit", "by", r.By) }

// ActionURL is the list of the same action.
func (r auditRow) ActionURL() string { return withQuery("/audit", "action", r.Action) }

// HashStart is enough of the hash to compare by eye.
func (r auditRow) HashStart() string { return r.Hash[:min(len(r.Hash), 12)] }

package web

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

// jobsPage is the data of the list of jobs.
type jobsPage struct {
	clock
	reader
	Filter       job.Filter
	Within       string // the time choice: "", 24h, 7d, 30d
	Planned      bool   // there are pages of plans
	Jobs         []jobRow
	Next         string // address of the next page
	First        string // address of the first, when this is not it
	Fault        *job.Failure
	HostNames    []string
	Repositories []string
}

// jobsPerPage is how many rows a page of the list has.
const jobsPerPage = 50

// windows are the choices of the list's time filter.
var windows = []struct {
	Name, Label string
	Span        time.Duration
}{
	{"24h", "last 24 hours", 24 * time.Hour},
	{"7d", "last 7 days", 7 * 24 * time.Hour},
	{"30d", "last 30 days", 30 * 24 * time.Hour},
}

func (s *site) jobs(ctx context.Context, query url.Values) (*view, error) {
	page := &jobsPage{clock: s.moment(), reader: readerOf(ctx), Planned: s.Plans != nil, Within: query.Get("within"), Filter: job.Filter{
		Host: query.Get("host"), Repository: query.Get("repository"), Plan: query.Get("plan"),
		State: job.State(query.Get("state")), Kind: job.Kind(query.Get("kind")),
		Limit: jobsPerPage, Cursor: query.Get("cursor"),
	}}
	v := &view{
		Title: "Jobs", Nav: "/jobs", Body: "jobs", Data: page, Live: []string{"job-list"},
		Cares: func(u feed.Update) bool { return u.Type == feed.JobChanged || u.Type == feed.Missed },
		Fill:  func(ctx context.Context) error { return s.fillChoices(ctx, page) },
	}
	if page.Fault = page.read(ctx, s.Jobs); page.Fault != nil {
		if v.Status = page.Fault.Code.HTTPStatus(); v.Status >= http.StatusInternalServerError {
			return nil, page.Fault
		}
	}
	return v, nil
}

// read fills the page's rows. A filter that cannot be is the reader's own
// fault, and is said on the page.
func (p *jobsPage) read(ctx context.Context, jobs JobReader) *job.Failure {
	if err := p.since(); err != nil {
		return job.AsFailure(err)
	}
	if err := p.Filter.Validate(); err != nil {
		return job.AsFailure(err)
	}
	found, err := jobs.Jobs(ctx, p.Filter)
	if err != nil {
		return job.AsFailure(err)
	}
	p.Jobs = p.clock.jobs(found.Jobs)
	if found.Cursor != "" {
		p.Next = p.address(found.Cursor)
	}
	if p.Filter.Cursor != "" {
		p.First = p.address("")
	}
	return nil
}

func (p *jobsPage) since() error {
	if p.Within == "" {
		return nil
	}
	for _, window := range windows {
		if window.Name == p.Within {
			p.Filter.Since = p.now.Add(-window.Span)
			return nil
		}
	}
	return job.Invalid("within", "%q is not a choice", p.Within).WithHint("one of 24h, 7d, 30d")
}

func (p *jobsPage) address(cursor string) string {
	f := p.Filter
	return withQuery("/jobs", "host", f.Host, "repository", f.Repository, "plan", f.Plan,
		"state", string(f.State), "kind", string(f.Kind), "within", p.Within, "cursor", cursor)
}

// fillChoices reads what the filter's menus offer.
func (s *site) fillChoices(ctx context.Context, page *jobsPage) error {
	hosts, err := s.Hosts.Hosts(ctx)
	if err != nil {
		return wrap("hosts", err)
	}
	for _, h := range hosts {
		page.HostNames = append(page.HostNames, h.Name)
	}
	repositories, err := s.Repositories.Repositories(ctx)
	if err != nil {
		return wrap("repositories", err)
	}
	for _, r := range repositories {
		page.Repositories = append(page.Repositories, r.Name)
	}
	return nil
}

// choice is one entry of a menu.
type choice struct {
	Value, Label string
	Selected     bool
}

// choices is a menu of names; one that is chosen but not among them is kept.
func choices[T ~string](chosen T, any string, names []T) []choice {
	list := []choice{}
	if any != "" {
		list = append(list, choice{Label: any, Selected: chosen == ""})
	}
	known := chosen == ""
	for _, name := range names {
		list = append(list, choice{string(name), string(name), name == chosen})
		known = known || name == chosen
	}
	if !known {
		list = append(list, choice{string(chosen), string(chosen), true})
	}
	return list
}

// HostChoices, RepositoryChoices, KindChoices, StateChoices and WithinChoices
// are the menus of the filter.
func (p *jobsPage) HostChoices() []choice {
	return choices(p.Filter.Host, "any host", p.HostNames)
}

// RepositoryChoices are the known repositories.
func (p *jobsPage) RepositoryChoices() []choice {
	return choices(p.Filter.Repository, "any repository", p.Repositories)
}

// KindChoices are the kinds that this version runs.
func (p *jobsPage) KindChoices() []choice { return choices(p.Filter.Kind, "any kind", job.Kinds()) }

// StateChoices are all states.
func (p *jobsPage) StateChoices() []choice { return choices(p.Filter.State, "any state", job.States()) }

// WithinChoices are the spans of time.
func (p *jobsPage) WithinChoices() []choice {
	list := []choice{{Label: "any time", Selected: p.Within == ""}}
	for _, window := range windows {
		list = append(list, choice{window.Name, window.Label, window.Name == p.Within})
	}
	return list
}

// Filtered reports whether the list leaves something out.
func (p *jobsPage) Filtered() bool {
	f := p.Filter
	return f.Host != "" || f.Repository != "" || f.Plan != "" || f.State != "" || f.Kind != "" || p.Within != ""
}

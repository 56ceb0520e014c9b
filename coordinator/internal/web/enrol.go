package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Enroller makes one-time tokens with which a host is let in. Faults are
// *job.Failure. Safe for concurrent use.
type Enroller interface {
	EnrolmentToken(ctx context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error)
}

// HostRemover ends a host: its identity, its connection, its queued jobs.
// Faults are *job.Failure. Safe for concurrent use.
type HostRemover interface {
	RemoveHost(ctx context.Context, by fleet.Actor, name string) error
}

// enrolLifetime is how long a token that was made here works.
const enrolLifetime = time.Hour

// enrolForm asks for a host's name.
type enrolForm struct {
	Key     string
	Host    string
	Replace bool
	Faults  []*job.Failure
}

// Fault is what was wrong with a field.
func (f *enrolForm) Fault(field string) *job.Failure { return faultOf(f.Faults, field) }

// enrolPage is the data of the page that lets a host in: first the form, then
// the command, which waits for the host's agent.
type enrolPage struct {
	clock
	commands
	Form    *enrolForm // nil while it waits
	Waits   string     // for the agent of this host
	Since   time.Time  // when its token was made
	Host    *fleet.HostView
	Command string // with the token; only in the one answer that made it
}

// WaitURL is this page, without the command.
func (p *enrolPage) WaitURL() string { return waitURL(p.Waits, p.Since) }

// AnewURL is the form for another command for the same host.
func (p *enrolPage) AnewURL() string {
	replace := ""
	if p.Host != nil && p.Host.PublicKey != "" {
		replace = "1"
	}
	return withQuery("/enrol", "host", p.Waits, "replace", replace)
}

// Until is when the token expires.
func (p *enrolPage) Until() time.Time { return p.Since.Add(enrolLifetime) }

// Expired reports whether nobody can spend the token any more.
func (p *enrolPage) Expired() bool { return !p.now.Before(p.Until()) }

// Enrolled reports whether the host has got its identity since.
func (p *enrolPage) Enrolled() bool {
	return p.Host != nil && p.Host.EnrolledAt != nil && !p.Host.EnrolledAt.Before(p.Since)
}

// Connected reports whether the agent that enrolled is there. An older agent
// of the same name was cut off when the new one enrolled; it does not count.
func (p *enrolPage) Connected() bool {
	return p.Enrolled() && p.Host.Online && p.Host.Facts != nil && !p.Host.Facts.SeenAt.Before(*p.Host.EnrolledAt)
}

func (p *enrolPage) title() string {
	switch {
	case p.Form != nil:
		return "Add a host"
	case p.Connected():
		return p.Waits + " is connected"
	}
	return "Waiting for " + p.Waits
}

// waitURL is the page that waits for a host whose token was made at since.
func waitURL(host string, since time.Time) string {
	return withQuery("/enrol", "wait", host, "since", strconv.FormatInt(since.UnixMilli(), 10))
}

// enrol builds the page at /enrol.
func (s *site) enrol(ctx context.Context, query url.Values, c commands) (*view, error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	if host := query.Get("wait"); host != "" {
		since, err := strconv.ParseInt(query.Get("since"), 10, 64)
		if err != nil {
			return nil, job.Invalid("since", "this is not a time").WithHint("Start at Hosts.")
		}
		return s.enrolWait(ctx, &enrolPage{clock: s.moment(), commands: c, Waits: host, Since: time.UnixMilli(since).UTC()})
	}
	return s.enrolForm(&enrolForm{Host: query.Get("host"), Replace: query.Get("replace") != ""}, c), nil
}

// enrolForm is the page that asks for a name.
func (s *site) enrolForm(form *enrolForm, c commands) *view {
	form.Key = newKey(s)
	page := &enrolPage{clock: s.moment(), commands: c, Form: form}
	v := &view{Title: page.title(), Nav: "/hosts", Body: "enrol", Data: page}
	if len(form.Faults) > 0 {
		v.Status = form.Faults[0].Code.HTTPStatus()
	}
	return v
}

// enrolWait is the page that waits for an agent.
func (s *site) enrolWait(ctx context.Context, page *enrolPage) (*view, error) {
	host := page.Waits
	h, err := s.Hosts.Host(ctx, host)
	switch {
	case err == nil:
		page.Host = &h
	case job.AsFailure(err).Code != job.UnknownHost: // a new host is made when it enrols
		return nil, err
	}
	return &view{
		Title: page.title(), Nav: "/hosts", Body: "enrol", Data: page,
		Address: waitURL(host, page.Since), Secret: page.Command != "",
		Live:  []string{"enrol-head", "enrol-state"},
		Cares: func(u feed.Update) bool { return caresForState(u) && (u.Host == host || u.Type == feed.Missed) },
	}, nil
}

// submitEnrol makes a token and answers with the page that waits for the host.
// No other answer has the command: a reload shows the page without.
func (s *site) submitEnrol(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	form := &enrolForm{Host: strings.TrimSpace(r.PostForm.Get("host")), Replace: r.PostForm.Get("replace") != ""}
	if !s.firstTime(w, r, withQuery("/enrol", "host", form.Host)) {
		return
	}
	c := s.commandsFor(r)
	token, command, err := s.Enroller.EnrolmentToken(r.Context(), fleet.ActorOf(r.Context()),
		fleet.NewEnrolmentToken{Host: form.Host, Lifetime: enrolLifetime, Replace: form.Replace})
	if err != nil {
		form.Faults = failures(err)
		s.refuse(w, r, err, s.enrolForm(form, c))
		return
	}
	v, err := s.enrolWait(r.Context(), &enrolPage{
		clock: s.moment(), commands: c, Waits: token.Host, Since: token.CreatedAt, Command: command.Command,
	})
	if err != nil {
		s.faultOf(w, r, err)
		return
	}
	s.once.lead(onceKey(r), v.Address)
	s.render(w, r, v)
}

// refuse serves a form again with what was wrong; what is no fault of the
// form has a page of its own.
func (s *site) refuse(w http.ResponseWriter, r *http.Request, err error, again *view) {
	if status := job.AsFailure(err).Code.HTTPStatus(); status >= http.StatusInternalServerError || status == http.StatusForbidden {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, again)
}

package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const alertsPerPage = 50

// alertsPage is the data of the list of alerts.
type alertsPage struct {
	clock
	commands
	reader
	Filter   fleet.AlertFilter
	Open     []alertRow // that hold
	Over     []alertRow
	Holding  int // in all, whatever is shown
	Silences []silenceRow
	Next     string
	First    string
	Notifies bool         // there is a page of notifications
	Fault    *job.Failure // of the filter
	Refused  *job.Failure // why the last action was not done
}

// alertRow is one alert.
type alertRow struct {
	clock
	fleet.Alert
	plans bool // there are pages of plans
}

// Chip is how soon somebody should look; what is over says so.
func (r alertRow) Chip() chip {
	switch {
	case r.ResolvedAt != nil:
		return chip{"idle", "ok", "over"}
	case r.Severity == fleet.SeverityCritical:
		return chip{"fail", "fail", "critical"}
	case r.Severity == fleet.SeverityWarning:
		return chip{"warn", "warn", "warning"}
	}
	return chip{"idle", "plus", string(r.Severity)}
}

// What is the kind in words.
func (r alertRow) What() string { return strings.ReplaceAll(r.Kind, "_", " ") }

// Target is the page about it: the plan's, the job's, the host's.
func (r alertRow) Target() string {
	switch {
	case r.Job != "":
		return jobURL(r.Job)
	case r.PlanURL() != "":
		return r.PlanURL()
	case r.Host != "":
		return hostURL(r.Host)
	case r.Repository != "":
		return repositoryURL(r.Repository)
	}
	return ""
}

// PlanURL is the page of its plan; empty: there is none.
func (r alertRow) PlanURL() string {
	if r.Plan == "" || !r.plans {
		return ""
	}
	return planURL(r.Plan)
}

// SilenceURL asks how long alerts like it shall be quiet.
func (r alertRow) SilenceURL() string {
	return withQuery("/alerts/silence", "kind", r.Kind, "host", r.Host, "repository", r.Repository, "plan", r.Plan)
}

// silenceRow is one silence.
type silenceRow struct {
	clock
	fleet.Silence
}

// Of is which alerts it keeps quiet.
func (r silenceRow) Of() string {
	var parts []string
	for _, part := range [][2]string{{"", strings.ReplaceAll(r.Kind, "_", " ")}, {"host ", r.Host}, {"repository ", r.Repository}, {"plan ", r.Plan}} {
		if part[1] != "" {
			parts = append(parts, part[0]+part[1])
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "every alert")
}

// alerts builds the page of alerts. refused says why an action was not done.
func (s *site) alerts(ctx context.Context, query url.Values, c commands, refused *job.Failure) (*view, error) {
	page := &alertsPage{clock: s.moment(), commands: c, reader: readerOf(ctx), Notifies: s.Notify != nil, Refused: refused, Filter: fleet.AlertFilter{
		Kind: query.Get("kind"), Host: query.Get("host"), Repository: query.Get("repository"), Plan: query.Get("plan"),
		Severity: fleet.Severity(query.Get("severity")), Open: query.Get("show") == "open", Limit: alertsPerPage, Cursor: query.Get("cursor"),
	}}
	v := &view{
		Title: "Alerts", Nav: "/alerts", Body: "alerts", Data: page, Live: []string{"alerts-summary", "alert-list", "alert-silences"},
		Cares: func(u feed.Update) bool { return u.Type == feed.AlertChanged || u.Type == feed.Missed },
	}
	if refused != nil {
		v.Status = refused.Code.HTTPStatus()
	}
	found, err := s.Alerts.Alerts(ctx, page.Filter)
	if err != nil {
		page.Fault = failures(err)[0]
		if v.Status = page.Fault.Code.HTTPStatus(); v.Status >= http.StatusInternalServerError {
			return nil, wrap("alerts", err)
		}
	}
	page.sort(found, s.Plans != nil)
	silences, err := s.Alerts.Silences(ctx)
	for _, silence := range silences {
		page.Silences = append(page.Silences, silenceRow{page.clock, silence})
	}
	return v, wrap("silences", err)
}

func (p *alertsPage) sort(found fleet.AlertPage, plans bool) {
	p.Holding = found.Open
	for _, alert := range found.Alerts {
		row := alertRow{p.clock, alert, plans}
		if alert.ResolvedAt == nil {
			p.Open = append(p.Open, row)
		} else {
			p.Over = append(p.Over, row)
		}
	}
	if found.Cursor != "" {
		p.Next = p.address(found.Cursor)
	}
	if p.Filter.Cursor != "" {
		p.First = p.address("")
	}
}

func (p *alertsPage) address(cursor string) string {
	f := p.Filter
	return withQuery("/alerts", "kind", f.Kind, "host", f.Host, "repository", f.Repository, "plan", f.Plan,
		"severity", string(f.Severity), "show", p.Show(), "cursor", cursor)
}

// Show is the choice of the filter's menu.
func (p *alertsPage) Show() string { return given(p.Filter.Open, "open") }

// Filtered reports whether the list leaves something out.
func (p *alertsPage) Filtered() bool {
	f := p.Filter
	return f.Kind != "" || f.Host != "" || f.Repository != "" || f.Plan != "" || f.Severity != "" || f.Open
}

// SeverityChoices is the menu of severities.
func (p *alertsPage) SeverityChoices() []choice {
	return choices(p.Filter.Severity, "any severity", fleet.Severities())
}

// ListAlerts prints them.
func (p *alertsPage) ListAlerts() string { return p.borgfleet("alert", "list", "--all") }

// confirmSilence is the page that asks which alerts shall be quiet, and how long.
func (s *site) confirmSilence(r *http.Request) (*confirmation, error) {
	if err := r.ParseForm(); err != nil {
		return nil, job.Fail(job.InvalidRequest, "The form cannot be read: %s.", err)
	}
	v := &typed{Values: r.Form, sent: r.Method == http.MethodPost}
	page := &confirmation{
		Title: "Silence alerts", Action: "silence", Nav: "/alerts", Back: "/alerts", BackTo: "Alerts", Button: "Silence", Mild: true,
		Happens: []string{"Nobody is notified of them meanwhile. They are shown all the same, and end as always."},
		after:   "/alerts",
	}
	words := []string{"alert", "silence"}
	for _, f := range []struct{ name, label, option string }{
		{"kind", "Kind", "--kind"}, {"host", "Host", "--host"}, {"repository", "Repository", "--repo"}, {"plan", "Plan", "--plan"},
	} {
		page.Fields = append(page.Fields, field{Name: f.name, Label: f.label, Kind: "text", Value: v.text(f.name), Placeholder: "any"})
		if value := v.text(f.name); value != "" {
			words = append(words, f.option, value)
		}
	}
	page.Fields = append(page.Fields, spanField(v, "8h"), untilField(v), reasonField(r))
	page.Command = s.commandsFor(r).borgfleet(append(words, "--for", cmp.Or(v.text("for"), "8h"), "--reason", "…")...)
	page.do = func(ctx context.Context, by fleet.Actor) error {
		until, err := v.until(s.Now())
		if err != nil {
			return err
		}
		if until == nil {
			end := s.Now().Add(8 * time.Hour).UTC().Truncate(time.Second)
			until = &end
		}
		_, err = s.Alerts.AddSilence(ctx, by, fleet.Silence{
			Kind: v.text("kind"), Host: v.text("host"), Repository: v.text("repository"), Plan: v.text("plan"), Reason: v.text("reason"), Until: *until,
		})
		return err
	}
	return page, nil
}

func (s *site) endSilence(w http.ResponseWriter, r *http.Request) {
	if err := s.Alerts.RemoveSilence(r.Context(), fleet.ActorOf(r.Context()), r.PathValue("id")); err != nil {
		refused := failures(err)[0]
		if refused.Code == job.NotAllowed {
			s.faultOf(w, r, refused)
			return
		}
		v, err := s.alerts(r.Context(), url.Values{}, s.commandsFor(r), refused)
		if err != nil {
			s.faultOf(w, r, err)
			return
		}
		s.render(w, r, v)
		return
	}
	http.Redirect(w, r, "/alerts", http.StatusSeeOther)
}

package web

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	calendarSpan = 24 * time.Hour
	rowsPerHour  = 40
	hostsNamed   = 4 // of one plan in one hour
)

// calendarPage is the data of what is to come.
type calendarPage struct {
	clock
	commands
	reader
	Plan, Host string // only of these
	Hours      []calendarHour
	Total      int
	Fault      *job.Failure
}

// calendarHour is what begins within an hour.
type calendarHour struct {
	At   time.Time
	Runs int // of hosts
	Rows []calendarRow
	More int
}

// calendarRow is one plan that begins in an hour, on hosts that are due together.
type calendarRow struct {
	clock
	Plan    string
	Hosts   []string
	First   time.Time // of the hosts, with jitter
	Last    time.Time
	Seconds float64 // the longest of them usually takes; 0: not known
}

func (s *site) calendar(ctx context.Context, query url.Values, c commands) (*view, error) {
	page := &calendarPage{clock: s.moment(), commands: c, reader: readerOf(ctx), Plan: query.Get("plan"), Host: query.Get("host")}
	v := &view{Title: "Calendar", Nav: "/plans", Body: "calendar", Data: page, Live: []string{"calendar-summary", "calendar-hours"}, Cares: caresForPlans}
	list, err := s.Plans.Calendar(ctx, page.now, page.now.Add(calendarSpan))
	if err != nil {
		page.Fault = failures(err)[0]
		if v.Status = page.Fault.Code.HTTPStatus(); v.Status >= 500 {
			return nil, err
		}
		return v, nil
	}
	page.sort(list)
	return v, nil
}

// sort puts what is to come into hours, and hosts of one plan together.
func (p *calendarPage) sort(list []fleet.Occurrence) {
	for _, o := range list {
		if (p.Plan != "" && o.Plan != p.Plan) || (p.Host != "" && o.Host != p.Host) {
			continue
		}
		p.Total++
		at := o.At.Truncate(time.Hour)
		if n := len(p.Hours); n == 0 || !p.Hours[n-1].At.Equal(at) {
			p.Hours = append(p.Hours, calendarHour{At: at})
		}
		p.Hours[len(p.Hours)-1].take(p.clock, o)
	}
	for i := range p.Hours {
		p.Hours[i].Rows = cut(p.Hours[i].Rows, rowsPerHour, &p.Hours[i].More)
	}
}

func (h *calendarHour) take(now clock, o fleet.Occurrence) {
	h.Runs++
	at := slices.IndexFunc(h.Rows, func(r calendarRow) bool { return r.Plan == o.Plan })
	if at < 0 {
		at = len(h.Rows)
		h.Rows = append(h.Rows, calendarRow{clock: now, Plan: o.Plan, First: o.At})
	}
	row := &h.Rows[at]
	row.Last, row.Seconds = o.At, max(row.Seconds, o.Seconds)
	if !slices.Contains(row.Hosts, o.Host) {
		row.Hosts = append(row.Hosts, o.Host)
	}
}

// Named are the hosts, or the first of them.
func (r calendarRow) Named() string {
	if more := len(r.Hosts) - hostsNamed; more > 0 {
		return strings.Join(r.Hosts[:hostsNamed], ", ") + " and " + human.Count(more) + " more"
	}
	return strings.Join(r.Hosts, ", ")
}

// Spread reports whether hosts begin at different times.
func (r calendarRow) Spread() bool { return r.Last.Sub(r.First) >= time.Minute }

// Usual is how long it usually takes; empty: not known.
func (r calendarRow) Usual() string {
	if r.Seconds == 0 {
		return ""
	}
	return human.Seconds(r.Seconds)
}

// Filtered reports whether the page leaves something out.
func (p *calendarPage) Filtered() bool { return p.Plan != "" || p.Host != "" }

// Calendar prints it.
func (p *calendarPage) Calendar() string { return p.borgfleet("plan", "calendar") }

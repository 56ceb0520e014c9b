package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Outlook tells how plans stand, and what is to come. Safe for concurrent use.
type Outlook interface {
	Freshness(ctx context.Context) ([]fleet.Freshness, error)
	// Calendar returns the runs that are to come from one time to another, in
	// order.
	Calendar(ctx context.Context, from, to time.Time) ([]fleet.Occurrence, error)
}

// Bounds of one answer about what is to come.
const (
	calendarSpan    = 24 * time.Hour // if nothing was said
	maxCalendarSpan = 31 * 24 * time.Hour
	maxOccurrences  = 10_000
)

type freshnessInput struct {
	Limit      int             `query:"limit" minimum:"1" maximum:"500" default:"50" doc:"how many at most"`
	Cursor     string          `query:"cursor" maxLength:"500" doc:"from the page before, for the next one"`
	Plan       string          `query:"plan" maxLength:"200" doc:"only of this plan"`
	Host       string          `query:"host" maxLength:"200" doc:"only of this host"`
	Repository string          `query:"repository" maxLength:"200" doc:"only on this repository"`
	State      freshnessFilter `query:"state" doc:"only in this state"`
}

type freshnessOutput struct{ Body FreshnessPage }

// FreshnessPage is how plans stand on hosts and repositories, by their names.
type FreshnessPage struct {
	Freshness []fleet.Freshness `json:"freshness"`
	Cursor    string            `json:"cursor"`
}

type calendarInput struct {
	From time.Time `query:"from" doc:"the beginning (RFC 3339); left out: now"`
	To   time.Time `query:"to" doc:"the end (RFC 3339), at most 31 days later; left out: 24 hours later"`
}

type calendarOutput struct{ Body Calendar }

// Calendar is the runs that are to come, the next first.
type Calendar struct {
	From        time.Time          `json:"from"`
	To          time.Time          `json:"to"`
	Occurrences []fleet.Occurrence `json:"occurrences"`
	Omitted     int                `json:"omitted"`
}

func (a *API) registerOutlook() {
	freshness := operation{
		id: "list-freshness", method: http.MethodGet, path: "/freshness", tag: tagPlans, status: http.StatusOK,
		summary: "Show how each plan stands on each host and repository", answer: FreshnessPage{Freshness: examplePlan().Freshness},
		description: "It follows from the clock, also if nothing arrives from any host.",
	}
	huma.Register(a.huma, freshness.huma(a), a.listFreshness)
	calendar := operation{
		id: "get-calendar", method: http.MethodGet, path: "/calendar", tag: tagPlans, status: http.StatusOK,
		summary: "Show the runs that are to come", answer: exampleCalendar(),
		description: "At most 10000; omitted says how many later ones were left out.",
	}
	huma.Register(a.huma, calendar.huma(a), a.getCalendar)
}

func (a *API) listFreshness(ctx context.Context, in *freshnessInput) (*freshnessOutput, error) {
	all, err := a.options.Plans.Freshness(ctx)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	wanted := keep(all, func(f fleet.Freshness) bool {
		return (in.Plan == "" || f.Plan == in.Plan) && (in.Host == "" || f.Host == in.Host) &&
			(in.Repository == "" || f.Repository == in.Repository) && (in.State == "" || string(f.State) == string(in.State))
	})
	name := func(f fleet.Freshness) string { return f.Plan + "/" + f.Host + "/" + f.Repository }
	page, next := pageOf(wanted, name, in.Limit, in.Cursor)
	return &freshnessOutput{Body: FreshnessPage{Freshness: page, Cursor: next}}, nil
}

func (a *API) getCalendar(ctx context.Context, in *calendarInput) (*calendarOutput, error) {
	from, to := in.From, in.To
	if from.IsZero() {
		from = time.Now().UTC().Truncate(time.Second)
	}
	if to.IsZero() {
		to = from.Add(calendarSpan)
	}
	if to.Before(from) || to.Sub(from) > maxCalendarSpan {
		return nil, a.problem(ctx, job.Invalid("query.to", "is not between from and 31 days later").WithHint("ask for shorter spans, one after the other"))
	}
	all, err := a.options.Plans.Calendar(ctx, from, to)
	if err != nil {
		return nil, a.problem(ctx, err)
	}
	answer := Calendar{From: from, To: to, Occurrences: list(all[:min(len(all), maxOccurrences)])}
	answer.Omitted = len(all) - len(answer.Occurrences)
	return &calendarOutput{Body: answer}, nil
}

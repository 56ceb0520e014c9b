package web

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Plans keeps plans, runs them and tells of them. Faults are *job.Failure. Safe
// for concurrent use.
type Plans interface {
	PlanKeeper
	PlanRunner
	PlanReader
}

// PlanKeeper changes plans. Faults are *job.Failure. Safe for concurrent use.
type PlanKeeper interface {
	AddPlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error)
	ChangePlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error)
	RemovePlan(ctx context.Context, by fleet.Actor, name string) error
}

// PlanRunner runs plans, and keeps them from running. Faults are *job.Failure.
// Safe for concurrent use.
type PlanRunner interface {
	PausePlan(ctx context.Context, by fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error)
	ResumePlan(ctx context.Context, by fleet.Actor, name string) (fleet.PlanView, error)
	// RunPlan also returns the jobs of the run's first tasks.
	RunPlan(ctx context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error)
	CancelRun(ctx context.Context, by fleet.Actor, id string) (fleet.Run, error)
	// AcceptBackup takes the newest backup as right, though it looks suspicious.
	AcceptBackup(ctx context.Context, by fleet.Actor, plan, host, repository, reason string) error
	TestRestore(ctx context.Context, by fleet.Actor, plan, host, repository string) (job.Job, error)
}

// PlanReader tells of plans and their runs. Faults are *job.Failure. Safe for
// concurrent use.
type PlanReader interface {
	Plan(ctx context.Context, name string) (fleet.PlanView, error)
	Plans(ctx context.Context) ([]fleet.PlanView, error)
	PlanRun(ctx context.Context, id string) (fleet.Run, error)
	PlanRuns(ctx context.Context, filter fleet.RunFilter) (fleet.RunPage, error)
	Freshness(ctx context.Context) ([]fleet.Freshness, error)
	Calendar(ctx context.Context, from, to time.Time) ([]fleet.Occurrence, error)
}

// Alerts tells what needs a person, and keeps some of it quiet. Faults are
// *job.Failure. Safe for concurrent use.
type Alerts interface {
	Alerts(ctx context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error)
	Silences(ctx context.Context) ([]fleet.Silence, error)
	AddSilence(ctx context.Context, by fleet.Actor, asked fleet.Silence) (fleet.Silence, error)
	RemoveSilence(ctx context.Context, by fleet.Actor, id string) error
}

// Notifications keeps who is told of what, and what they were told. Faults are
// *job.Failure. Safe for concurrent use.
type Notifications interface {
	TargetKeeper
	RuleKeeper
	// Deliveries returns one page, newest first, and where the next begins.
	Deliveries(ctx context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error)
}

// TargetKeeper keeps where notifications go. Faults are *job.Failure. Safe for
// concurrent use.
type TargetKeeper interface {
	Targets(ctx context.Context) ([]fleet.Target, error)
	PutTarget(ctx context.Context, by fleet.Actor, asked fleet.NewTarget) (fleet.Target, error)
	RemoveTarget(ctx context.Context, by fleet.Actor, name string) error
	// TestTarget sends a message, and returns what came of it.
	TestTarget(ctx context.Context, by fleet.Actor, name string) (fleet.Delivery, error)
}

// RuleKeeper keeps which alerts go to which targets. Faults are *job.Failure. Safe
// for concurrent use.
type RuleKeeper interface {
	Rules(ctx context.Context) ([]fleet.Rule, error)
	PutRule(ctx context.Context, by fleet.Actor, rule fleet.Rule) (fleet.Rule, error)
	RemoveRule(ctx context.Context, by fleet.Actor, name string) error
}

// addPlanning adds the addresses that forms about plans, alerts and notifications
// are sent to.
func (s *site) addPlanning(mux *http.ServeMux) {
	if s.Plans != nil {
		mux.HandleFunc("POST /plans/{plan}/run", s.runPlan)
		mux.HandleFunc("POST /plans/{plan}/resume", s.resumePlan)
		mux.HandleFunc("POST /plans/{plan}/accept", s.acceptBackup)
		mux.HandleFunc("POST /plans/{plan}/restore-test", s.testRestore)
		mux.HandleFunc("POST /runs/{id}/cancel", s.cancelRun)
		for _, address := range []string{"/new-plan", "/plans/{plan}/change"} {
			mux.HandleFunc("GET "+address, s.planForm)
			mux.HandleFunc("POST "+address, s.planForm)
		}
		s.addConfirm(mux, bus.Operator, "/plans/{plan}/pause", s.confirmPause)
		s.addConfirm(mux, bus.Admin, "/plans/{plan}/remove", s.confirmPlan)
	}
	if s.Alerts != nil {
		s.addConfirm(mux, bus.Operator, "/alerts/silence", s.confirmSilence)
		mux.HandleFunc("POST /silences/{id}/end", s.endSilence)
	}
	if s.Notify != nil {
		mux.HandleFunc("POST /notifications/targets", s.putTarget)
		mux.HandleFunc("POST /notifications/targets/{target}/test", s.testTarget)
		mux.HandleFunc("POST /notifications/rules", s.putRule)
		s.addConfirm(mux, bus.Admin, "/notifications/targets/{target}/remove", s.confirmTarget)
		s.addConfirm(mux, bus.Admin, "/notifications/rules/{rule}/remove", s.confirmRule)
	}
}

func (s *site) addConfirm(mux *http.ServeMux, role bus.Role, address string, build confirmer) {
	mux.Handle("GET "+address, s.confirm(role, build))
	mux.Handle("POST "+address, s.confirm(role, build))
}

// routePlanning finds the pages about plans, alerts and notifications.
func (s *site) routePlanning(u *url.URL, c commands) (builder, bool) {
	parts, query := segments(u), u.Query()
	name := parts[len(parts)-1]
	is := func(section string, depth int, there bool) bool {
		return there && len(parts) == depth && parts[0] == section && name != ""
	}
	switch {
	case is("plans", 1, s.Plans != nil):
		return func(ctx context.Context) (*view, error) { return s.plans(ctx, query, c) }, true
	case is("plans", 2, s.Plans != nil):
		return func(ctx context.Context) (*view, error) { return s.plan(ctx, name, query.Get("cursor"), c, nil) }, true
	case is("runs", 2, s.Plans != nil):
		return func(ctx context.Context) (*view, error) { return s.run(ctx, name, c, nil) }, true
	case is("calendar", 1, s.Plans != nil):
		return func(ctx context.Context) (*view, error) { return s.calendar(ctx, query, c) }, true
	case is("alerts", 1, s.Alerts != nil):
		return func(ctx context.Context) (*view, error) { return s.alerts(ctx, query, c, nil) }, true
	case is("notifications", 1, s.Notify != nil):
		return func(ctx context.Context) (*view, error) { return s.notifications(ctx, query, c, notifyForms{}) }, true
	}
	return nil, false
}

// menu is what there is in the menu besides what is always there.
type menu struct {
	Plans, Alerts bool
	Open          alertCount
}

// alertCount is how many alerts hold.
type alertCount int

// menu reads it. A page is shown all the same when the alerts cannot be counted.
func (s *site) menu(ctx context.Context) menu {
	m := menu{Plans: s.Plans != nil, Alerts: s.Alerts != nil}
	if !m.Alerts || !readerOf(ctx).Reads() {
		return m
	}
	found, err := s.Alerts.Alerts(ctx, fleet.AlertFilter{Open: true, Limit: 1})
	if err != nil {
		s.logger.Debug("cannot count alerts", "err", err)
	}
	m.Open = alertCount(found.Open)
	return m
}

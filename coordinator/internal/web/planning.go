package web

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
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

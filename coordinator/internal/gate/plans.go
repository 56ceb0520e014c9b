package gate

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Plans keeps plans and runs them. Safe for concurrent use.
type Plans interface {
	PlanKeeper
	PlanRunner
	PlanReader
}

// PlanKeeper changes plans. Safe for concurrent use.
type PlanKeeper interface {
	AddPlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error)
	ChangePlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error)
	RemovePlan(ctx context.Context, by fleet.Actor, name string) error
}

// PlanRunner runs plans, and keeps them from running. Safe for concurrent use.
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

// PlanReader tells of plans and their runs. Safe for concurrent use.
type PlanReader interface {
	Plan(ctx context.Context, name string) (fleet.PlanView, error)
	Plans(ctx context.Context) ([]fleet.PlanView, error)
	PlanNames(ctx context.Context) ([]string, error)
	PlanRun(ctx context.Context, id string) (fleet.Run, error)
	PlanRuns(ctx context.Context, filter fleet.RunFilter) (fleet.RunPage, error)
	Freshness(ctx context.Context) ([]fleet.Freshness, error)
	Calendar(ctx context.Context, from, to time.Time) ([]fleet.Occurrence, error)
}

// Plans returns plans behind the gate.
func (g *Gate) Plans(inner Plans) Plans { return plans{inner, inner, g} }

// plans reads without looking who asks, as everybody may who is known.
type plans struct {
	PlanReader
	inner Plans
	gate  *Gate
}

func (p plans) AddPlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	if err := p.gate.pass(by, "plan.add", "plan/"+name); err != nil {
		return fleet.PlanView{}, err
	}
	return p.inner.AddPlan(ctx, by, name, spec)
}

func (p plans) ChangePlan(ctx context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	if err := p.gate.pass(by, "plan.change", "plan/"+name); err != nil {
		return fleet.PlanView{}, err
	}
	return p.inner.ChangePlan(ctx, by, name, spec)
}

func (p plans) RemovePlan(ctx context.Context, by fleet.Actor, name string) error {
	if err := p.gate.pass(by, "plan.remove", "plan/"+name); err != nil {
		return err
	}
	return p.inner.RemovePlan(ctx, by, name)
}

func (p plans) PausePlan(ctx context.Context, by fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error) {
	if err := p.gate.pass(by, "plan.pause", "plan/"+name); err != nil {
		return fleet.PlanView{}, err
	}
	return p.inner.PausePlan(ctx, by, name, until, reason)
}

func (p plans) ResumePlan(ctx context.Context, by fleet.Actor, name string) (fleet.PlanView, error) {
	if err := p.gate.pass(by, "plan.resume", "plan/"+name); err != nil {
		return fleet.PlanView{}, err
	}
	return p.inner.ResumePlan(ctx, by, name)
}

func (p plans) RunPlan(ctx context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error) {
	if err := p.gate.pass(by, "plan.run", "plan/"+name); err != nil {
		return fleet.Run{}, nil, err
	}
	return p.inner.RunPlan(ctx, by, name, asked)
}

func (p plans) CancelRun(ctx context.Context, by fleet.Actor, id string) (fleet.Run, error) {
	if err := p.gate.pass(by, "run.cancel", "run/"+id); err != nil {
		return fleet.Run{}, err
	}
	return p.inner.CancelRun(ctx, by, id)
}

func (p plans) AcceptBackup(ctx context.Context, by fleet.Actor, plan, host, repository, reason string) error {
	if err := p.gate.pass(by, "plan.accept", "plan/"+plan); err != nil {
		return err
	}
	return p.inner.AcceptBackup(ctx, by, plan, host, repository, reason)
}

func (p plans) TestRestore(ctx context.Context, by fleet.Actor, plan, host, repository string) (job.Job, error) {
	if err := p.gate.pass(by, "plan.restore_test", "plan/"+plan); err != nil {
		return job.Job{}, err
	}
	return p.inner.TestRestore(ctx, by, plan, host, repository)
}

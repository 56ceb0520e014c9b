package busapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Plans reads plans and runs them. Errors are *job.Failure.
type Plans interface {
	Plan(ctx context.Context, name string) (fleet.PlanView, error)
	PlanNames(ctx context.Context) ([]string, error)
	// RunPlan also returns the jobs of the run's first tasks.
	RunPlan(ctx context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error)
	// PlanRuns returns one page, newest first.
	PlanRuns(ctx context.Context, filter fleet.RunFilter) (fleet.RunPage, error)
}

// PlanReply carries one plan.
type PlanReply struct {
	Plan fleet.PlanView `json:"plan"`
}

// PlansReply is a page of plans.
type PlansReply struct {
	Plans  []fleet.PlanView `json:"plans"`
	Cursor string           `json:"cursor"` // give it back for the next page; empty on the last
}

// RunPlanRequest asks to run a plan now.
type RunPlanRequest struct {
	Name string `json:"name"`
	fleet.RunRequest
}

// SubmitReply carries the job that was submitted; or the run of a plan, and the
// first of its jobs.
type SubmitReply struct {
	Job         *job.Job   `json:"job,omitempty"`
	Run         *fleet.Run `json:"run,omitempty"`
	Jobs        []job.Job  `json:"jobs,omitzero"`
	JobsOmitted int        `json:"jobs_omitted,omitempty"` // more of them, which did not fit into the message
}

// planEndpoints is what is served of plans.
func (s *Service) planEndpoints() []endpoint {
	if s.Plans == nil {
		return nil
	}
	return []endpoint{
		serve("plans-list", bus.PlansList, "plans", s.listPlans),
		serve("plans-get", bus.PlansGet, "one plan", func(ctx context.Context, r NameRequest) (PlanReply, error) {
			plan, err := s.Plans.Plan(ctx, r.Name)
			return PlanReply{plan}, err
		}),
		serve("plans-run", bus.PlansRun, "run a plan now", func(ctx context.Context, r RunPlanRequest) (SubmitReply, error) {
			return s.runPlan(ctx, r.Name, r.RunRequest)
		}),
	}
}

// listPlans reads one page of plans, and none of the others.
func (s *Service) listPlans(ctx context.Context, r PageRequest) (PlansReply, error) {
	names, err := s.Plans.PlanNames(ctx)
	if err != nil {
		return PlansReply{}, err
	}
	slices.Sort(names)
	var plans []fleet.PlanView
	for _, name := range names {
		if len(plans) > cmp.Or(r.Limit, job.MaxPage) { // one more than fits says that there are others
			break
		}
		if r.Cursor != "" && name <= r.Cursor {
			continue
		}
		plan, err := s.Plans.Plan(ctx, name)
		if f, ok := errors.AsType[*job.Failure](err); ok && f.Code == job.UnknownPlan {
			continue // removed since
		}
		if err != nil {
			return PlansReply{}, err
		}
		plans = append(plans, plan)
	}
	plans, cursor, err := page(r, plans, func(p fleet.PlanView) string { return p.Name }, s.maxReply())
	return PlansReply{plans, cursor}, err
}

// submit takes a job, or {"plan":"x"}, which is a run of the plan.
func (s *Service) submit(ctx context.Context, r job.Request) (SubmitReply, error) {
	if asked, ok := fleet.RunsPlan(r); ok && s.Plans != nil {
		return s.runPlan(ctx, r.Plan, asked)
	}
	submitted, err := s.Jobs.Submit(ctx, fleet.ActorOf(ctx), r)
	if err != nil {
		return SubmitReply{}, err
	}
	return SubmitReply{Job: &submitted}, nil
}

// runPlan answers with as many of the jobs as fit: the run is there, whether or
// not the answer is.
func (s *Service) runPlan(ctx context.Context, name string, asked fleet.RunRequest) (SubmitReply, error) {
	run, jobs, err := s.Plans.RunPlan(ctx, fleet.ActorOf(ctx), name, asked)
	if err != nil {
		return SubmitReply{}, err
	}
	return fitting(s.maxReply(), len(jobs), func(limit int) (SubmitReply, error) {
		short := run
		if limit < len(jobs) {
			short.Tasks = short.Tasks[:min(limit, len(short.Tasks))]
		}
		return SubmitReply{Run: &short, Jobs: append([]job.Job{}, jobs[:limit]...), JobsOmitted: len(jobs) - limit}, nil
	})
}

// newRuns bounds how many runs of a plan are looked at when it has changed.
const newRuns = 10

// tellRuns publishes the runs of a plan that are new, or have changed since they
// were published: the oldest first. After a start only the newest is told.
func (s *Service) tellRuns(ctx context.Context, plan string) {
	if s.Plans == nil || !token.MatchString(plan) {
		return
	}
	found, err := s.Plans.PlanRuns(ctx, fleet.RunFilter{Plan: plan, Limit: newRuns})
	if err != nil || len(found.Runs) == 0 { // removed meanwhile, or it never ran
		delete(s.runs, plan)
		return
	}
	known, wasTold := s.runs[plan]
	marks := make([]uint64, len(found.Runs))
	for i, run := range slices.Backward(found.Runs) {
		marks[i] = mark(run)
		if !slices.Contains(known, marks[i]) && (wasTold || i == 0) {
			s.send(bus.PublicRun(plan), run)
		}
	}
	s.runs[plan] = marks
}

// mark tells whether a run has changed: it is another number for another run, and
// when more of it is over.
func mark(run fleet.Run) uint64 {
	over := 0
	for _, task := range run.Tasks {
		if task.State != fleet.RunRunning {
			over++
		}
	}
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s %s %d/%d", run.ID, run.State, over, len(run.Tasks))
	return hash.Sum64()
}

// tellAlert publishes an alert that was raised or resolved.
func (s *Service) tellAlert(alert fleet.Alert) {
	if !token.MatchString(alert.Kind) {
		s.logger.Warn("an alert was not published: its kind is no part of a subject", "kind", alert.Kind)
		return
	}
	s.send(bus.PublicAlert(alert.Kind), alert)
}

// token is what may be a part of a subject.
var token = regexp.MustCompile(`^[a-z0-9_-]+$`)

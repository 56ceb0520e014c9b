package httpapi_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const runID = "01JD9X7P0000000000ABCDEFGH"

// planner keeps plans and runs in memory.
type planner struct {
	mu          sync.Mutex
	plans       map[string]fleet.PlanView
	runs        []fleet.Run // newest first
	asked       []string    // what was asked for, in words
	request     fleet.RunRequest
	filter      fleet.RunFilter
	until       *time.Time
	from, to    time.Time
	occurrences []fleet.Occurrence
	freshness   []fleet.Freshness
}

func newPlanner() *planner { return &planner{plans: map[string]fleet.PlanView{}} }

// put stores a plan with the least that there is to one.
func (p *planner) put(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plans[name] = fleet.PlanView{Plan: fleet.Plan{Name: name, PlanSpec: fleet.PlanSpec{Hosts: []string{"web1"}, Repositories: []string{"main"}}}}
}

func (p *planner) note(format string, args ...any) {
	p.asked = append(p.asked, fmt.Sprintf(format, args...))
}

// find notes what is asked for of a plan, and returns it.
func (p *planner) find(role bus.Role, by fleet.Actor, name, what string) (fleet.PlanView, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	plan, ok := p.plans[name]
	if err := needs(role, by); err != nil || !ok {
		return plan, cmp.Or(err, error(fleet.UnknownPlan(name)))
	}
	p.note("%s %s", what, name)
	return plan, nil
}

func (p *planner) AddPlan(_ context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := needs(bus.Admin, by); err != nil {
		return fleet.PlanView{}, err
	}
	if len(spec.Repositories) == 0 {
		return fleet.PlanView{}, fmt.Errorf("checking the plan: %w", errors.Join(
			job.Invalid("repositories", "is empty").WithHint("name at least one"), job.Invalid("hosts", "is empty")))
	}
	p.note("add %s", name)
	p.plans[name] = fleet.PlanView{Plan: fleet.Plan{Name: name, PlanSpec: spec, CreatedAt: time.Now().UTC()}, State: fleet.NeverYet}
	return p.plans[name], nil
}

func (p *planner) ChangePlan(_ context.Context, by fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	plan, err := p.find(bus.Admin, by, name, "change")
	plan.PlanSpec = spec
	return plan, err
}

func (p *planner) RemovePlan(_ context.Context, by fleet.Actor, name string) error {
	_, err := p.find(bus.Admin, by, name, "remove")
	return err
}

func (p *planner) PausePlan(_ context.Context, by fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error) {
	p.until = until
	plan, err := p.find(bus.Operator, by, name, "pause ("+reason+")")
	plan.Pause = &fleet.Pause{Until: until, By: by.Name, Reason: reason}
	return plan, err
}

func (p *planner) ResumePlan(_ context.Context, by fleet.Actor, name string) (fleet.PlanView, error) {
	return p.find(bus.Operator, by, name, "resume")
}

func (p *planner) Plan(_ context.Context, name string) (fleet.PlanView, error) {
	return p.find(bus.Viewer, fleet.Actor{Role: bus.Admin}, name, "show")
}

func (p *planner) PlanNames(context.Context) ([]string, error) {
	return slices.Collect(maps.Keys(p.plans)), nil
}

func (p *planner) AcceptBackup(_ context.Context, by fleet.Actor, plan, host, repository, reason string) error {
	_, err := p.find(bus.Operator, by, plan, "accept "+host+" "+repository+" ("+reason+") of")
	return err
}

func (p *planner) TestRestore(_ context.Context, by fleet.Actor, plan, host, repository string) (job.Job, error) {
	_, err := p.find(bus.Operator, by, plan, "restore-test "+host+" "+repository+" of")
	spec := job.RestoreTestSpec{Archive: "a"}
	return job.Job{ID: job.NewID(time.Unix(1, 0)), Kind: job.TestRestore, Host: host, Repository: repository, State: job.Queued, Spec: spec, MaxAttempts: 1}, err
}

func (p *planner) RunPlan(_ context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error) {
	if _, err := p.find(bus.Operator, by, name, "run"); err != nil {
		return fleet.Run{}, nil, err
	}
	p.request = asked
	run := fleet.Run{ID: runID, Plan: name, Trigger: fleet.TriggerManual, By: by.Name, State: fleet.RunRunning}
	p.runs = append([]fleet.Run{run}, p.runs...)
	first := job.Job{ID: job.NewID(time.Unix(1, 0)), Kind: job.Backup, Host: "web1", Repository: "main", Plan: name, Run: runID, State: job.Queued, MaxAttempts: 1, Spec: job.BackupSpec{Paths: []string{"/etc"}}}
	return run, []job.Job{first}, nil
}

func (p *planner) PlanRun(_ context.Context, id string) (fleet.Run, error) {
	at := slices.IndexFunc(p.runs, func(r fleet.Run) bool { return r.ID == id })
	if at < 0 {
		return fleet.Run{}, job.Fail(job.NotFound, "there is no run %s", id)
	}
	return p.runs[at], nil
}

func (p *planner) PlanRuns(_ context.Context, filter fleet.RunFilter) (fleet.RunPage, error) {
	p.filter = filter
	return fleet.RunPage{Runs: p.runs, Cursor: "more"}, nil
}

func (p *planner) CancelRun(ctx context.Context, by fleet.Actor, id string) (fleet.Run, error) {
	run, err := p.PlanRun(ctx, id)
	run.State = fleet.RunCancelled
	return run, cmp.Or(needs(bus.Operator, by), err)
}

func (p *planner) Freshness(context.Context) ([]fleet.Freshness, error) { return p.freshness, nil }

func (p *planner) Calendar(_ context.Context, from, to time.Time) ([]fleet.Occurrence, error) {
	p.from, p.to = from, to
	return p.occurrences, nil
}

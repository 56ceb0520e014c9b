package plan

import (
	"context"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	points "github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// PausePlan keeps a plan from running by itself, until a moment if one is given.
// What is due meanwhile is not made up.
func (s *Service) PausePlan(_ context.Context, by fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error) {
	now := s.now()
	if until != nil && !until.After(now) {
		return fleet.PlanView{}, job.Invalid("until", "%s is past", clock(*until)).WithHint("give a later moment, or none")
	}
	if until != nil {
		at := until.UTC()
		until = &at
	}
	return s.setPause(by, name, &fleet.Pause{Since: now, Until: until, By: by.Name, Reason: reason}, "plan.pause")
}

// ResumePlan lets a plan run by itself again, from now on.
func (s *Service) ResumePlan(_ context.Context, by fleet.Actor, name string) (fleet.PlanView, error) {
	return s.setPause(by, name, nil, "plan.resume")
}

func (s *Service) setPause(by fleet.Actor, name string, pause *fleet.Pause, action string) (fleet.PlanView, error) {
	s.work.Lock()
	defer s.work.Unlock()
	e, now := s.mem.plans[name], s.now()
	if e == nil {
		return fleet.PlanView{}, fleet.UnknownPlan(name)
	}
	if pause == nil && e.plan.Pause == nil {
		return s.view(name)
	}
	changed, cursor := e.plan, e.cursor
	changed.Pause = pause
	if pause == nil {
		cursor, changed.ResumedAt = now, now
	}
	detail := ""
	if pause != nil {
		detail = pause.Reason
	}
	if _, err := s.apply(store.ChangePlan(changed), store.SetPlanCursor(name, cursor), audit(by, now, action, name, detail)); err != nil {
		s.stale = true
		return fleet.PlanView{}, s.failure("store plan", err)
	}
	s.mem.Lock()
	e.plan = changed
	e.follow(cursor)
	s.mem.Unlock()
	s.publish(name)
	s.stir()
	return s.view(name)
}

// RunPlan runs a plan now, and returns the run with the jobs of its first tasks.
// The same idempotency key returns the same run. A host whose last run is not over
// is left out, or waits, as the plan says.
func (s *Service) RunPlan(ctx context.Context, by fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.refresh(); err != nil {
		return fleet.Run{}, nil, s.failure("read plans", err)
	}
	e, now := s.mem.plans[name], s.now()
	if e == nil {
		return fleet.Run{}, nil, fleet.UnknownPlan(name)
	}
	if len(asked.IdempotencyKey) > maxKeyBytes {
		return fleet.Run{}, nil, job.Invalid("idempotency_key", "%d bytes, more than the %d that are allowed", len(asked.IdempotencyKey), maxKeyBytes)
	}
	if before, found, err := s.askedBefore(name, asked.IdempotencyKey); err != nil || found {
		return s.withJobs(before, err)
	}
	hosts, err := e.chosen(asked.Hosts)
	if err != nil {
		return fleet.Run{}, nil, err
	}
	if err := s.idle(e, hosts, now); err != nil {
		return fleet.Run{}, nil, err
	}
	run := store.PlanRun{Key: asked.IdempotencyKey, Run: fleet.Run{
		ID: string(job.NewID(now)), Plan: name, Trigger: fleet.TriggerManual, By: by.Name, Due: now, StartedAt: now, State: fleet.RunRunning,
		Tasks: e.tasks(hosts, now),
	}}
	for i := range run.Tasks { // now means now
		run.Tasks[i].NotBefore = now
	}
	return s.runNow(ctx, by, e, run, now)
}

// runNow stores a run that somebody asked for, and takes its first step.
func (s *Service) runNow(ctx context.Context, by fleet.Actor, e *entry, run store.PlanRun, now time.Time) (fleet.Run, []job.Job, error) {
	if _, err := s.apply(store.PutPlanRun(run), audit(by, now, "plan.run", e.plan.Name, "run "+run.ID)); err != nil {
		s.stale = true
		s.stir()
		return fleet.Run{}, nil, s.failure("store run", err)
	}
	points.Point(points.RunStored)
	s.mem.Lock()
	r := s.mem.addRun(run)
	s.mem.Unlock()
	s.tellStarted(run.Run)
	s.publish(e.plan.Name)
	defer s.stir()
	jobs, err := s.advanceBatch(ctx, []*openRun{r}, now)
	if err != nil { // the run is there, and goes on when it can
		s.logger.Error("a run cannot be moved on; trying again", "run", run.ID, "err", err)
		s.stale = true
		return run.Run, []job.Job{}, nil
	}
	if jobs == nil {
		jobs = []job.Job{}
	}
	return r.run.Run, jobs, nil
}

// chosen returns the plan's hosts that were asked for, all without a choice.
func (e *entry) chosen(names []string) ([]string, error) {
	if len(e.hosts) == 0 {
		return nil, job.Fail(job.Conflict, "there is no host that plan %s is for", e.plan.Name).WithHint("give a host its labels, or change the plan")
	}
	if len(names) == 0 {
		return e.hosts, nil
	}
	for _, name := range names {
		if !slices.Contains(e.hosts, name) {
			return nil, job.Invalid("hosts", "plan %s is not for host %q", e.plan.Name, name).WithHint("borgfleet plan show %s names those that it is for", e.plan.Name)
		}
	}
	return slices.DeleteFunc(slices.Clone(e.hosts), func(host string) bool { return !slices.Contains(names, host) }), nil
}

// idle refuses a run that would leave out every host.
func (s *Service) idle(e *entry, hosts []string, now time.Time) error {
	if o := e.overlap(); o == fleet.OverlapQueue || o == fleet.OverlapReplace {
		return nil
	}
	var open []fleet.Run
	for _, r := range e.runs {
		open = append(open, r.run.Run)
	}
	for _, host := range hosts {
		if last := before(open, host, now, s.job); last.over || last.ending {
			return nil
		}
	}
	return job.Fail(job.Conflict, "plan %s runs already", e.plan.Name).WithHint("wait for run %s, or cancel it", open[0].ID)
}

// askedBefore returns the run that was asked for with a key.
func (s *Service) askedBefore(plan, key string) (fleet.Run, bool, error) {
	if key == "" {
		return fleet.Run{}, false, nil
	}
	marks, err := s.options.Store.RunMarks(plan, store.MaxPlanRuns)
	if err != nil {
		return fleet.Run{}, false, s.failure("read runs", err)
	}
	for _, mark := range slices.Backward(marks) {
		run, found, err := s.options.Store.PlanRun(mark.ID)
		if err != nil {
			return fleet.Run{}, false, s.failure("read run", err)
		}
		if found && run.Key == key {
			return run.Run, true, nil
		}
	}
	return fleet.Run{}, false, nil
}

// withJobs adds the jobs that a run has.
func (s *Service) withJobs(run fleet.Run, err error) (fleet.Run, []job.Job, error) {
	jobs := []job.Job{}
	for _, t := range run.Tasks {
		if j, found := s.job(t.Job); err == nil && found {
			jobs = append(jobs, j)
		}
	}
	return run, jobs, err
}

// PlanRun returns a run.
func (s *Service) PlanRun(_ context.Context, id string) (fleet.Run, error) {
	run, found, err := s.options.Store.PlanRun(id)
	if err != nil {
		return fleet.Run{}, s.failure("read run", err)
	}
	if !found {
		return fleet.Run{}, unknownRun(id)
	}
	return run.Run, nil
}

func unknownRun(id string) *job.Failure {
	return job.Fail(job.NotFound, "there is no run %q", id).WithHint("the last %d of each plan are kept", store.MaxPlanRuns)
}

// PlanRuns returns one page of runs, newest first.
func (s *Service) PlanRuns(_ context.Context, filter fleet.RunFilter) (fleet.RunPage, error) {
	if filter.Plan != "" {
		s.mem.RLock()
		_, there := s.mem.plans[filter.Plan]
		s.mem.RUnlock()
		if !there {
			return fleet.RunPage{}, fleet.UnknownPlan(filter.Plan)
		}
	}
	page, err := s.options.Store.PlanRuns(filter)
	if err != nil {
		return fleet.RunPage{}, s.failure("read runs", err)
	}
	return page, nil
}

// CancelRun ends a run: its jobs are cancelled, and nothing follows. One that is
// over is returned as it is.
func (s *Service) CancelRun(ctx context.Context, by fleet.Actor, id string) (fleet.Run, error) {
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.refresh(); err != nil {
		return fleet.Run{}, s.failure("read plans", err)
	}
	r, now := s.mem.runs[id], s.now()
	if r == nil {
		return s.PlanRun(ctx, id)
	}
	if r.run.Cancelled == "" {
		run := r.run
		run.Cancelled = by.Name
		if _, err := s.apply(store.PutPlanRun(run), audit(by, now, "run.cancel", run.Plan, "run "+id)); err != nil {
			s.stale = true
			return fleet.Run{}, s.failure("store run", err)
		}
		s.mem.Lock()
		r.run = run
		s.mem.Unlock()
	}
	defer s.stir()
	if _, err := s.advanceBatch(ctx, []*openRun{r}, now); err != nil {
		s.logger.Error("a run cannot be moved on; trying again", "run", id, "err", err)
		s.stale = true
	}
	return r.run.Run, nil
}

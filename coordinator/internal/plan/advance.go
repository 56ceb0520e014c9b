package plan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	points "github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// batchSize bounds how many runs one transaction moves on, so that other writers
// get their turn, and watchers of the feed can follow.
const batchSize = 5000

// advanceRuns moves on the runs of which something is to be done, until nothing is.
func (s *Service) advanceRuns(ctx context.Context, now time.Time) error {
	for ctx.Err() == nil {
		due := s.dueRuns(now)
		if len(due) == 0 {
			return nil
		}
		for batch := range slices.Chunk(due, batchSize) {
			if _, err := s.advanceBatch(ctx, batch, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// dueRuns returns the runs to look at, oldest first.
func (s *Service) dueRuns(now time.Time) (due []*openRun) {
	for _, r := range s.mem.runs {
		if !r.due(now) {
			continue
		}
		due = append(due, r)
		if e := s.mem.plans[r.run.Plan]; e != nil && len(e.runs) > 1 && e.overlap() == fleet.OverlapReplace {
			for _, other := range e.runs { // which may have to give way
				if other != r && !other.due(now) {
					due = append(due, other)
				}
			}
		}
	}
	slices.SortFunc(due, func(a, b *openRun) int { return order(a.run.Run, b.run.Run) })
	return slices.Compact(due)
}

// due reports whether a run is to be looked at.
func (r *openRun) due(now time.Time) bool {
	return r.dirty || !r.wake.IsZero() && !r.wake.After(now)
}

// overlap is what becomes of a host's run while its last one is not over.
func (e *entry) overlap() fleet.Overlap {
	if e.plan.Schedule == nil {
		return fleet.OverlapSkip
	}
	return e.plan.Schedule.Overlap
}

// moved is a run with the step that it was moved on by.
type moved struct {
	open *openRun
	run  store.PlanRun // as it is to be stored
	step step
}

// advanceBatch moves runs on: it decides, asks for jobs, and stores what has become
// of that. It returns the jobs that were asked for.
func (s *Service) advanceBatch(ctx context.Context, runs []*openRun, now time.Time) ([]job.Job, error) {
	batch := make([]moved, 0, len(runs))
	for _, r := range runs {
		e := s.mem.plans[r.run.Plan]
		if e == nil {
			continue
		}
		m := moved{open: r, run: r.run}
		m.run.Tasks = slices.Clone(r.run.Tasks)
		m.step = advance(&m.run, s.world(e, r, now))
		batch = append(batch, m)
	}
	jobs, err := s.submit(ctx, batch, now)
	if err != nil {
		return nil, err
	}
	if len(jobs) > 0 {
		points.Point(points.PlannedStored)
	}
	if err := s.keep(batch); err != nil {
		return nil, err
	}
	s.cancelJobs(ctx, batch, now)
	return jobs, nil
}

// submit asks for the jobs of tasks, and notes them.
func (s *Service) submit(ctx context.Context, batch []moved, now time.Time) ([]job.Job, error) {
	type place struct {
		m    *moved
		task int
	}
	var places []place
	var planned []fleet.Planned
	for i := range batch {
		m := &batch[i]
		for _, task := range m.step.submit {
			p, err := s.plannedOf(m.run.Run, m.run.Tasks[task], now)
			if err != nil {
				m.fail(task, err, now)
				continue
			}
			places, planned = append(places, place{m, task}), append(planned, p)
		}
	}
	if len(planned) == 0 {
		return nil, nil
	}
	answers, err := s.options.Jobs.SubmitPlanned(ctx, actor, planned)
	if err == nil && len(answers) != len(planned) {
		err = fmt.Errorf("%d answers to %d jobs", len(answers), len(planned))
	}
	if err != nil {
		return nil, err
	}
	var jobs []job.Job
	for i, answer := range answers {
		m, task := places[i].m, places[i].task
		if answer.Err != nil {
			m.fail(task, answer.Err, now)
			continue
		}
		m.run.Tasks[task].Job, m.step.changed = answer.Job.ID, true
		jobs = append(jobs, answer.Job)
	}
	return jobs, nil
}

// actor is in whose name plans ask for jobs.
var actor = fleet.Actor{Name: fleet.Itself}

// fail ends a task that cannot have a job; what is only so now, as the disk of the
// coordinator that is full, is tried again.
func (m *moved) fail(task int, err error, now time.Time) {
	f := job.AsFailure(err)
	if f.Code == job.Unavailable || f.Code == job.DiskFull {
		m.step.wake = earliest(m.step.wake, now.Add(retryWrite))
		return
	}
	t := &m.run.Tasks[task]
	t.State, t.Reason, t.FinishedAt = fleet.RunFailed, f.Message, &now
	m.step.changed, m.step.wake = true, now
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// keep stores what has changed, then changes memory, then tells.
func (s *Service) keep(batch []moved) error {
	var changes []store.Change
	for _, m := range batch {
		if m.step.changed {
			changes = append(changes, store.PutPlanRun(m.run))
			changes = append(changes, s.outcomes(m)...)
			changes = append(changes, s.owed(m.run.Run)...)
		}
	}
	if len(changes) > 0 {
		if _, err := s.apply(changes...); err != nil {
			return fmt.Errorf("store steps of runs: %w", err)
		}
	}
	tracks := map[trackID]bool{}
	s.mem.Lock()
	for _, m := range batch {
		s.install(m, tracks)
	}
	for id := range tracks { // whoever waits for a backup to end
		s.mem.plans[id.plan].stir()
	}
	for _, m := range batch {
		if m.run.FinishedAt != nil {
			s.mem.dropRun(m.run)
		}
	}
	s.mem.Unlock()
	if err := s.refreshTracks(tracks); err != nil {
		s.stale = true
	}
	s.tellSteps(batch)
	return nil
}

// tellSteps tells of runs that were moved on.
func (s *Service) tellSteps(batch []moved) {
	plans := map[string]bool{}
	for _, m := range batch {
		if !m.step.changed {
			continue
		}
		plans[m.run.Plan] = true
		if m.run.FinishedAt != nil {
			s.logger.Info("run ended", "plan", m.run.Plan, "run", m.run.ID, "state", m.run.State)
			points.Point(points.RunEnded)
			s.tellEnded(m.run.Run)
		}
	}
	for _, plan := range slices.Sorted(maps.Keys(plans)) {
		s.publish(plan)
	}
}

// install puts a run that was moved on into memory, and names the tracks that have
// changed with it.
func (s *Service) install(m moved, tracks map[trackID]bool) {
	for i, t := range m.run.Tasks {
		if t.Kind == job.Backup && t.State != fleet.RunRunning && m.fresh(i) {
			tracks[trackID{m.run.Plan, t.Host, t.Repository}] = true
		}
	}
	m.open.run, m.open.dirty, m.open.wake = m.run, false, m.step.wake
	s.mem.noteChecks(m.run)
}

// fresh reports whether a task has ended with this step.
func (m moved) fresh(i int) bool {
	before := m.open.run.Tasks
	return i >= len(before) || before[i].State == fleet.RunRunning
}

// outcomes are what tracks have to know of tasks that have ended.
func (s *Service) outcomes(m moved) []store.Change {
	var changes []store.Change
	for i, t := range m.run.Tasks {
		if !files(t) || t.State == fleet.RunRunning || !m.fresh(i) || t.FinishedAt == nil {
			continue
		}
		if t.State != fleet.RunSkipped || t.Job != "" { // that it was left out tells nothing about the one before
			changes = append(changes, store.NoteOutcome(m.run.Plan, t.Host, t.Repository, t.State, *t.FinishedAt))
		}
	}
	for _, h := range m.step.held {
		s.logger.Warn("a backup looks suspicious", "plan", m.run.Plan, "host", h.task.Host, "repo", h.task.Repository, "job", h.task.Job, "why", h.found.Message)
		changes = append(changes, store.HoldBackup(m.run.Plan, h.task.Host, h.task.Repository, h.found))
	}
	return changes
}

// cancelJobs asks to end jobs. What cannot be asked now is asked again.
func (s *Service) cancelJobs(ctx context.Context, batch []moved, now time.Time) {
	for _, m := range batch {
		for _, id := range m.step.cancel {
			by := actor
			if m.run.Cancelled != "" {
				by.Name = m.run.Cancelled
			}
			_, err := s.options.Jobs.Cancel(ctx, by, id)
			if f, ok := errors.AsType[*job.Failure](err); err == nil || ok && f.Code == job.Conflict {
				continue // it is over, which the feed tells
			}
			s.logger.Error("the job of a run cannot be cancelled; trying again", "job", id, "err", err)
			s.mem.Lock()
			m.open.wake = earliest(m.open.wake, now.Add(retryWrite))
			s.mem.Unlock()
		}
	}
}

// owed has whoever is told of runs be told of the end of one even if that is not
// before the next start.
func (s *Service) owed(run fleet.Run) []store.Change {
	if s.options.Runs == nil || run.FinishedAt == nil {
		return nil
	}
	return []store.Change{store.OweRun(run.ID)}
}

func (s *Service) tellStarted(run fleet.Run) {
	if s.options.Runs != nil {
		s.options.Runs.Started(run)
	}
}

func (s *Service) tellEnded(run fleet.Run) {
	if s.options.Runs != nil {
		s.options.Runs.Ended(run)
	}
}

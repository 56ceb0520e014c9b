package plan

import (
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	points "github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// started is what becomes of a plan that is due.
type started struct {
	entry  *entry
	cursor time.Time
	run    *store.PlanRun // nil: only the cursor moves, or the pause ends
	resume bool
}

// begin starts the runs that are due: run and cursor are stored in one
// transaction.
func (s *Service) begin(now time.Time) error {
	var due []started
	for _, e := range s.mem.plans {
		if next, ok := s.beginOne(e, now); ok {
			due = append(due, next)
		}
	}
	slices.SortFunc(due, func(a, b started) int { return strings.Compare(a.entry.plan.Name, b.entry.plan.Name) })
	for batch := range slices.Chunk(due, batchSize) {
		if err := s.storeStarted(batch); err != nil {
			return err
		}
	}
	return nil
}

// beginOne says what is to be done for the schedule of a plan now.
func (s *Service) beginOne(e *entry, now time.Time) (next started, ok bool) {
	pause := e.plan.Pause
	if paused(pause, now) {
		return started{}, false
	}
	next = started{entry: e, cursor: e.cursor, resume: pause != nil}
	if pause != nil {
		next.cursor = cursorOf(e.cursor, pause.Until, now)
	} else {
		next.cursor = cursorOf(e.cursor, nil, now)
	}
	moved := next.resume || !next.cursor.Equal(e.cursor)
	if e.table == nil || !moved && (e.next.IsZero() || e.next.After(now)) {
		return next, moved
	}
	due, v := decide(e.table, next.cursor, s.since, now)
	if v == nothing {
		return next, moved
	}
	next.cursor, next.run = due, s.newRun(e, due, v, now)
	return next, true
}

// newRun makes the run of an occurrence.
func (s *Service) newRun(e *entry, due time.Time, v verdict, now time.Time) *store.PlanRun {
	run := &store.PlanRun{Run: fleet.Run{
		ID: string(job.NewID(now)), Plan: e.plan.Name, Trigger: fleet.TriggerSchedule, By: fleet.Itself,
		Due: due, StartedAt: now, State: fleet.RunRunning,
	}}
	if v != onTime {
		run.Trigger = fleet.TriggerCatchUp
	}
	run.Tasks = e.tasks(e.hosts, due)
	if v == missed {
		for i := range run.Tasks {
			run.Tasks[i].State, run.Tasks[i].Reason, run.Tasks[i].FinishedAt = fleet.RunMissed, "the coordinator was away", &now
		}
	}
	if len(run.Tasks) == 0 || v == missed {
		run.State, run.FinishedAt = worst(run.Tasks), &now
	}
	return run
}

// tasks are the backups of a run: of each host, one repository after the other.
func (e *entry) tasks(hosts []string, from time.Time) []fleet.Task {
	tasks := []fleet.Task{}
	for _, host := range hosts {
		at := from.Add(e.delay(host))
		for _, repository := range e.plan.Repositories {
			t := fleet.Task{Host: host, Repository: repository, Kind: job.Backup, NotBefore: at, State: fleet.RunRunning}
			for _, dump := range e.plan.Dumps {
				t.Dump = dump.Hook
				tasks = append(tasks, t)
			}
			if t.Dump = ""; hasFiles(e.plan.PlanSpec) {
				tasks = append(tasks, t)
			}
		}
	}
	return tasks
}

// storeStarted stores runs with the cursors of their plans, and tells of them.
func (s *Service) storeStarted(batch []started) error {
	var changes []store.Change
	for _, b := range batch {
		changes = append(changes, store.SetPlanCursor(b.entry.plan.Name, b.cursor))
		if b.resume {
			changes = append(changes, store.ChangePlan(b.entry.resumed()))
		}
		if b.run != nil {
			changes = append(changes, store.PutPlanRun(*b.run))
			changes = append(changes, missedOutcomes(b.run.Run)...)
			changes = append(changes, s.owed(b.run.Run)...)
		}
	}
	if _, err := s.apply(changes...); err != nil {
		return err
	}
	points.Point(points.RunStored)
	tracks := map[trackID]bool{}
	s.mem.Lock()
	for _, b := range batch {
		s.installStarted(b, tracks)
	}
	s.mem.Unlock()
	if err := s.refreshTracks(tracks); err != nil {
		s.stale = true
	}
	for _, b := range batch {
		s.tellRun(b)
	}
	return nil
}

// resumed is a plan whose pause has ended by itself.
func (e *entry) resumed() fleet.Plan {
	p := e.plan
	p.ResumedAt, p.Pause = *p.Pause.Until, nil
	return p
}

func (s *Service) installStarted(b started, tracks map[trackID]bool) {
	if b.resume {
		b.entry.plan = b.entry.resumed()
	}
	b.entry.follow(b.cursor)
	switch {
	case b.run == nil:
	case b.run.FinishedAt == nil:
		s.mem.addRun(*b.run)
	default:
		for _, t := range b.run.Tasks {
			tracks[trackID{b.run.Plan, t.Host, t.Repository}] = true
		}
	}
}

func (s *Service) tellRun(b started) {
	if b.run != nil {
		s.logger.Info("run started", "plan", b.run.Plan, "run", b.run.ID, "trigger", b.run.Trigger, "due", b.run.Due, "state", b.run.State)
		if b.run.FinishedAt == nil {
			s.tellStarted(b.run.Run)
		} else {
			s.tellEnded(b.run.Run)
		}
	}
	s.publish(b.entry.plan.Name)
}

// missedOutcomes notes that backups were missed.
func missedOutcomes(run fleet.Run) []store.Change {
	var changes []store.Change
	for _, t := range run.Tasks {
		if files(t) && t.State == fleet.RunMissed {
			changes = append(changes, store.NoteOutcome(run.Plan, t.Host, t.Repository, t.State, *t.FinishedAt))
		}
	}
	return changes
}

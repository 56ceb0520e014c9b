package plan

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Verdicts, for tests.
const (
	Nothing = nothing
	OnTime  = onTime
	CatchUp = catchUp
	Missed  = missed
)

// Suspect says in what a backup is unlike those before it; empty: in nothing.
func Suspect(t store.Track, id job.ID) string {
	if found := suspect(t, id); found != nil {
		return found.Message
	}
	return ""
}

// Decide is what is due.
func Decide(s timetable, cursor, since, now time.Time) (time.Time, verdict) {
	return decide(s, cursor, since, now)
}

// CursorOf is from when a schedule is followed on.
var CursorOf = cursorOf

// Worst is the state of a run whose tasks have ended.
var Worst = worst

// KeyOf is the idempotency key of a task's job.
var KeyOf = keyOf

// Scene is what a step of a run is decided by, for tests.
type Scene struct {
	Now      time.Time
	Plan     fleet.PlanSpec
	Jobs     map[job.ID]job.Job
	Earlier  []fleet.Run
	Later    []fleet.Run
	Late     time.Duration
	Early    bool
	Shut     bool
	Gone     string // a host that the plan is not for any more
	Odd      bool   // every backup looks suspicious
	Held     bool   // one before did
	Checked  *time.Time
	Compact  *time.Time
	Tested   *time.Time
	Checking bool
}

// Step is what a run needs next, for tests.
type Step struct {
	Submit []int
	Cancel []job.ID
	Held   int
	Wake   time.Time
}

// Advance brings a run up to date.
func Advance(run *store.PlanRun, s Scene) Step {
	find := func(id job.ID) (job.Job, bool) { j, ok := s.Jobs[id]; return j, ok }
	next := advance(run, world{
		now: s.Now, plan: s.Plan, late: s.Late, early: s.Early, job: find,
		host:     func(name string) bool { return name != s.Gone },
		shut:     func(fleet.Task) bool { return s.Shut },
		before:   func(host string) standing { return before(s.Earlier, host, s.Now, find) },
		replaced: func(host string) *fleet.Run { return replacing(s.Later, host, s.Now) },
		judge: func(t fleet.Task) *fleet.Suspicion {
			if !s.Odd {
				return nil
			}
			return &fleet.Suspicion{Job: t.Job, Message: "odd"}
		},
		held: func(string, string) *fleet.Suspicion {
			if !s.Held {
				return nil
			}
			return &fleet.Suspicion{Holds: true}
		},
		care: func(string, string) care {
			return care{lastCheck: s.Checked, lastVerify: s.Checked, lastCompact: s.Compact, lastRestoreTest: s.Tested, checking: s.Checking}
		},
	})
	return Step{Submit: next.submit, Cancel: next.cancel, Held: len(next.held), Wake: next.wake}
}

// Tick looks at the freshness of all plans.
func (s *Service) Tick() {
	s.work.Lock()
	defer s.work.Unlock()
	s.toldAt = time.Time{}
	s.tellFreshness(s.now())
}

// Turn does what is to be done now.
func (s *Service) Turn(ctx context.Context) { s.turn(ctx) }

// WrapApply has somebody stand between a service that does not run yet and its store.
func (s *Service) WrapApply(wrap func(func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error)) {
	s.apply = wrap(s.apply)
}

// Expiry is how long a backup that is to begin may wait.
func Expiry(t *schedule.Timetable, first, now time.Time, delay, late time.Duration) time.Duration {
	return expiry(t, first, now, delay, late)
}

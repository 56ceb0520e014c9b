package worker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func (f *fixture) settle(order bus.Order, action bus.Action, stored int) {
	f.t.Helper()
	verdicts := []bus.Verdict{{Job: order.Job, Attempt: order.Attempt, Action: action, Stored: stored}}
	if err := f.worker.Settle(f.t.Context(), verdicts); err != nil {
		f.t.Fatal(err)
	}
}

// asked returns how often the engine was given each attempt.
func (e *fakeEngine) asked(key attempt.Key) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, a := range e.tasks {
		if a.ID() == key.String() {
			n++
		}
	}
	return n
}

func TestNothingBeginsBesideAnOrphan(t *testing.T) {
	f := newFixture(t)
	f.slots = 3
	f.start()
	running, waiting := f.order(), f.order()
	f.send(running)
	f.engine.finish(t, attempt.KeyOf(running), job.Succeeded) // it came so far
	f.awaitEnd(attempt.KeyOf(running), "accepted", "started", "succeeded")
	adopted := f.order()
	f.send(adopted)
	patience.Until(t, "it runs", func() bool { return slices.Contains(f.engine.ids(), attempt.KeyOf(adopted).String()) })
	f.stop()

	orphan := job.NewID(time.Now()).AttemptID(1)
	f.runs.ids = []string{attempt.KeyOf(adopted).String(), orphan}
	f.engine.ended = make(chan struct{})
	f.start()
	if reply := f.send(waiting); !reply.Accepted {
		t.Fatalf("answer %+v", reply)
	}
	cancelled := f.order()
	f.send(cancelled)
	f.cancel(attempt.KeyOf(cancelled))
	f.awaitEnd(attempt.KeyOf(cancelled), "accepted", "cancelled")
	f.engine.finish(t, attempt.KeyOf(adopted), job.Succeeded) // which goes on all the while
	f.awaitEnd(attempt.KeyOf(adopted), "accepted", "started", "succeeded")
	if told := f.told(attempt.KeyOf(waiting)); !slices.Equal(told, []string{"accepted"}) {
		t.Errorf("beside an orphan it told %v", told)
	}
	if got := f.worker.Orphans(); !slices.Equal(got, []string{orphan}) {
		t.Errorf("orphans %v", got)
	}
	close(f.engine.ended)
	f.engine.finish(t, attempt.KeyOf(waiting), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(waiting), "accepted", "started", "succeeded")
	if got := f.worker.Orphans(); len(got) != 0 {
		t.Errorf("orphans %v; want none", got)
	}
}

// TestOldOrderWaitsForTheCoordinator: the disk of a host was put back to when
// an attempt was accepted and had not begun; meanwhile it has run.
func TestOldOrderWaitsForTheCoordinator(t *testing.T) {
	for name, action := range map[string]bus.Action{"still wanted": bus.Keep, "done long ago": bus.Stop} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.slots = 2
			order, next := f.order(), f.order()
			f.slots = 0 // it waits for a slot
			f.start()
			f.send(order)
			f.stop()

			f.slots, f.now = 1, func() time.Time { return time.Now().Add(time.Hour) }
			next.ExpiresAt = next.ExpiresAt.Add(time.Hour)
			f.start()
			f.send(next)
			f.engine.finish(t, attempt.KeyOf(next), job.Succeeded) // is not held up
			f.awaitEnd(attempt.KeyOf(next), "accepted", "started", "succeeded")
			if n := f.engine.asked(attempt.KeyOf(order)); n > 0 {
				t.Error("it was begun without a word of the coordinator")
			}
			f.settle(order, action, 1)
			if action == bus.Stop {
				patience.Until(t, "it is over", func() bool { return len(unfinished(t, f)) == 0 })
				if n := f.engine.asked(attempt.KeyOf(order)); n > 0 {
					t.Error("it was begun")
				}
				return
			}
			f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
			patience.Until(t, "it is over", func() bool { return len(unfinished(t, f)) == 0 })
		})
	}
}

func TestForgottenAttemptIsAnsweredWithItsOutcome(t *testing.T) {
	f := newFixture(t).start()
	order := f.order()
	key := attempt.KeyOf(order)
	f.send(order)
	f.engine.finish(t, key, job.Warning)
	f.awaitEnd(key, "accepted", "started", "warning")
	f.settle(order, bus.Forget, 3)
	for name, expires := range map[string]time.Time{
		"in time": time.Now().Add(time.Minute), "expired": time.Now().Add(-time.Hour), "much later": time.Now().Add(time.Hour),
	} {
		again := order
		again.ExpiresAt = expires
		reply := f.send(again)
		if !reply.Accepted || reply.Over == nil || reply.Over.State != job.Warning || reply.Over.Job != order.Job || reply.Over.Seq != 3 {
			t.Errorf("%s: answer %+v; want its outcome", name, reply)
		}
	}
	if n := f.engine.asked(key); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func TestTimeoutIsHandedOn(t *testing.T) {
	f := newFixture(t).start()
	order := f.order()
	order.Timeout = 90
	f.send(order)
	f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	if got := f.engine.tasks[0].Timeout; got != 90*time.Second {
		t.Errorf("timeout %v", got)
	}
}

// TestClockJumps: whatever the clock says, what runs goes on, orders are judged
// by it, and nothing that is known runs twice.
func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"a day ahead": 24 * time.Hour, "a day back": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			var ahead time.Duration
			f := newFixture(t)
			f.slots, f.now = 2, func() time.Time { return time.Now().Add(ahead) }
			f.start()
			running, done := f.order(), f.order()
			running.Timeout = 60
			f.send(running)
			f.send(done)
			f.engine.finish(t, attempt.KeyOf(done), job.Succeeded)
			f.awaitEnd(attempt.KeyOf(done), "accepted", "started", "succeeded")
			f.settle(done, bus.Forget, 3)
			f.stop() // nobody reads the clock now

			ahead = jump
			f.runs.ids = []string{attempt.KeyOf(running).String()}
			f.start()
			if reply := f.send(done); reply.Over == nil {
				t.Errorf("what is forgotten was answered with %+v", reply)
			}
			again := f.send(running)
			if diff := cmp.Diff([]any{true, (*job.Failure)(nil)}, []any{again.Accepted, again.Failure}); diff != "" {
				t.Errorf("what runs was answered with %+v", again)
			}
			fresh := f.order()
			if reply := f.send(fresh); reply.Accepted != (jump < 0) {
				t.Errorf("a new order was answered with %+v", reply)
			}
			f.engine.finish(t, attempt.KeyOf(running), job.Succeeded)
			f.awaitEnd(attempt.KeyOf(running), "accepted", "started", "succeeded")
		})
	}
}

package worker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
)

func TestOrderRuns(t *testing.T) {
	f := newFixture(t).start()
	order := f.order()
	reply := f.send(order)
	if !reply.Accepted || reply.Failure != nil || reply.Stamp.Revision != 1 {
		t.Fatalf("answer %+v", reply)
	}
	f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "succeeded")

	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	got := f.engine.tasks[0]
	if string(got.Passphrase.Reveal()) != "hunter2" || !got.Task.Encrypted || got.Task.Archive != "web1-now" || got.Task.Version.Minor != 2 {
		t.Errorf("the engine was given %+v", got)
	}
	if diff := cmp.Diff(job.Spec(job.BackupSpec{Paths: []string{"/etc"}}), got.Task.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	select {
	case p := <-f.worker.Progress():
		if p.Job != order.Job || p.Attempt != 1 || p.Progress.NFiles != 1 {
			t.Errorf("progress %+v", p)
		}
	default:
		t.Error("no progress came")
	}
	select {
	case <-f.worker.Changes():
	default:
		t.Error("the journal's changes were not signalled")
	}
}

func TestRepeatedOrderRunsOnce(t *testing.T) {
	f := newFixture(t).start()
	order := f.order()
	first := f.send(order)
	f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "succeeded")
	again := f.send(order)
	if again.Accepted != first.Accepted || again.Failure != nil {
		t.Errorf("answers %+v and %+v", first, again)
	}
	stale := order
	stale.ExpiresAt = time.Now().Add(-time.Hour) // expired meanwhile: still the same answer
	if reply := f.send(stale); !reply.Accepted {
		t.Errorf("an old repeat got %+v", reply)
	}
	next := f.order()
	f.send(next)
	f.engine.finish(t, attempt.KeyOf(next), job.Succeeded)
	if n := len(f.engine.tasks); n != 2 {
		t.Errorf("%d attempts ran; want 2", n)
	}
}

func TestOrdersThatLeaveNoTrace(t *testing.T) {
	tests := map[string]struct {
		change func(*fixture, *bus.Order)
		hint   string
	}{
		"signed by a stranger": {func(f *fixture, _ *bus.Order) {
			stranger, err := nkeys.CreateAccount()
			if err != nil {
				f.t.Fatal(err)
			}
			f.signer = stranger
		}, "signer.pub"},
		"for another host": {func(_ *fixture, o *bus.Order) { o.Host = "web2" }, ""},
		"expired":          {func(_ *fixture, o *bus.Order) { o.ExpiresAt = time.Now().Add(-time.Second) }, "clocks"},
		"no attempt":       {func(_ *fixture, o *bus.Order) { o.Attempt = 0 }, ""},
		"no job":           {func(_ *fixture, o *bus.Order) { o.Job = "../x" }, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).start()
			order := f.order()
			test.change(f, &order)
			reply := f.send(order)
			if reply.Accepted || reply.Failure == nil || reply.Failure.Code != job.RefusedByHost || reply.Stamp.Journal == "" {
				t.Fatalf("answer %+v; want a refusal with a stamp", reply)
			}
			if !strings.Contains(reply.Failure.Hint, test.hint) {
				t.Errorf("hint %q; want one with %q", reply.Failure.Hint, test.hint)
			}
			if snapshot, err := f.journal.Snapshot(); err != nil || snapshot.Stamp.Revision != 0 {
				t.Errorf("journal %+v, error %v; want it untouched", snapshot, err)
			}
		})
	}
}

func TestRefusalsAreTold(t *testing.T) {
	tests := map[string]struct {
		change func(*fixture, *bus.Order)
		code   job.Code
	}{
		"by policy":          {func(f *fixture, _ *bus.Order) { f.rules.Read = []string{"/srv"} }, job.RefusedByHost},
		"bad spec":           {func(_ *fixture, o *bus.Order) { o.Spec = []byte(`{"paths":[]}`) }, job.InvalidSpec},
		"unknown field":      {func(_ *fixture, o *bus.Order) { o.Spec = []byte(`{"paths":["/etc"],"x":1}`) }, job.InvalidSpec},
		"bad repository":     {func(_ *fixture, o *bus.Order) { o.Repository.Location = "relative" }, job.InvalidRequest},
		"passphrase altered": {func(_ *fixture, o *bus.Order) { o.Passphrase.Ciphertext[9] ^= 1 }, job.RefusedByHost},
		"other repository's": {func(_ *fixture, o *bus.Order) { o.Repository.Name = "other" }, job.RefusedByHost},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			order := f.order()
			test.change(f, &order)
			f.start()
			reply := f.send(order)
			if reply.Accepted || reply.Failure == nil || reply.Failure.Code != test.code {
				t.Fatalf("answer %+v; want code %s", reply, test.code)
			}
			f.awaitEnd(attempt.KeyOf(order), "failed")
			if diff := cmp.Diff(reply.Failure, f.send(order).Failure); diff != "" {
				t.Errorf("the repeat got another answer:\n%s", diff)
			}
		})
	}
}

func TestWithoutBorg(t *testing.T) {
	f := newFixture(t)
	f.borg.failure = job.Fail(job.BorgMissing, "no borg")
	f.start()
	order := f.order()
	if reply := f.send(order); !reply.Accepted {
		t.Fatalf("answer %+v", reply)
	}
	f.awaitEnd(attempt.KeyOf(order), "accepted", "failed")
}

func TestSlots(t *testing.T) {
	f := newFixture(t)
	f.slots = 2
	f.start()
	var keys []attempt.Key
	for range 4 {
		order := f.order()
		keys = append(keys, attempt.KeyOf(order))
		f.send(order)
	}
	patience.Until(t, "two run", func() bool { return len(f.engine.ids()) == 2 })
	for range 4 { // each that ends lets one follow, and never a third
		running := f.engine.ids()
		if len(running) > 2 {
			t.Fatalf("%d run at once", len(running))
		}
		key, err := attempt.ParseKey(running[0])
		if err != nil {
			t.Fatal(err)
		}
		left := len(unfinished(t, f))
		f.engine.finish(t, key, job.Succeeded)
		patience.Until(t, "the next one runs", func() bool {
			n := len(unfinished(t, f))
			ids := f.engine.ids()
			return n == left-1 && len(ids) == min(n, 2) && !slices.Contains(ids, key.String())
		})
	}
	for _, key := range keys {
		f.awaitEnd(key, "accepted", "started", "succeeded")
	}
}

func unfinished(t *testing.T, f *fixture) []attempt.Record {
	t.Helper()
	open, err := f.journal.Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	return open
}

func TestCancel(t *testing.T) {
	t.Run("while it runs", func(t *testing.T) {
		f := newFixture(t).start()
		order := f.order()
		f.send(order)
		patience.Until(t, "it runs", func() bool { return len(f.engine.ids()) == 1 })
		f.cancel(attempt.KeyOf(order))
		f.cancel(attempt.KeyOf(order)) // twice is as good as once
		f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "cancelled")
	})
	t.Run("by a verdict", func(t *testing.T) {
		f := newFixture(t).start()
		order := f.order()
		f.send(order)
		patience.Until(t, "it runs", func() bool { return len(f.engine.ids()) == 1 })
		if err := f.worker.Settle(t.Context(), []bus.Verdict{{Job: order.Job, Attempt: 1, Action: bus.Stop}}); err != nil {
			t.Fatal(err)
		}
		f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "cancelled")
	})
	t.Run("while it waits for a slot", func(t *testing.T) {
		f := newFixture(t).start()
		first, second, third := f.order(), f.order(), f.order()
		f.send(first)
		patience.Until(t, "the first runs", func() bool { return len(f.engine.ids()) == 1 })
		f.send(second)
		f.send(third)
		f.cancel(attempt.KeyOf(second))
		f.awaitEnd(attempt.KeyOf(second), "accepted", "cancelled")
		f.engine.finish(t, attempt.KeyOf(first), job.Succeeded)
		f.engine.finish(t, attempt.KeyOf(third), job.Succeeded) // its slot was not lost
	})
	t.Run("before its order", func(t *testing.T) {
		f := newFixture(t).start()
		order := f.order()
		f.cancel(attempt.KeyOf(order))
		if reply := f.send(order); !reply.Accepted {
			t.Errorf("answer %+v", reply)
		}
		f.awaitEnd(attempt.KeyOf(order), "cancelled")
		if ids := f.engine.ids(); len(ids) != 0 {
			t.Errorf("%v runs", ids)
		}
	})
	t.Run("across a restart", func(t *testing.T) {
		f := newFixture(t).start()
		order := f.order()
		f.send(order)
		patience.Until(t, "it runs", func() bool { return len(f.engine.ids()) == 1 })
		f.stop()
		f.start()
		f.cancel(attempt.KeyOf(order))
		f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "cancelled")
	})
	t.Run("of nonsense", func(t *testing.T) {
		f := newFixture(t).start()
		if _, err := f.worker.Cancel(t.Context(), bus.Cancel{Job: "x", Attempt: -1}); err == nil {
			t.Error("no error")
		}
	})
}

func TestRestartGoesOn(t *testing.T) {
	f := newFixture(t).start()
	running, waiting := f.order(), f.order()
	f.send(running)
	patience.Until(t, "the first runs", func() bool { return len(f.engine.ids()) == 1 })
	f.send(waiting)
	patience.Until(t, "the start is recorded", func() bool { return len(f.told(attempt.KeyOf(running))) == 2 })
	f.stop()

	f.runs.ids = []string{attempt.KeyOf(running).String()}
	f.start()
	f.engine.finish(t, attempt.KeyOf(running), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(running), "accepted", "started", "succeeded")
	f.engine.finish(t, attempt.KeyOf(waiting), job.Warning)
	f.awaitEnd(attempt.KeyOf(waiting), "accepted", "started", "warning")
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	want := engine.Resume{StartedTold: true, Offsets: process.Offsets{Stderr: 10}}
	if diff := cmp.Diff(want, f.engine.resumed[1]); diff != "" {
		t.Errorf("resumed from (-want +got):\n%s", diff)
	}
}

func TestRunsAreAdopted(t *testing.T) {
	f := newFixture(t).start()
	order := f.order()
	f.send(order)
	patience.Until(t, "it runs", func() bool { return len(f.engine.ids()) == 1 })
	f.stop()
	mine, stranger, done := attempt.KeyOf(order).String(), job.NewID(time.Now()).AttemptID(1), job.NewID(time.Now()).AttemptID(1)
	f.runs.ids, f.runs.over = []string{mine, stranger, done}, []string{done}
	f.start()
	patience.Until(t, "old directories are cleaned", func() bool {
		f.runs.mu.Lock()
		defer f.runs.mu.Unlock()
		return len(f.runs.kept) > 0
	})
	patience.Until(t, "the stranger is ended", func() bool {
		f.engine.mu.Lock()
		defer f.engine.mu.Unlock()
		return slices.Equal(f.engine.ending, []string{stranger})
	})
	f.runs.mu.Lock()
	defer f.runs.mu.Unlock()
	if !slices.Equal(f.runs.kept, []string{mine}) {
		t.Errorf("kept %v; want %s", f.runs.kept, mine)
	}
}

func TestForgottenRunsAreRemoved(t *testing.T) {
	f := newFixture(t).start()
	order := f.order()
	key := attempt.KeyOf(order)
	f.send(order)
	forget := []bus.Verdict{{Job: order.Job, Attempt: 1, Action: bus.Forget, Stored: 3}}
	if err := f.worker.Settle(t.Context(), forget); err != nil {
		t.Fatal(err)
	}
	f.engine.finish(t, key, job.Succeeded)
	patience.Until(t, "it is over", func() bool { return len(unfinished(t, f)) == 0 })
	if len(f.engine.removed) != 0 {
		t.Errorf("removed %v before the end", f.engine.removed)
	}
	if err := f.worker.Settle(t.Context(), forget); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{key.String()}, f.engine.removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	if snapshot, err := f.journal.Snapshot(); err != nil || len(snapshot.Records) != 0 || snapshot.Depth != 0 {
		t.Errorf("journal %+v, error %v; want it empty", snapshot, err)
	}
}

func TestEngineTroubleIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.engine.fail = 1
	f.start()
	order := f.order()
	f.send(order)
	f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "succeeded")
}

package engine_test

import (
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

func TestCancelLadder(t *testing.T) {
	never := func(int, process.Signal) (process.Exit, bool) { return process.Exit{}, false }
	killed := func(_ int, s process.Signal) (process.Exit, bool) {
		return process.Exit{Code: -1, Signal: int(syscall.SIGKILL)}, s == process.Kill
	}
	second := func(n int, _ process.Signal) (process.Exit, bool) { return process.Exit{Code: 130}, n == 1 }
	for name, test := range map[string]struct {
		attempt  engine.Attempt
		onSignal func(int, process.Signal) (process.Exit, bool)
		exit     process.Exit
		ends     time.Duration
		sent     []string
		state    job.State
		after    time.Duration
	}{
		"backup to the kill": {
			backup(), killed, process.Exit{}, time.Hour,
			[]string{"5s interrupt", "6s interrupt", "15s terminate", "35s kill"}, job.Cancelled, 35 * time.Second,
		},
		"backup obeys the second": {
			backup(), second, process.Exit{}, time.Hour,
			[]string{"5s interrupt", "6s interrupt"}, job.Cancelled, 6 * time.Second,
		},
		"compact to the kill": {
			compaction(), killed, process.Exit{}, time.Hour,
			[]string{"5s terminate", "15s terminate", "35s kill"}, job.Cancelled, 35 * time.Second,
		},
		"done before the signal works": {
			compaction(), never, process.Exit{Code: 0}, 8 * time.Second,
			[]string{"5s terminate"}, job.Succeeded, 8 * time.Second,
		},
		"cancelled while failing": {
			compaction(), never, process.Exit{Code: 2}, 8 * time.Second,
			[]string{"5s terminate"}, job.Cancelled, 8 * time.Second,
		},
		"lost while cancelled": {
			compaction(), never, process.Exit{Code: -1, Lost: true}, 8 * time.Second,
			[]string{"5s terminate"}, job.Cancelled, 8 * time.Second,
		},
		"unkillable for a while": {
			compaction(), never, process.Exit{Code: 2}, 100 * time.Second,
			[]string{"5s terminate", "15s terminate", "35s kill", "1m5s kill", "1m35s kill"}, job.Cancelled, 100 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &scripted{onSignal: test.onSignal, exit: test.exit, ends: test.ends}
				rec, cancel := newRecorder(), make(chan struct{})
				time.AfterFunc(5*time.Second, func() { close(cancel) })
				if err := newEngine(x).Run(t.Context(), test.attempt, rec, cancel); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.sent, x.sent); diff != "" {
					t.Errorf("signals (-want +got):\n%s", diff)
				}
				end := rec.finished(t)
				if end.State != test.state || rec.events[len(rec.events)-1].after != test.after {
					t.Errorf("finished as %s after %v, want %s after %v", end.State, rec.events[len(rec.events)-1].after, test.state, test.after)
				}
				if (end.Failure != nil) != (test.state == job.Cancelled) || end.Failure != nil && end.Failure.Code != job.CodeCancelled {
					t.Errorf("failure %+v", end.Failure)
				}
			})
		})
	}
}

func TestCancelledBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancel := make(chan struct{})
		close(cancel)
		x, rec := &scripted{}, newRecorder()
		if err := newEngine(x).Run(t.Context(), backup(), rec, cancel); err != nil {
			t.Fatal(err)
		}
		if end := rec.finished(t); end.State != job.Cancelled || end.Failure.Code != job.CodeCancelled || x.starts > 0 {
			t.Errorf("finished %+v after %d starts", end, x.starts)
		}
	})
}

// TestCancelledInTheJournalGap is a restart between the start of borg and the
// record of it, with a cancellation that came meanwhile.
func TestCancelledInTheJournalGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &scripted{ends: time.Hour, onSignal: func(int, process.Signal) (process.Exit, bool) {
			return process.Exit{Code: -1, Signal: int(syscall.SIGTERM)}, true
		}}
		if _, err := x.Start(t.Context(), process.Command{}, compaction().Passphrase); err != nil {
			t.Fatal(err)
		}
		cancel := make(chan struct{})
		close(cancel)
		rec := newRecorder()
		if err := newEngine(x).Resume(t.Context(), compaction(), engine.Resume{}, rec, cancel); err != nil {
			t.Fatal(err)
		}
		if end := rec.finished(t); end.State != job.Cancelled || !slices.Equal(x.sent, []string{"0s terminate"}) {
			t.Errorf("finished %+v after %q", end, x.sent)
		}
	})
}

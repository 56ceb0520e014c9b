package engine_test

import (
	"slices"
	"strings"
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

// TestCancelledWhileAway gives borg the time to end well from when it first hears
// of the cancellation, and not from when that was asked for.
func TestCancelledWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := func(n int, _ process.Signal) (process.Exit, bool) { return process.Exit{Code: 130}, n == 1 }
		x, rec, cancel := &scripted{onSignal: second, ends: time.Hour, away: time.Minute}, newRecorder(), make(chan struct{})
		time.AfterFunc(5*time.Second, func() { close(cancel) })
		if err := newEngine(x).Run(t.Context(), backup(), rec, cancel); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1m0s interrupt", "1m1s interrupt"}, x.sent); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
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

func TestTimeoutLadder(t *testing.T) {
	dies := func(_ int, s process.Signal) (process.Exit, bool) {
		return process.Exit{Code: -1, Signal: int(syscall.SIGTERM)}, s == process.Terminate
	}
	stays := func(int, process.Signal) (process.Exit, bool) { return process.Exit{}, false }
	for name, test := range map[string]struct {
		attempt  engine.Attempt
		onSignal func(int, process.Signal) (process.Exit, bool)
		exit     process.Exit
		ends     time.Duration
		older    time.Duration // when it is followed from
		cancel   time.Duration // 0: never
		sent     []string
		state    job.State
		code     job.Code
	}{
		"ends what runs for too long": {
			attempt: compaction(), onSignal: dies, ends: time.Hour,
			sent: []string{"1m0s terminate"}, state: job.Failed, code: job.Timeout,
		},
		"ends a backup so that a checkpoint stays": {
			attempt: backup(), onSignal: dies, ends: time.Hour,
			sent: []string{"1m0s interrupt", "1m1s interrupt", "1m10s terminate"}, state: job.Failed, code: job.Timeout,
		},
		"leaves in peace what is quicker": {
			attempt: compaction(), onSignal: dies, ends: 59 * time.Second, state: job.Succeeded,
		},
		"counts from the start of the process": {
			attempt: compaction(), onSignal: dies, ends: time.Hour, older: 50 * time.Second,
			sent: []string{"10s terminate"}, state: job.Failed, code: job.Timeout,
		},
		"work that was done by then is what it is": {
			attempt: compaction(), onSignal: stays, ends: 65 * time.Second,
			sent: []string{"1m0s terminate"}, state: job.Succeeded,
		},
		"a cancellation on the way wins": {
			attempt: compaction(), onSignal: stays, exit: process.Exit{Code: 2}, ends: 80 * time.Second, cancel: 65 * time.Second,
			sent: []string{"1m0s terminate", "1m10s terminate"}, state: job.Cancelled, code: job.CodeCancelled,
		},
		"a cancellation before it wins": {
			attempt: compaction(), onSignal: stays, exit: process.Exit{Code: 2}, ends: 65 * time.Second, cancel: 55 * time.Second,
			sent: []string{"55s terminate", "1m5s terminate"}, state: job.Cancelled, code: job.CodeCancelled,
		},
		"a cancellation after the end comes too late": {
			attempt: compaction(), onSignal: dies, ends: time.Hour, cancel: 61 * time.Second,
			sent: []string{"1m0s terminate"}, state: job.Failed, code: job.Timeout,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &scripted{onSignal: test.onSignal, exit: test.exit, ends: test.ends, older: test.older}
				rec, cancel := newRecorder(), make(chan struct{})
				if test.cancel > 0 {
					time.AfterFunc(test.cancel, func() { close(cancel) })
				}
				test.attempt.Timeout = time.Minute
				if err := newEngine(x).Run(t.Context(), test.attempt, rec, cancel); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.sent, x.sent); diff != "" {
					t.Errorf("signals (-want +got):\n%s", diff)
				}
				end := rec.finished(t)
				if end.State != test.state || (end.Failure != nil) != (test.code != "") {
					t.Fatalf("finished as %s, %v; want %s", end.State, end.Failure, test.state)
				}
				if end.Failure != nil && end.Failure.Code != test.code {
					t.Errorf("failure %v; want code %s", end.Failure, test.code)
				}
				if test.code == job.Timeout && (end.Failure.Retryable || end.Failure.Hint == "" || !strings.Contains(end.Failure.Message, "1m0s")) {
					t.Errorf("failure %+v; want the limit, a hint, and no other try", end.Failure)
				}
				time.Sleep(time.Hour) // what comes later is not heard
			})
		})
	}
}

// TestTimeoutAcrossARestart: the agent that ended borg is gone, and another one
// finds how it ended.
func TestTimeoutAcrossARestart(t *testing.T) {
	for name, test := range map[string]struct {
		lived time.Duration
		code  job.Code
	}{
		"it had run for too long": {61 * time.Second, job.Timeout},
		"somebody else ended it":  {59 * time.Second, job.Interrupted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &scripted{exit: process.Exit{Code: -1, Signal: int(syscall.SIGTERM), Lived: test.lived}}
				if _, err := x.Start(t.Context(), process.Command{}, compaction().Passphrase); err != nil {
					t.Fatal(err)
				}
				a, rec := compaction(), newRecorder()
				a.Timeout = time.Minute
				if err := newEngine(x).Resume(t.Context(), a, engine.Resume{StartedTold: true}, rec, nil); err != nil {
					t.Fatal(err)
				}
				if end := rec.finished(t); end.State != job.Failed || end.Failure.Code != test.code {
					t.Errorf("finished as %s, %v; want code %s", end.State, end.Failure, test.code)
				}
			})
		})
	}
}

func TestEndOfARunWithoutAnAttempt(t *testing.T) {
	killed := func(_ int, s process.Signal) (process.Exit, bool) { return process.Exit{Signal: 9}, s == process.Kill }
	never := func(int, process.Signal) (process.Exit, bool) { return process.Exit{}, false }
	for name, test := range map[string]struct {
		onSignal func(int, process.Signal) (process.Exit, bool)
		ends     bool
		after    time.Duration
	}{
		"it goes on until it is killed": {killed, true, 30 * time.Second},
		"it cannot be killed":           {never, false, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &scripted{onSignal: test.onSignal, ends: time.Hour}
				if _, err := x.Start(t.Context(), process.Command{}, compaction().Passphrase); err != nil {
					t.Fatal(err)
				}
				err := newEngine(x).End(t.Context(), "job.1")
				if (err == nil) != test.ends || time.Since(x.begun) != test.after {
					t.Errorf("error %v after %v; want its end %v after %v", err, time.Since(x.begun), test.ends, test.after)
				}
				if want := []string{"0s terminate", "10s terminate", "30s kill"}; !slices.Equal(x.sent, want) {
					t.Errorf("signals %q; want %q", x.sent, want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		if err := newEngine(&scripted{}).End(t.Context(), "job.1"); err != nil {
			t.Errorf("end of nothing: %v", err)
		}
	})
}

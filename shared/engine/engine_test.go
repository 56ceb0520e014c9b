package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

func TestEventsOfOneAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &scripted{pieces: []piece{
			{at: 100 * time.Millisecond, stderr: line("one")},
			{at: 200 * time.Millisecond, stderr: line("two")},
			{at: 1500 * time.Millisecond, stderr: line("three")},
			{at: 2900 * time.Millisecond, stderr: strings.TrimSuffix(line("torn"), "\n")},
		}, ends: 2950 * time.Millisecond}
		rec := newRecorder()
		a := compaction()
		if err := newEngine(x).Run(t.Context(), a, rec, nil); err != nil {
			t.Fatal(err)
		}
		command, _, _ := borg.Command(a.Task, borg.Environment{})
		type told struct {
			Type  job.EventType
			After time.Duration
			Lines []string
		}
		var got []told
		total := 0
		for _, e := range rec.events {
			one := told{Type: e.Type, After: e.after}
			for _, l := range e.Lines {
				one.Lines = append(one.Lines, l.Text)
			}
			got = append(got, one)
			if e.Job != a.Job || e.Attempt != 2 || e.Host != "web1" || e.At.IsZero() || e.At.Location() != time.UTC {
				t.Errorf("event %+v is not addressed", e.Event)
			}
		}
		for _, p := range x.pieces {
			total += len(p.stderr)
		}
		want := []told{
			{job.EventStarted, 0, nil},
			{job.EventLog, time.Second, []string{borg.Redact(command), "one", "two"}},
			{job.EventLog, 2500 * time.Millisecond, []string{"three"}},
			{job.EventLog, 2950 * time.Millisecond, []string{"torn"}},
			{job.EventFinished, 2950 * time.Millisecond, nil},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if rec.events[0].PID != 4711 || rec.events[0].State != job.Running {
			t.Errorf("started is %+v", rec.events[0].Event)
		}
		end := rec.finished(t)
		if end.State != job.Succeeded || end.Result == nil || end.Result.Duration != 2.95 {
			t.Errorf("finished is %+v, %+v", end, end.Result)
		}
		if at := rec.events[len(rec.events)-1].at; at.Stderr != int64(total) {
			t.Errorf("finished at %+v, want %d bytes", at, total)
		}
	})
}

func TestProgressPace(t *testing.T) {
	for name, test := range map[string]struct {
		comes []time.Duration
		goes  []time.Duration
	}{
		"first at once":                {[]time.Duration{1000}, []time.Duration{1000}},
		"one that waits goes":          {[]time.Duration{1000, 1350}, []time.Duration{1000, 1500}},
		"unless the next is near":      {[]time.Duration{1000, 1200, 1400, 1600}, []time.Duration{1000, 1600}},
		"which may be late or missing": {[]time.Duration{1000, 1200, 1400}, []time.Duration{1000, 1650}},
		"slow pace is not waited for":  {[]time.Duration{1000, 1400, 1800, 2200}, []time.Duration{1000, 1500, 2000, 2650}},
		"slow ones go as they come":    {[]time.Duration{1000, 1800, 2600}, []time.Duration{1000, 1800, 2600}},
		"borg's own pace of 5 Hz":      {[]time.Duration{0, 200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800}, []time.Duration{0, 600, 1200, 1800}},
		"what waits at the end stays":  {[]time.Duration{4000, 4900, 4950}, []time.Duration{4000, 4900}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &scripted{ends: 5 * time.Second}
				for i, ms := range test.comes {
					x.pieces = append(x.pieces, piece{at: ms * time.Millisecond, stderr: progressAt(i + 1)})
				}
				rec := newRecorder()
				if err := newEngine(x).Run(t.Context(), backup(), rec, nil); err != nil {
					t.Fatal(err)
				}
				for i := range test.goes {
					test.goes[i] *= time.Millisecond
				}
				if diff := cmp.Diff(test.goes, rec.progress); diff != "" {
					t.Errorf("progress went (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestNewestProgressOfAChunkGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &scripted{pieces: []piece{{stderr: progressAt(1) + progressAt(2) + progressAt(3)}}, ends: time.Minute}
		rec := newRecorder()
		if err := newEngine(x).Run(t.Context(), backup(), rec, nil); err != nil {
			t.Fatal(err)
		}
		if len(rec.progress) != 1 || rec.newest.NFiles != 3 {
			t.Errorf("%d went, the last with %d files; want one with 3", len(rec.progress), rec.newest.NFiles)
		}
	})
}

// chatter is a script of n log lines, ten a second.
func chatter(n int) *scripted {
	x := &scripted{ends: time.Duration(n+1) * 100 * time.Millisecond}
	for i := range n {
		x.pieces = append(x.pieces, piece{at: time.Duration(i) * 100 * time.Millisecond, stderr: line(fmt.Sprint("line ", i+1))})
	}
	return x
}

func TestLogHeadAndTail(t *testing.T) {
	for _, n := range []int{0, 1, 399, 400, 401, 599, 600, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newRecorder()
				if err := newEngine(chatter(n)).Run(t.Context(), compaction(), rec, nil); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(wantLog(n), rec.log()[1:], cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
				for _, e := range rec.events[1:] {
					if e.Type == job.EventLog && len(e.Lines) > 12 && e.after < time.Duration(n)*100*time.Millisecond {
						t.Errorf("a log event holds %d lines, of more than a second", len(e.Lines))
					}
				}
			})
		})
	}
}

// wantLog is what is told of n lines, after the command.
func wantLog(n int) []string {
	head := min(n, job.LogHeadLines-1)
	tail := min(n-head, job.LogTailLines)
	var want []string
	for i := range n {
		if i == head && n > head+tail {
			want = append(want, fmt.Sprintf("(%d omitted)", n-head-tail))
		}
		if i < head || i >= n-tail {
			want = append(want, fmt.Sprint("line ", i+1))
		}
	}
	return want
}

func TestLogEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &scripted{ends: time.Second}
		for i := range 300 {
			x.pieces = append(x.pieces, piece{stderr: line(fmt.Sprint(i) + strings.Repeat("<", 4000))})
		}
		rec := newRecorder()
		if err := newEngine(x).Run(t.Context(), compaction(), rec, nil); err != nil {
			t.Fatal(err)
		}
		for _, e := range rec.events {
			size := 0
			for _, l := range e.Lines {
				size += 6 * strings.Count(l.Text, "<") // as JSON
			}
			if size > 300<<10 {
				t.Errorf("a log event has %d bytes", size)
			}
		}
		if got := len(rec.log()); got != 301 {
			t.Errorf("told %d lines, want 301", got)
		}
	})
}

// TestResumeAfterAnyEvent stops an attempt after each of its events in turn,
// resumes it, and wants the same told in all.
func TestResumeAfterAnyEvent(t *testing.T) {
	whole := func(t *testing.T) *recorder {
		rec := newRecorder()
		if err := newEngine(fatChatter()).Run(t.Context(), compaction(), rec, nil); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	var want []string
	events := 0
	synctest.Test(t, func(t *testing.T) {
		rec := whole(t)
		want, events = rec.log(), len(rec.events)
	})
	if events < 6 {
		t.Fatalf("there are only %d events to stop at", events)
	}
	for stop := range events {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := fatChatter()
				ctx, cancel := context.WithCancel(t.Context())
				rec := newRecorder()
				rec.limit, rec.stop = stop, cancel
				if err := newEngine(x).Run(ctx, compaction(), rec, nil); !errors.Is(err, context.Canceled) {
					t.Fatalf("run: %v, want the context's end", err)
				}
				rec.limit = -1
				if err := newEngine(x).Resume(t.Context(), compaction(), rec.resume(), rec, nil); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, rec.log()); diff != "" {
					t.Errorf("log (-want +got):\n%s", diff)
				}
				if n := strings.Count(rec.types(), "started"); n != 1 {
					t.Errorf("started was told %d times", n)
				}
				if n := strings.Count(rec.types(), "finished"); n != 1 || rec.finished(t).State != job.Succeeded {
					t.Errorf("finished was told %d times: %+v", n, rec.finished(t))
				}
				if len(x.sent) > 0 {
					t.Errorf("signals were sent: %q", x.sent)
				}
			})
		})
	}
}

// fatChatter has long lines, so that the tail needs several events.
func fatChatter() *scripted {
	x := &scripted{ends: 3 * time.Second}
	for i := range 900 {
		x.pieces = append(x.pieces, piece{at: time.Duration(i) * time.Millisecond, stderr: line(fmt.Sprint(i) + strings.Repeat("-", 3000))})
	}
	return x
}

func TestLinkFaultsAreFollowedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := chatter(50)
		x.breaks = []int{0, 3, 0, 0, 17}
		x.startErr = []error{errors.New("link is down"), nil}
		rec := newRecorder()
		rec.fails = 3
		if err := newEngine(x).Run(t.Context(), compaction(), rec, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantLog(50), rec.log()[1:]); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		if len(x.breaks) > 0 || x.starts != 2 {
			t.Errorf("%d link faults were not met, %d starts", len(x.breaks), x.starts)
		}
	})
}

func TestFailures(t *testing.T) {
	program := func(errno syscall.Errno) error {
		return &process.StartError{Doing: "run /usr/bin/borg", Err: errno, Program: true}
	}
	around := func(err error) error { return &process.StartError{Doing: "make job directory /d", Err: err} }
	unknown := compaction()
	unknown.Task.Repository.Location = ""
	for name, test := range map[string]struct {
		attempt engine.Attempt
		x       *scripted
		from    engine.Resume
		code    job.Code
		says    string
	}{
		"no borg":            {compaction(), &scripted{startErr: []error{program(syscall.ENOENT)}}, engine.Resume{}, job.BorgMissing, "there is no borg on web1"},
		"foreign borg":       {compaction(), &scripted{startErr: []error{program(syscall.ENOEXEC)}}, engine.Resume{}, job.BorgMissing, "not a program"},
		"forbidden borg":     {compaction(), &scripted{startErr: []error{program(syscall.EACCES)}}, engine.Resume{}, job.PermissionDenied, "may not be run"},
		"full disk":          {compaction(), &scripted{startErr: []error{around(syscall.ENOSPC)}}, engine.Resume{}, job.DiskFull, "job directory /d"},
		"read-only disk":     {compaction(), &scripted{startErr: []error{around(syscall.EROFS)}}, engine.Resume{}, job.PermissionDenied, "read-only"},
		"no such directory":  {compaction(), &scripted{startErr: []error{around(syscall.ENOENT)}}, engine.Resume{}, job.Internal, "job directory /d"},
		"bad task":           {unknown, &scripted{}, engine.Resume{}, job.Internal, "no repository location"},
		"lost":               {compaction(), &scripted{exit: process.Exit{Code: -1, Lost: true}}, engine.Resume{}, job.Interrupted, "nobody saw"},
		"lost directory":     {compaction(), &scripted{}, engine.Resume{StartedTold: true}, job.Interrupted, "nobody saw"},
		"executor explains":  {compaction(), &scripted{startErr: []error{around(job.Fail(job.DiskFull, "nothing can be written to /d").WithHint("make room there"))}}, engine.Resume{}, job.DiskFull, "nothing can be written"},
		"failed start found": {compaction(), &scripted{exit: process.Exit{Code: -1, StartError: "run borg", StartErrno: syscall.ENOENT}}, engine.Resume{}, job.BorgMissing, "there is no borg"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := newRecorder()
				if err := newEngine(test.x).Resume(t.Context(), test.attempt, test.from, rec, nil); err != nil {
					t.Fatal(err)
				}
				end := rec.finished(t)
				if end.State != job.Failed || end.Failure == nil || end.Failure.Code != test.code ||
					!strings.Contains(end.Failure.Message, test.says) || end.Failure.Hint == "" {
					t.Errorf("finished %s with %+v, want %s and %q", end.State, end.Failure, test.code, test.says)
				}
				if end.Failure.Retryable != (test.code == job.Interrupted) {
					t.Errorf("retryable is %v", end.Failure.Retryable)
				}
			})
		})
	}
}

func TestContextEndLeavesBorg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, rec := chatter(100), newRecorder()
		ctx, stop := context.WithTimeout(t.Context(), 3200*time.Millisecond)
		defer stop()
		if err := newEngine(x).Run(ctx, compaction(), rec, make(chan struct{})); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("run: %v, want the context's end", err)
		}
		if rec.types() != "started log log log" && rec.types() != "started log log" || len(x.sent) > 0 {
			t.Errorf("told %q, sent %q", rec.types(), x.sent)
		}
	})
}

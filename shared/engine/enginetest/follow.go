package enginetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func nothingToFollow(t *testing.T, x engine.Executor) {
	_, err := x.Follow(t.Context(), "job.1", process.Offsets{}, func(process.Chunk) error { return nil })
	if !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("follow: %v, want ErrNotStarted", err)
	}
	if err := x.Signal(t.Context(), "job.1", process.Kill); err != nil && !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("signal: %v", err)
	}
	if err := x.Remove(t.Context(), "job.1"); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func followedFromOffset(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `printf 0123456789; printf abcdef >&2`), secret.Value{})
	for _, test := range []struct {
		from           process.Offsets
		stdout, stderr string
	}{
		{process.Offsets{}, "0123456789", "abcdef"},
		{process.Offsets{Stdout: 4, Stderr: 5}, "456789", "f"},
		{process.Offsets{Stdout: 10, Stderr: 6}, "", ""},
	} {
		_, got := Follow(t, x, "job.1", test.from)
		if got.Stdout.String() != test.stdout || got.Stderr.String() != test.stderr {
			t.Errorf("from %+v: got %q and %q", test.from, got.Stdout.String(), got.Stderr.String())
		}
	}
}

func followerThatGivesUp(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `echo first; while ! test -e "$D/go"; do sleep 0.05; done; echo second`), secret.Value{})
	ctx, cancel := context.WithCancel(t.Context())
	var before Output
	_, err := x.Follow(ctx, "job.1", process.Offsets{}, func(c process.Chunk) error {
		cancel()
		return before.Take(c)
	})
	if !errors.Is(err, context.Canceled) || before.Stdout.String() != "first\n" {
		t.Fatalf("got %q and %v, want the first line and the context's end", before.Stdout.String(), err)
	}
	ours := errors.New("ours")
	if _, err := x.Follow(t.Context(), "job.1", process.Offsets{}, func(process.Chunk) error { return ours }); !errors.Is(err, ours) {
		t.Errorf("follow: %v, want emit's own error", err)
	}
}

func twoFollowers(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done`), secret.Value{})
	var group sync.WaitGroup
	outputs := make([]Output, 2)
	for i := range outputs {
		group.Go(func() {
			if _, err := x.Follow(t.Context(), "job.1", process.Offsets{}, outputs[i].Take); err != nil {
				t.Errorf("follow: %v", err)
			}
		})
	}
	group.Wait()
	if strings.Count(outputs[0].Stdout.String(), "\n") != 200 || outputs[0].Stdout.String() != outputs[1].Stdout.String() {
		t.Errorf("got %d and %d bytes", outputs[0].Stdout.Len(), outputs[1].Stdout.Len())
	}
}

// outputNobodyReads writes more than any pipe holds before anybody follows.
func outputNobodyReads(t *testing.T, x engine.Executor) {
	const size = 3 << 20
	Start(t, x, Shell("job.1", `i=0; while [ $i -lt 3 ]; do head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2; i=$((i+1)); done; kill -9 $$`), secret.Value{})
	// The program ends itself, though nobody reads: it answers to no signal
	// when it is over, and its end is there at once for whoever looks then.
	patience.Until(t, "the end of a program that nobody reads", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience.Most)
		defer cancel()
		_, err := x.Follow(ctx, "job.1", process.Offsets{Stdout: size, Stderr: size}, func(process.Chunk) error { return nil })
		return err == nil
	})
	exit, got := Follow(t, x, "job.1", process.Offsets{})
	if exit.Signal != int(syscall.SIGKILL) || got.Stdout.Len() != size || got.Stderr.Len() != size {
		t.Errorf("exit %+v with %d and %d bytes, want %d of each", exit, got.Stdout.Len(), got.Stderr.Len(), size)
	}
}

func signalsReachGroup(t *testing.T, x engine.Executor) {
	// The parent's trap comes first: "ready" is said by the child, and has to
	// mean that both are.
	Start(t, x, Shell("job.1", `
		trap 'wait; echo parent; exit 3' TERM
		sh -c 'trap "echo child; exit 0" TERM; echo ready; while :; do sleep 0.05; done' &
		wait`), secret.Value{})
	said(t, x, "job.1", "ready")
	if err := x.Signal(t.Context(), "job.1", process.Terminate); err != nil {
		t.Fatalf("signal: %v", err)
	}
	exit, got := Follow(t, x, "job.1", process.Offsets{})
	if exit.Code != 3 || !strings.HasSuffix(got.Stdout.String(), "child\nparent\n") {
		t.Errorf("exit %+v, output %q", exit, got.Stdout.String())
	}
}

// defaultDispositions checks that no signal is ignored in the program: an
// ignored SIGINT could not be trapped in a shell, nor does Python see it.
func defaultDispositions(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.05; done`), secret.Value{})
	said(t, x, "job.1", "ready")
	if err := x.Signal(t.Context(), "job.1", process.Interrupt); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if exit, got := Follow(t, x, "job.1", process.Offsets{}); exit.Code != 4 {
		t.Errorf("exit %+v, output %q", exit, got.Stdout.String())
	}
}

func endedBySignal(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `echo ready; sleep 60`), secret.Value{})
	said(t, x, "job.1", "ready")
	if err := x.Signal(t.Context(), "job.1", process.Kill); err != nil {
		t.Fatalf("signal: %v", err)
	}
	if exit, _ := Follow(t, x, "job.1", process.Offsets{}); exit.Signal != int(syscall.SIGKILL) || exit.Code != -1 || exit.Lost {
		t.Errorf("exit %+v, want signal 9", exit)
	}
}

func signalAfterEnd(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `:`), secret.Value{})
	Follow(t, x, "job.1", process.Offsets{})
	for _, s := range []process.Signal{process.Interrupt, process.Terminate, process.Kill} {
		if err := x.Signal(t.Context(), "job.1", s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func ageOfProgram(t *testing.T, x engine.Executor) {
	silent := func(when string) {
		t.Helper()
		if age, running, err := x.Age(t.Context(), "job.1"); age != 0 || running || err != nil {
			t.Errorf("%s: age %v, running %v, error %v", when, age, running, err)
		}
	}
	silent("before the start")
	before := time.Now()
	Start(t, x, Shell("job.1", `sleep 60`), secret.Value{})
	patience.Until(t, "the program grows older", func() bool {
		age, running, err := x.Age(t.Context(), "job.1")
		if err != nil || !running {
			t.Fatalf("age: running %v, error %v", running, err)
		}
		if most := time.Since(before) + time.Second; age > most { // it is told in parts of a second
			t.Fatalf("%v old, but was started %v ago at most", age, most)
		}
		return age > 200*time.Millisecond
	})
	End(t, x, "job.1")
	silent("after the end")
}

func remove(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `echo ready; sleep 60`), secret.Value{})
	if err := x.Remove(t.Context(), "job.1"); !errors.Is(err, process.ErrRunning) {
		t.Errorf("remove a running job: %v, want ErrRunning", err)
	}
	End(t, x, "job.1")
	for range 2 {
		if err := x.Remove(t.Context(), "job.1"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	nothingToFollow(t, x)
}

// Package enginetest holds what every executor of the engine must do, as a
// test suite.
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
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

// foreign is in the environment of whoever runs the suite, and no program's.
const foreign = "BORG_PASSPHRASE"

// Executor runs the suite on executors that open returns: each call gives a
// new one that knows no runs. The programs are POSIX shell scripts, which run
// as the current user on a machine that has /bin/sh, cat, sleep and kill.
func Executor(t *testing.T, open func(t *testing.T) engine.Executor) {
	if err := os.Setenv(foreign, "of the environment"); err != nil { // for good: suites run beside each other
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, engine.Executor)
	}{
		{"output and exit code", outputAndExit},
		{"empty standard input", emptyInput},
		{"environment and directory", environmentAndDirectory},
		{"directory is made", directoryIsMade},
		{"directory behind a link", directoryBehindLink},
		{"directory that must be empty", directoryMustBeEmpty},
		{"encrypted output", encryptedOutput},
		{"passphrase by descriptor", passphrase},
		{"no descriptor without passphrase", noPassphrase},
		{"missing program", missingProgram},
		{"started twice", startedTwice},
		{"started by many at once", startedByMany},
		{"started again when over", startedAgainWhenOver},
		{"nothing to follow", nothingToFollow},
		{"followed from an offset", followedFromOffset},
		{"follower that gives up", followerThatGivesUp},
		{"two followers", twoFollowers},
		{"output that nobody reads", outputNobodyReads},
		{"signals reach the group", signalsReachGroup},
		{"default signal dispositions", defaultDispositions},
		{"ended by a signal", endedBySignal},
		{"signal after the end", signalAfterEnd},
		{"age", ageOfProgram},
		{"remove", remove},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Shell returns a command that runs a script under the given ID.
func Shell(id, script string) process.Command {
	return process.Command{ID: id, Argv: []string{"/bin/sh", "-c", script}}
}

// Start starts a command, and discards its run when the test ends.
func Start(t *testing.T, x engine.Executor, c process.Command, pass secret.Value) process.Started {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience.Most)
	defer cancel()
	started, err := x.Start(ctx, c, pass)
	if err != nil {
		t.Fatalf("start %s: %v", c.ID, err)
	}
	t.Cleanup(func() { Discard(t, x, c.ID) })
	return started
}

// End kills a run, if it lives, and waits for its end.
func End(t *testing.T, x engine.Executor, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience.Most)
	defer cancel()
	if err := x.Signal(ctx, id, process.Kill); err != nil && !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("kill %s: %v", id, err)
	}
	_, err := x.Follow(ctx, id, process.Offsets{}, func(process.Chunk) error { return nil })
	if err != nil && !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("follow %s to its end: %v", id, err)
	}
}

// Discard ends a run and removes it, before the test's own directory is deleted
// around it: a follower on the host that nobody reads any more may still look at
// the run, take one whose files go one by one for one that nobody saw the end of,
// and write that down. Removed, it is gone at once.
func Discard(t *testing.T, x engine.Executor, id string) {
	t.Helper()
	End(t, x, id)
	ctx, cancel := context.WithTimeout(context.Background(), patience.Most)
	defer cancel()
	if err := x.Remove(ctx, id); err != nil {
		t.Errorf("remove %s: %v", id, err)
	}
}

// Output is what a follower has got.
type Output struct{ Stdout, Stderr bytes.Buffer }

// Take is an emit function for Follow.
func (o *Output) Take(c process.Chunk) error {
	o.Stdout.Write(c.Stdout)
	o.Stderr.Write(c.Stderr)
	return nil
}

// Follow follows a run to its end.
func Follow(t *testing.T, x engine.Executor, id string, from process.Offsets) (process.Exit, *Output) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience.Most)
	defer cancel()
	var got Output
	exit, err := x.Follow(ctx, id, from, got.Take)
	if err != nil {
		t.Fatalf("follow %s: %v", id, err)
	}
	return exit, &got
}

// said follows a run until its standard output holds a text.
func said(t *testing.T, x engine.Executor, id, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience.Most)
	defer cancel()
	var got Output
	enough := errors.New("enough")
	_, err := x.Follow(ctx, id, process.Offsets{}, func(c process.Chunk) error {
		_ = got.Take(c)
		if strings.Contains(got.Stdout.String(), text) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("run %s said %q, not %q (%v)", id, got.Stdout.String(), text, err)
	}
}

func outputAndExit(t *testing.T, x engine.Executor) {
	before := time.Now()
	started := Start(t, x, Shell("job.1", `printf 'out\000\377'; printf err >&2; exit 7`), secret.Value{})
	if started.PID <= 0 || started.At.Before(before.Add(-time.Minute)) {
		t.Errorf("started %+v", started)
	}
	exit, got := Follow(t, x, "job.1", process.Offsets{})
	if exit.Code != 7 || exit.Signal != 0 || exit.Lost || exit.StartError != "" {
		t.Errorf("exit %+v, want code 7", exit)
	}
	if exit.StartedAt.IsZero() || exit.EndedAt.Before(exit.StartedAt) {
		t.Errorf("started at %v, ended at %v", exit.StartedAt, exit.EndedAt)
	}
	if got.Stdout.String() != "out\x00\xff" || got.Stderr.String() != "err" {
		t.Errorf("got %q and %q", got.Stdout.String(), got.Stderr.String())
	}
}

func emptyInput(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `cat; echo end`), secret.FromString("not for standard input"))
	if _, got := Follow(t, x, "job.1", process.Offsets{}); got.Stdout.String() != "end\n" {
		t.Errorf("standard input held %q", got.Stdout.String())
	}
}

func environmentAndDirectory(t *testing.T, x engine.Executor) {
	command := Shell("job.1", `echo "$A|$HOME|${`+foreign+`-unset}|$(pwd)"`)
	command.Env = []string{"A=it's \"a\" $b\nc", "HOME=/nowhere"}
	command.Dir = "/usr"
	Start(t, x, command, secret.Value{})
	_, got := Follow(t, x, "job.1", process.Offsets{})
	if want := "it's \"a\" $b\nc|/nowhere|unset|/usr\n"; got.Stdout.String() != want {
		t.Errorf("got %q, want %q", got.Stdout.String(), want)
	}
}

func passphrase(t *testing.T, x engine.Executor) {
	for i, text := range []string{"correct horse", strings.Repeat("ü", secret.MaxBytes/2)} {
		id := fmt.Sprintf("job.%d", i+1)
		Start(t, x, Shell(id, `eval "cat <&$BORG_PASSPHRASE_FD"`), secret.FromString(text))
		if _, got := Follow(t, x, id, process.Offsets{}); got.Stdout.String() != text {
			t.Errorf("the program got %d bytes, want the %d of the passphrase", got.Stdout.Len(), len(text))
		}
	}
}

func noPassphrase(t *testing.T, x engine.Executor) {
	Start(t, x, Shell("job.1", `
		echo "${BORG_PASSPHRASE_FD-unset}"
		for fd in 3 4 5 6 7 8 9; do if [ -e /proc/$$/fd/$fd ]; then echo $fd; fi; done`), secret.Value{})
	if _, got := Follow(t, x, "job.1", process.Offsets{}); got.Stdout.String() != "unset\n" {
		t.Errorf("the program was given %q", got.Stdout.String())
	}
}

func missingProgram(t *testing.T, x engine.Executor) {
	for name, argv0 := range map[string]string{"path.1": "/nonexistent/borg", "name.1": "nonexistent-borg"} {
		for range 2 { // the answer does not change
			_, err := x.Start(t.Context(), process.Command{ID: name, Argv: []string{argv0}}, secret.Value{})
			failed, ok := errors.AsType[*process.StartError](err)
			if !ok || !errors.Is(failed, syscall.ENOENT) || !strings.Contains(err.Error(), argv0) {
				t.Errorf("start %s: %v, want a StartError that names it", argv0, err)
			}
		}
		exit, _ := Follow(t, x, name, process.Offsets{})
		if exit.StartError == "" || exit.StartErrno != syscall.ENOENT || exit.Lost {
			t.Errorf("follow what could not be started: %+v", exit)
		}
	}
}

func startedTwice(t *testing.T, x engine.Executor) {
	command := Shell("job.1", `echo $$; read line </dev/null; sleep 60`)
	first := Start(t, x, command, secret.Value{})
	second := Start(t, x, command, secret.Value{})
	if first.PID != second.PID || !first.At.Equal(second.At) {
		t.Errorf("started %+v, then %+v", first, second)
	}
	said(t, x, "job.1", fmt.Sprintf("%d\n", first.PID))
}

func startedByMany(t *testing.T, x engine.Executor) {
	const many = 8
	command := Shell("job.1", `echo once`)
	t.Cleanup(func() { Discard(t, x, "job.1") })
	var group sync.WaitGroup
	for range many {
		group.Go(func() {
			if _, err := x.Start(t.Context(), command, secret.Value{}); err != nil {
				t.Errorf("start: %v", err)
			}
		})
	}
	group.Wait()
	if _, got := Follow(t, x, "job.1", process.Offsets{}); got.Stdout.String() != "once\n" {
		t.Errorf("%d starts gave %q", many, got.Stdout.String())
	}
}

func startedAgainWhenOver(t *testing.T, x engine.Executor) {
	command := Shell("job.1", `echo once`)
	first := Start(t, x, command, secret.Value{})
	Follow(t, x, "job.1", process.Offsets{})
	if second := Start(t, x, command, secret.Value{}); second.PID != first.PID {
		t.Errorf("started %+v, then %+v", first, second)
	}
	if _, got := Follow(t, x, "job.1", process.Offsets{}); got.Stdout.String() != "once\n" {
		t.Errorf("two starts gave %q", got.Stdout.String())
	}
}

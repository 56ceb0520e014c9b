package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// testCut starts a program that waits at a gate, cuts the connection while it is
// followed, and follows it again from there to its end.
func testCut(t *testing.T, h *remote.Host, command process.Command, gate string, cut func()) {
	t.Helper()
	started := enginetest.Start(t, h, command, secret.Value{})
	var got enginetest.Output
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := h.Follow(t.Context(), command.ID, process.Offsets{}, func(c process.Chunk) error {
			if got.Stdout.Len() == 0 {
				close(begun)
			}
			return got.Take(c)
		})
		ended <- err
	}()
	<-begun
	cut()
	if err := <-ended; err == nil || errors.Is(err, process.ErrNotStarted) {
		t.Fatalf("follow over a connection that was cut: %v", err)
	}
	again, err := h.Start(t.Context(), command, secret.Value{})
	if err != nil || again != started {
		t.Errorf("started %+v, then %+v, %v", started, again, err)
	}
	if err := os.WriteFile(filepath.Join(gate, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, rest := enginetest.Follow(t, h, command.ID, process.Offsets{Stdout: int64(got.Stdout.Len())})
	if all := got.Stdout.String() + rest.Stdout.String(); exit.Code != 0 || all != "begun\ndone\n" {
		t.Errorf("exit %+v, output %q", exit, all)
	}
}

func TestLinkBreaks(t *testing.T) {
	m := newMachine()
	gate := t.TempDir()
	command := enginetest.Shell("job.1", `echo begun; while ! [ -e "$D/go" ]; do sleep 0.05; done; echo done`)
	command.Env = []string{"D=" + gate}
	testCut(t, open(t, m, t.TempDir()), command, gate, m.breakLink)
}

// TestHalfPassphrase hands over a part of a passphrase: nothing begins.
func TestHalfPassphrase(t *testing.T) {
	t.Parallel()
	m, dir := newMachine(), t.TempDir()
	h := open(t, m, dir)
	m.input = 5
	_, err := h.Start(t.Context(), enginetest.Shell("job.1", `echo never`), secret.FromString("correct horse"))
	if _, certain := errors.AsType[*process.StartError](err); err == nil || certain {
		t.Errorf("start: %v, want an error that lets it be tried again", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("there is %v, %v", left, err)
	}
	m.input = 0
	enginetest.Start(t, h, enginetest.Shell("job.1", `eval "cat <&$BORG_PASSPHRASE_FD"`), secret.FromString("correct horse"))
	if _, got := enginetest.Follow(t, h, "job.1", process.Offsets{}); got.Stdout.String() != "correct horse" {
		t.Errorf("got %q", got.Stdout.String())
	}
}

// TestPassphraseLeavesNoTrace looks for it wherever it could be while a program
// that has read it runs.
func TestPassphraseLeavesNoTrace(t *testing.T) {
	t.Parallel()
	const word = "wholly-unlikely-passphrase-Q7"
	dir := t.TempDir()
	h := open(t, newMachine(), dir)
	command := enginetest.Shell("job.1", `read -r word <&3; exec 3<&-; unset word; echo ready; while :; do sleep 0.05; done`)
	enginetest.Start(t, h, command, secret.FromString(word))
	said(t, h, "job.1", "ready")
	for _, root := range []string{dir, "/proc"} {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			parts := strings.Split(path, "/")
			if err != nil || entry.IsDir() && root == "/proc" && len(parts) > 3 {
				return fs.SkipDir
			}
			if root == "/proc" && entry.Name() != "cmdline" && entry.Name() != "environ" || !entry.Type().IsRegular() {
				return nil
			}
			if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(word)) && !own(parts) {
				t.Errorf("it is in %s", path)
			}
			return nil
		})
	}
}

// own reports whether a path of /proc is about this test.
func own(parts []string) bool { return len(parts) > 2 && parts[2] == strconv.Itoa(os.Getpid()) }

// said follows a run until its standard output holds a text.
func said(t *testing.T, h *remote.Host, id, text string) {
	t.Helper()
	var got enginetest.Output
	enough := errors.New("enough")
	_, err := h.Follow(t.Context(), id, process.Offsets{}, func(c process.Chunk) error {
		_ = got.Take(c)
		if strings.Contains(got.Stdout.String(), text) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("said %q: %v", got.Stdout.String(), err)
	}
}

// TestFollowerOfWhatWasRemoved has a follower that nobody reads any more find the
// run's directory gone, which it must not make again.
func TestFollowerOfWhatWasRemoved(t *testing.T) {
	dir := t.TempDir()
	h := open(t, newMachine(), dir)
	if _, err := h.Start(t.Context(), process.Command{ID: "job.1", Argv: []string{"sh", "-c", "echo here; sleep 60"}}, secret.Value{}); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(t.TempDir(), "aside")
	_, err := h.Follow(t.Context(), "job.1", process.Offsets{}, func(process.Chunk) error {
		return os.Rename(filepath.Join(dir, "jobs", "job.1"), aside)
	})
	if !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("followed to %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "jobs", "*")); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
	if err := os.Rename(aside, filepath.Join(dir, "jobs", "job.1")); err != nil {
		t.Fatal(err)
	}
	enginetest.Discard(t, h, "job.1")
}

// claimed returns who holds a run.
func claimed(t *testing.T, dir string) (pid int) {
	t.Helper()
	text, err := os.ReadFile(dir + "/jobs/job.1/claimed")
	if err != nil {
		t.Fatal(err)
	}
	word, _, _ := strings.Cut(string(text), " ")
	if pid, err = strconv.Atoi(word); err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestNoPlaceForLongScripts follows by short ones, and waits for a place to read
// a pipe.
func TestNoPlaceForLongScripts(t *testing.T) {
	t.Parallel()
	m := newMachine()
	h := open(t, m, t.TempDir())
	m.crowded = 3
	enginetest.Start(t, h, enginetest.Shell("job.1", `echo a; sleep 1.5; echo b`), secret.Value{})
	if exit, got := enginetest.Follow(t, h, "job.1", process.Offsets{}); exit.Code != 0 || got.Stdout.String() != "a\nb\n" {
		t.Errorf("exit %+v, %q", exit, got.Stdout.String())
	}
	m.mu.Lock()
	m.crowded = 2
	m.mu.Unlock()
	_, output := enginetest.StartPiped(t, h, enginetest.Shell("job.2", `echo piped`), secret.Value{})
	if text, err := io.ReadAll(output); string(text) != "piped\n" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
}

// TestReaderCut cuts the connection over which a pipe is read: that is no end of
// the output.
func TestReaderCut(t *testing.T) {
	m := newMachine()
	h := open(t, m, t.TempDir())
	_, output := enginetest.StartPiped(t, h, enginetest.Shell("job.1", `echo begun; sleep 60`), secret.Value{})
	if _, err := io.ReadFull(output, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	m.breakLink()
	if n, err := output.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestSupervisorKilled kills what waits for the program: that goes on, and when
// it has ended nobody knows how.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := open(t, newMachine(), dir)
	enginetest.Start(t, h, enginetest.Shell("job.1", `echo ready; while :; do sleep 0.05; done`), secret.Value{})
	said(t, h, "job.1", "ready")
	if err := syscall.Kill(claimed(t, dir), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if over, err := h.Over(t.Context(), "job.1"); over || err != nil {
		t.Errorf("over %v, %v, while the program runs", over, err)
	}
	if err := h.Remove(t.Context(), "job.1"); !errors.Is(err, process.ErrRunning) {
		t.Errorf("remove: %v", err)
	}
	if err := h.Signal(t.Context(), "job.1", process.Kill); err != nil {
		t.Fatal(err)
	}
	exit, got := enginetest.Follow(t, h, "job.1", process.Offsets{})
	if !exit.Lost || exit.StartedAt.IsZero() || got.Stdout.String() != "ready\n" {
		t.Errorf("exit %+v, output %q", exit, got.Stdout.String())
	}
}

// TestAfterBoot finds a run of before the host was started anew, under whose
// process ids others run.
func TestAfterBoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := open(t, newMachine(), dir)
	started := enginetest.Start(t, h, enginetest.Shell("job.1", `echo ready; while :; do sleep 0.05; done`), secret.Value{})
	said(t, h, "job.1", "ready")
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"claimed", "started"} {
		file := filepath.Join(dir, "jobs/job.1", name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		defer os.WriteFile(file, text, 0o600) // for the end of the test
		other := bytes.Replace(text, bytes.TrimSpace(boot), []byte("another-boot"), 1)
		if err := os.WriteFile(file, other, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Signal(t.Context(), "job.1", process.Kill); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(started.PID, 0); err != nil {
		t.Errorf("somebody else's process was killed: %v", err)
	}
	if exit, _ := enginetest.Follow(t, h, "job.1", process.Offsets{}); !exit.Lost {
		t.Errorf("exit %+v", exit)
	}
}

// TestGivenUpBeforeItBegan follows what was never started: from then on it never
// is, whatever of a start is still on its way.
func TestGivenUpBeforeItBegan(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/jobs", 0o700); err != nil {
		t.Fatal(err)
	}
	h := open(t, newMachine(), dir)
	if _, err := h.Follow(t.Context(), "job.1", process.Offsets{}, nil); !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("follow: %v", err)
	}
	marker := filepath.Join(dir, "marker")
	_, err := h.Start(t.Context(), enginetest.Shell("job.1", "touch "+marker), secret.Value{})
	if _, certain := errors.AsType[*process.StartError](err); !certain {
		t.Errorf("start: %v, want a StartError", err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("it was started")
	}
}

func TestReaderNeverComes(t *testing.T) {
	t.Parallel()
	h := remote.Patient(open(t, newMachine(), t.TempDir()), 1)
	command := enginetest.Shell("job.1", "echo never")
	command.Pipe = true
	_, err := h.Start(t.Context(), command, secret.Value{})
	if failed, ok := errors.AsType[*process.StartError](err); !ok || !errors.Is(failed, syscall.EPIPE) || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("start: %v, want a StartError about its reader", err)
	}
}

// TestNowhereToKeepThings starts where nothing can be written.
func TestNowhereToKeepThings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file is there": file, "read only": "/proc/borgfleet"} {
		t.Run(name, func(t *testing.T) {
			h := open(t, newMachine(), dir)
			_, err := h.Start(t.Context(), enginetest.Shell("job.1", "echo never"), secret.Value{})
			_, certain := errors.AsType[*process.StartError](err)
			failure, explained := errors.AsType[*job.Failure](err)
			if !certain || !explained || failure.Code != job.PermissionDenied || !strings.Contains(failure.Message, dir) || !strings.Contains(failure.Hint, "--dir") {
				t.Errorf("start: %v", err)
			}
			facts, failed := h.Look(t.Context())
			if failed != nil || facts.Problem == nil || facts.Problem.Code != job.PermissionDenied {
				t.Errorf("facts %+v, %v", facts, failed)
			}
		})
	}
}

// TestNullBytes cannot be handed over by a shell, and are refused.
func TestNullBytes(t *testing.T) {
	h := open(t, newMachine(), t.TempDir())
	argument := process.Command{ID: "job.1", Argv: []string{"/bin/echo", "a\x00b"}}
	for name, start := range map[string]func() (process.Started, error){
		"argument": func() (process.Started, error) { return h.Start(t.Context(), argument, secret.Value{}) },
		"passphrase": func() (process.Started, error) {
			return h.Start(t.Context(), enginetest.Shell("job.1", ":"), secret.FromString("a\x00b"))
		},
	} {
		if _, err := start(); err == nil {
			t.Errorf("%s: started", name)
		}
	}
}

func TestOddArguments(t *testing.T) {
	h := open(t, newMachine(), filepath.Join(t.TempDir(), odd))
	argv := []string{"/bin/sh", "-c", `for word; do printf '<%s>' "$word"; done`, "mount", "it's", "-dash", "$(touch odd)", "a\nb\n", "", "`x`\\", "\xff\"'"}
	enginetest.Start(t, h, process.Command{ID: "job.1", Argv: argv}, secret.Value{})
	want := "<" + strings.Join(argv[4:], "><") + ">"
	if _, got := enginetest.Follow(t, h, "job.1", process.Offsets{}); got.Stdout.String() != want {
		t.Errorf("got %q, want %q", got.Stdout.String(), want)
	}
	if got, err := h.Argv(t.Context(), "job.1"); err != nil || strings.Join(got, "|") != strings.Join(argv, "|") {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := h.Argv(t.Context(), "job.2"); err != nil || got != nil {
		t.Errorf("of nothing: %q, %v", got, err)
	}
}

func TestListAndClean(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := open(t, newMachine(), dir)
	if ids, err := h.List(t.Context()); len(ids) != 0 || err != nil {
		t.Errorf("there is %q, %v", ids, err)
	}
	enginetest.Start(t, h, enginetest.Shell("over.1", ":"), secret.Value{})
	enginetest.Start(t, h, enginetest.Shell("wanted.1", ":"), secret.Value{})
	enginetest.Start(t, h, enginetest.Shell("alive.1", "sleep 60"), secret.Value{})
	enginetest.Follow(t, h, "over.1", process.Offsets{})
	enginetest.Follow(t, h, "wanted.1", process.Offsets{})
	if err := os.Mkdir(dir+"/jobs/.removed-old.1", 0o700); err != nil {
		t.Fatal(err)
	}
	clean := func(minutes int, want string) {
		t.Helper()
		keep := func(id string) bool { return id == "wanted.1" }
		if err := h.Clean(context.Background(), remote.Minutes(minutes), keep); err != nil {
			t.Error(err)
		}
		if ids, err := h.List(t.Context()); strings.Join(ids, " ") != want || err != nil {
			t.Errorf("there is %q, %v; want %s", ids, err, want)
		}
	}
	clean(10, "alive.1 over.1 wanted.1")
	clean(0, "alive.1 wanted.1")
	if left, err := filepath.Glob(dir + "/jobs/.removed*"); len(left) > 0 || err != nil {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestFilesOfAProgramGoWithItsRun checks that a run's directory is known to the
// program, and removed with what the program has in it.
func TestFilesOfAProgramGoWithItsRun(t *testing.T) {
	dir := t.TempDir()
	h := open(t, newMachine(), dir)
	enginetest.Start(t, h, enginetest.Shell("job.1", `mkdir "$BORGFLEET_DIR/own" && echo kept >"$BORGFLEET_DIR/own/file"`), secret.Value{})
	enginetest.Follow(t, h, "job.1", process.Offsets{})
	if _, err := os.Stat(dir + "/jobs/job.1/own/file"); err != nil {
		t.Error(err)
	}
	if err := h.Remove(t.Context(), "job.1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/jobs/job.1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

// TestOneHostID checks that all runs of a machine have one name for borg's
// locks, and borg one directory.
func TestOneHostID(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, id := range []string{"job.1", "job.2"} {
		h := open(t, newMachine(), dir)
		enginetest.Start(t, h, enginetest.Shell(id, `echo "$BORG_HOST_ID|$BORG_BASE_DIR"`), secret.Value{})
		_, got := enginetest.Follow(t, h, id, process.Offsets{})
		seen[got.Stdout.String()] = true
	}
	for line := range seen {
		if len(seen) != 1 || !strings.HasPrefix(line, "web1@borgfleet-") || !strings.HasSuffix(line, "|"+dir+"/borg\n") {
			t.Errorf("the programs had %q", line)
		}
	}
}

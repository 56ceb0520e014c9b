package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Piping is an executor whose programs may print into a pipe.
type Piping interface {
	engine.Executor
	// Output opens the standard output of a command with Pipe set, which Start
	// waits for. There is one reader in the life of a run.
	// process.ErrNoOutput says that there is nothing to read, or not any more.
	Output(ctx context.Context, id string) (process.Output, error)
}

// Pipes runs the part of the suite that is about pipes, as [Executor] does.
func Pipes(t *testing.T, open func(t *testing.T) Piping) {
	for name, run := range map[string]func(*testing.T, Piping){
		"output":                      pipedOutput,
		"silent program":              pipedNothing,
		"program ahead of its reader": pipedAhead,
		"reader that goes away":       pipedReaderGone,
		"one reader":                  pipedOnce,
		"much output":                 pipedFast,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

// StartPiped starts a command whose output is piped, beside its reader, and
// discards its run when the test ends.
func StartPiped(t *testing.T, x Piping, c process.Command, pass secret.Value) (process.Started, process.Output) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience.Most)
	defer cancel()
	type opening struct {
		output process.Output
		err    error
	}
	opened := make(chan opening, 1)
	go func() {
		output, err := x.Output(ctx, c.ID)
		opened <- opening{output, err}
	}()
	c.Pipe = true
	started := Start(t, x, c, pass)
	got := <-opened
	if got.err != nil {
		t.Fatalf("open the output of %s: %v", c.ID, got.err)
	}
	t.Cleanup(func() { _ = got.output.Close() })
	if err := got.output.SetReadDeadline(time.Now().Add(patience.Most)); err != nil {
		t.Fatal(err)
	}
	return started, got.output
}

func pipedOutput(t *testing.T, x Piping) {
	_, output := StartPiped(t, x, Shell("job.1", `printf 'a\000'; printf err >&2; eval "cat <&$BORG_PASSPHRASE_FD"; exit 7`), secret.FromString("word"))
	read, err := io.ReadAll(output)
	if string(read) != "a\x00word" || err != nil {
		t.Errorf("read %q, %v", read, err)
	}
	exit, got := Follow(t, x, "job.1", process.Offsets{})
	if exit.Code != 7 || got.Stdout.Len() != 0 || got.Stderr.String() != "err" {
		t.Errorf("exit %+v, followed %q and %q", exit, got.Stdout.String(), got.Stderr.String())
	}
	if n, err := output.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
}

// pipedNothing has a program that is long silent: that is not its end.
func pipedNothing(t *testing.T, x Piping) {
	gate := t.TempDir()
	command := Shell("job.1", `while ! [ -e "$D/go" ]; do sleep 0.02; done`)
	command.Env = []string{"D=" + gate}
	_, output := StartPiped(t, x, command, secret.Value{})
	if err := output.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := output.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before the end: %d bytes, %v", n, err)
	}
	if err := os.WriteFile(filepath.Join(gate, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := output.SetReadDeadline(time.Now().Add(patience.Most)); err != nil {
		t.Fatal(err)
	}
	if read, err := io.ReadAll(output); len(read) != 0 || err != nil {
		t.Errorf("read %q, %v", read, err)
	}
}

// pipedAhead has a program that would be done at once, if it were not for its
// reader.
func pipedAhead(t *testing.T, x Piping) {
	const size = 4 << 20
	started, output := StartPiped(t, x, Shell("job.1", `head -c 4194304 /dev/zero; echo done >&2`), secret.Value{})
	patience.Until(t, "time enough for a program that does not wait", func() bool {
		age, running, err := x.Age(t.Context(), "job.1")
		if err != nil || !running {
			t.Fatalf("the program %d has not waited for its reader: %v", started.PID, err)
		}
		return age > 300*time.Millisecond
	})
	n, err := io.Copy(io.Discard, output)
	if n != size || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if exit, got := Follow(t, x, "job.1", process.Offsets{}); exit.Code != 0 || got.Stderr.String() != "done\n" {
		t.Errorf("exit %+v, %q", exit, got.Stderr.String())
	}
}

func pipedReaderGone(t *testing.T, x Piping) {
	_, output := StartPiped(t, x, Shell("job.1", `trap '' PIPE; while head -c 65536 /dev/zero; do :; done; exit 9`), secret.Value{})
	if _, err := io.ReadFull(output, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := output.Close(); err != nil {
		t.Fatal(err)
	}
	exit, got := Follow(t, x, "job.1", process.Offsets{})
	said := strings.ToLower(got.Stderr.String())
	if exit.Code != 9 || !strings.Contains(said, "broken pipe") && !strings.Contains(said, "i/o error") { // the latter is busybox's
		t.Errorf("exit %+v, %q", exit, got.Stderr.String())
	}
}

// pipedOnce has one reader, and looks for another one.
func pipedOnce(t *testing.T, x Piping) {
	if _, err := x.Output(expired(t), "none.1"); !errors.Is(err, context.Canceled) {
		t.Errorf("the output of what was not started: %v, want the context's end", err)
	}
	Start(t, x, Shell("file.1", `echo to a file`), secret.Value{})
	Follow(t, x, "file.1", process.Offsets{})
	if _, err := x.Output(t.Context(), "file.1"); !errors.Is(err, process.ErrNoOutput) {
		t.Errorf("the output that goes to a file: %v, want ErrNoOutput", err)
	}
	_, output := StartPiped(t, x, Shell("job.1", `cat /dev/zero`), secret.Value{})
	for _, when := range []string{"while it is read", "when its reader is gone"} {
		if _, err := x.Output(t.Context(), "job.1"); !errors.Is(err, process.ErrNoOutput) {
			t.Errorf("another reader %s: %v, want ErrNoOutput", when, err)
		}
		if err := output.Close(); err != nil && when == "while it is read" {
			t.Fatal(err)
		}
	}
}

func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// pipedFast reads more than any pipe holds, and all of it.
func pipedFast(t *testing.T, x Piping) {
	const size = 64 << 20
	begun := time.Now()
	_, output := StartPiped(t, x, Shell("job.1", `head -c 67108864 /dev/zero`), secret.Value{})
	buffer, sum := make([]byte, 128<<10), 0
	zeros := make([]byte, len(buffer))
	for {
		n, err := output.Read(buffer)
		if sum += n; !bytes.Equal(buffer[:n], zeros[:n]) {
			t.Fatal("read what was not written")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sum != size {
		t.Errorf("read %d bytes of %d", sum, size)
	}
	t.Logf("%.0f MB/s", float64(sum)/1e6/time.Since(begun).Seconds())
}

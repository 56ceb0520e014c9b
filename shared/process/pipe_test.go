package process_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// impatient returns an executor whose commands wait for their reader for a
// moment only.
func impatient(t *testing.T, root string, standby bool) *process.Local {
	t.Helper()
	l := process.NewLocal(process.Options{
		Root: root, Supervisor: enginetest.Supervisor(), Standby: standby,
		ReaderPatience: 50 * time.Millisecond, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(l.Close)
	return l
}

func TestReaderNeverComes(t *testing.T) {
	for name, standby := range map[string]bool{"cold": false, "with a standby": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := impatient(t, root, standby)
			if standby {
				warm(t, l, root)
			}
			marker := filepath.Join(t.TempDir(), "marker")
			command := enginetest.Shell("job.1", "touch "+marker)
			command.Pipe = true
			_, err := l.Start(t.Context(), command, secret.Value{})
			if failed, ok := errors.AsType[*process.StartError](err); !ok || !errors.Is(failed, syscall.EPIPE) || !strings.Contains(err.Error(), "nobody reads") {
				t.Errorf("start: %v, want a StartError about its reader", err)
			}
			if over, err := l.Over(t.Context(), "job.1"); !over || err != nil {
				t.Errorf("over %v, %v", over, err)
			}
			if _, err := os.Stat(marker); err == nil {
				t.Error("the program ran")
			}
		})
	}
}

// TestPipeIsTheProgramsAlone: a supervisor that held an end would hide from the
// reader that the program is over, or from the program that its reader is gone.
func TestPipeIsTheProgramsAlone(t *testing.T) {
	for name, standby := range map[string]bool{"cold": false, "with a standby": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := local(t, root, standby)
			if standby {
				warm(t, l, root)
			}
			started, output := enginetest.StartPiped(t, l, enginetest.Shell("job.1", "echo first; exec sleep 60"), secret.Value{})
			if first := make([]byte, 6); true {
				if _, err := io.ReadFull(output, first); err != nil || string(first) != "first\n" {
					t.Fatalf("read %q, %v", first, err)
				}
			}
			flags, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/1", started.PID))
			if err != nil || nonBlocking(t, string(flags)) {
				t.Errorf("the program's standard output does not block: %s, %v", flags, err)
			}
			parent, _ := stat(started.PID, 4)
			held, err := filepath.Glob("/proc/" + parent + "/fd/*")
			if err != nil || len(held) == 0 {
				t.Fatalf("the supervisor %s has %v, %v", parent, held, err)
			}
			own, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", started.PID))
			if err != nil {
				t.Fatal(err)
			}
			for _, fd := range held {
				if target, _ := os.Readlink(fd); target == own {
					t.Errorf("the supervisor holds %s, which is %s", fd, target)
				}
			}
			enginetest.End(t, l, "job.1")
			if rest, err := io.ReadAll(output); len(rest) > 0 || err != nil {
				t.Errorf("after the program's end: %q, %v", rest, err)
			}
		})
	}
}

// nonBlocking looks for O_NONBLOCK in what the system tells of a descriptor.
func nonBlocking(t *testing.T, info string) bool {
	t.Helper()
	_, rest, _ := strings.Cut(info, "flags:")
	field := strings.Fields(rest)
	if len(field) == 0 {
		t.Fatalf("no flags in %q", info)
	}
	flags, err := strconv.ParseUint(field[0], 8, 64)
	if err != nil {
		t.Fatal(err)
	}
	return flags&syscall.O_NONBLOCK != 0
}

// TestPipeOutlivesItsSupervisor: the reader gets the rest, and the end.
func TestPipeOutlivesItsSupervisor(t *testing.T) {
	l := local(t, t.TempDir(), false)
	command, open := gated(t, "job.1")
	started, output := enginetest.StartPiped(t, l, command, secret.Value{})
	killSupervisor(t, started.PID)
	open()
	if read, err := io.ReadAll(output); string(read) != "ready\ndone\n" || err != nil {
		t.Errorf("read %q, %v", read, err)
	}
	if exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{}); !exit.Lost {
		t.Errorf("exit %+v", exit)
	}
}

// TestReaderEndsProgramWithoutSupervisor: whoever is left ends by itself.
func TestReaderEndsProgramWithoutSupervisor(t *testing.T) {
	l := local(t, t.TempDir(), false)
	started, output := enginetest.StartPiped(t, l, enginetest.Shell("job.1", "exec cat /dev/zero"), secret.Value{})
	killSupervisor(t, started.PID)
	if err := output.Close(); err != nil {
		t.Fatal(err)
	}
	patience.Until(t, "the program's end", func() bool { return !running(started.PID) })
}

// TestPipedProgramThatIsMissing: the reader is there, and gets the end.
func TestPipedProgramThatIsMissing(t *testing.T) {
	l := local(t, t.TempDir(), false)
	read := make(chan error, 1)
	go func() {
		output, err := l.Output(t.Context(), "job.1")
		if err == nil {
			_, err = io.Copy(&bytes.Buffer{}, output)
			err = errors.Join(err, output.Close())
		}
		read <- err
	}()
	command := process.Command{ID: "job.1", Argv: []string{"/nonexistent/borg"}, Pipe: true}
	if _, err := l.Start(t.Context(), command, secret.Value{}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("start: %v", err)
	}
	if err := <-read; err != nil {
		t.Errorf("its output: %v", err)
	}
}

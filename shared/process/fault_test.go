package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// waiting is a script that goes on when the file "go" is in its directory.
const waiting = `echo ready; while ! [ -e "$D/go" ]; do sleep 0.02; done; echo done`

// gated returns a waiting command, and what lets it go on.
func gated(t *testing.T, id string) (process.Command, func()) {
	t.Helper()
	gate := t.TempDir()
	command := enginetest.Shell(id, waiting)
	command.Env = []string{"D=" + gate}
	return command, func() {
		if err := os.WriteFile(filepath.Join(gate, "go"), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// stat returns a field of /proc/<pid>/stat, counted as in proc(5).
func stat(pid, field int) (string, bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	text := string(content)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])[field-3], true
}

func running(pid int) bool {
	state, found := stat(pid, 3)
	return found && state != "Z"
}

// killSupervisor ends a program's supervisor as the kernel would for want of
// memory.
func killSupervisor(t *testing.T, pid int) {
	t.Helper()
	parent, _ := stat(pid, 4)
	supervisor, err := strconv.Atoi(parent)
	if err != nil || supervisor <= 1 {
		t.Fatalf("the supervisor of %d is %q", pid, parent)
	}
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	patience.Until(t, "the supervisor's end", func() bool { return !running(supervisor) })
	if !running(pid) {
		t.Fatal("the program ended with its supervisor")
	}
}

func TestSupervisorKilled(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"with everything there": func(*testing.T, string) {},
		"before it told of the start": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "started.json"), `{"pid":0,"start_ticks":0,"boot_id":"","at":"0001-01-01T00:00:00Z"}`)
		},
		"while it told of the start": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "started.json"), `{"pid":12`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			l := local(t, root, false)
			command, open := gated(t, "job.1")
			started := enginetest.Start(t, l, command, secret.Value{})
			killSupervisor(t, started.PID)
			spoil(t, filepath.Join(root, "job.1"))

			again, err := local(t, root, false).Start(t.Context(), command, secret.Value{})
			if err != nil || again.PID != started.PID {
				t.Errorf("started %+v again as %+v, %v", started, again, err)
			}
			if err := l.Remove(t.Context(), "job.1"); !errors.Is(err, process.ErrRunning) {
				t.Errorf("remove: %v, want ErrRunning", err)
			}
			open()
			exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{})
			if !exit.Lost || exit.Code != -1 || got.Stdout.String() != "ready\ndone\n" {
				t.Errorf("exit %+v with %q, want it lost after all output", exit, got.Stdout.String())
			}
			again, err = l.Start(t.Context(), command, secret.Value{})
			if err != nil {
				t.Errorf("start what is lost: %+v, %v", again, err)
			}
			if exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); !exit.Lost || strings.Count(got.Stdout.String(), "ready") != 1 {
				t.Errorf("exit %+v with %q after another start", exit, got.Stdout.String())
			}
		})
	}
}

func TestOrphanIsSignalled(t *testing.T) {
	l := local(t, t.TempDir(), false)
	command, _ := gated(t, "job.1")
	started := enginetest.Start(t, l, command, secret.Value{})
	killSupervisor(t, started.PID)
	if err := l.Signal(t.Context(), "job.1", process.Terminate); err != nil {
		t.Fatal(err)
	}
	if exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{}); !exit.Lost || running(started.PID) {
		t.Errorf("exit %+v", exit)
	}
}

// TestReusedPID has a directory whose program is gone, and whose process id is
// somebody else's now: ours.
func TestReusedPID(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	own, _ := stat(os.Getpid(), 22)
	ticks, err := strconv.ParseUint(own, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for name, started := range map[string]map[string]any{
		"other start time": {"pid": os.Getpid(), "start_ticks": ticks + 1, "boot_id": strings.TrimSpace(string(boot))},
		"other boot":       {"pid": os.Getpid(), "start_ticks": ticks, "boot_id": "of-another-time"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			content, err := json.Marshal(started)
			if err != nil {
				t.Fatal(err)
			}
			abandon(t, root, string(content))
			l := local(t, root, false)
			// The signal would end this test.
			if err := l.Signal(t.Context(), "job.1", process.Kill); err != nil {
				t.Errorf("signal: %v", err)
			}
			if exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{}); !exit.Lost {
				t.Errorf("exit %+v, want it lost", exit)
			}
		})
	}
}

// abandon makes a directory of which nobody takes care any more.
func abandon(t *testing.T, root, started string) string {
	t.Helper()
	dir := filepath.Join(root, "job.1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "command.json"), `{"argv":["/bin/sh","-c","exit"]}`)
	write(t, filepath.Join(dir, "started.json"), started)
	write(t, filepath.Join(dir, "stdout"), "out")
	write(t, filepath.Join(dir, "stderr"), "")
	return dir
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFiles(t *testing.T) {
	for name, test := range map[string]struct{ file, content string }{
		"empty exit":     {"exit.json", ""},
		"torn exit":      {"exit.json", `{"code":0,"star`},
		"zeroes as exit": {"exit.json", "\x00\x00\x00\x00"},
		"other exit":     {"exit.json", `[]`},
		"exit of nobody": {"exit.json", `{}`},
		"null as exit":   {"exit.json", `null`},
		"torn start":     {"started.json", `{"pid"`},
		"binary start":   {"started.json", "\x00\xff"},
		"torn command":   {"command.json", `{"argv`},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write(t, filepath.Join(abandon(t, root, `{"pid":0}`), test.file), test.content)
			l := local(t, root, false)
			exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{})
			if !exit.Lost || got.Stdout.String() != "out" {
				t.Errorf("exit %+v with %q, want it lost", exit, got.Stdout.String())
			}
			if started, err := l.Start(t.Context(), enginetest.Shell("job.1", "echo twice"), secret.Value{}); err != nil || started.PID != 0 {
				t.Errorf("start: %+v, %v; want nothing known", started, err)
			}
			if _, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); got.Stdout.String() != "out" {
				t.Errorf("it was run again: %q", got.Stdout.String())
			}
			if err := l.Remove(t.Context(), "job.1"); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
}

// TestStartAfterCrash has directories as a starter leaves them that dies
// before its supervisor has done anything.
func TestStartAfterCrash(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"empty directory":    {},
		"torn command":       {"command.json": `{"argv":["/bin/fals`},
		"whole command":      {"command.json": `{"argv":["/bin/false"]}` + strings.Repeat(" ", 1000)},
		"all files prepared": {"command.json": `{}`, "stdout": "", "stderr": "", "started.json": ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "job.1"), 0o700); err != nil {
				t.Fatal(err)
			}
			for file, content := range files {
				write(t, filepath.Join(root, "job.1", file), content)
			}
			l := local(t, root, false)
			if _, err := l.Follow(t.Context(), "job.1", process.Offsets{}, nil); !errors.Is(err, process.ErrNotStarted) {
				t.Errorf("follow: %v, want ErrNotStarted", err)
			}
			enginetest.Start(t, l, enginetest.Shell("job.1", "echo once"), secret.Value{})
			if exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); exit.Code != 0 || got.Stdout.String() != "once\n" {
				t.Errorf("exit %+v with %q", exit, got.Stdout.String())
			}
		})
	}
}

func TestSupervisorOutlivesSignals(t *testing.T) {
	root := t.TempDir()
	l := local(t, root, false)
	command, open := gated(t, "job.1")
	started := enginetest.Start(t, l, command, secret.Value{})
	parent, _ := stat(started.PID, 4)
	supervisor, err := strconv.Atoi(parent)
	if err != nil {
		t.Fatal(err)
	}
	patience.Until(t, "the supervisor's last preparation", func() bool {
		_, err := os.Stat(filepath.Join(root, "job.1", "exit.json.new"))
		return err == nil
	})
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
		if err := syscall.Kill(supervisor, s); err != nil {
			t.Fatal(err)
		}
	}
	open()
	if exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{}); exit.Lost || exit.Code != 0 {
		t.Errorf("exit %+v, want 0", exit)
	}
}

// TestAgentUnderNohup has an agent that ignores signals, which its children
// would inherit: borg would not hear a SIGINT.
func TestAgentUnderNohup(t *testing.T) {
	l := process.NewLocal(process.Options{
		Root: t.TempDir(), Logger: hclog.NewNullLogger(),
		Supervisor: append([]string{"/bin/sh", "-c", `trap '' INT HUP TERM; exec "$0" "$1" "$2"`}, enginetest.Supervisor()...),
	})
	command := enginetest.Shell("job.1", `trap 'echo heard; exit 4' INT; echo ready; while :; do sleep 0.02; done`)
	enginetest.Start(t, l, command, secret.Value{})
	patience.Until(t, "the program's handler", func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := l.Follow(ctx, "job.1", process.Offsets{}, func(process.Chunk) error { cancel(); return nil })
		return errors.Is(err, context.Canceled)
	})
	if err := l.Signal(t.Context(), "job.1", process.Interrupt); err != nil {
		t.Fatal(err)
	}
	if exit, _ := enginetest.Follow(t, l, "job.1", process.Offsets{}); exit.Code != 4 {
		t.Errorf("exit %+v, want 4", exit)
	}
}

func TestStarterIsKilled(t *testing.T) {
	root := t.TempDir()
	command, open := gated(t, "job.1")
	gate := command.Env[0]
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// An agent of its own process group and session, killed with all of it.
	agent := exec.Command(self, agentArgument, root, gate)
	agent.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-agent.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // it was killed
	l := local(t, root, false)
	again := enginetest.Start(t, l, command, secret.Value{})
	if again.PID != pid || !running(pid) {
		t.Fatalf("started %d, then %+v", pid, again)
	}
	open()
	if exit, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); exit.Code != 0 || exit.Lost || got.Stdout.String() != "ready\ndone\n" {
		t.Errorf("exit %+v with %q", exit, got.Stdout.String())
	}
}

// TestDirectoryIsDeleted takes the directory away from under a supervisor: when
// its program has ended, it ends too.
func TestDirectoryIsDeleted(t *testing.T) {
	root := t.TempDir()
	l := local(t, root, false)
	command, open := gated(t, "job.1")
	started := enginetest.Start(t, l, command, secret.Value{})
	parent, _ := stat(started.PID, 4)
	supervisor, err := strconv.Atoi(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "job.1")); err != nil {
		t.Fatal(err)
	}
	open()
	patience.Until(t, "the supervisor's end", func() bool { return !running(supervisor) })
}

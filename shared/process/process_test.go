package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// agentArgument makes the test binary an agent.
const agentArgument = "-agent"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == agentArgument {
		os.Exit(agent(os.Args[2], os.Args[3]))
	}
	enginetest.Main(m)
}

// agent starts job.1, prints its process id, and follows it.
func agent(root, setting string) int {
	l := process.NewLocal(process.Options{
		Root: root, Supervisor: enginetest.Supervisor(), Logger: hclog.NewNullLogger(),
	})
	command := enginetest.Shell("job.1", waiting)
	command.Env = []string{setting}
	started, err := l.Start(context.Background(), command, secret.Value{})
	if err != nil {
		return 1
	}
	fmt.Println(started.PID)
	_, _ = l.Follow(context.Background(), "job.1", process.Offsets{}, func(process.Chunk) error { return nil })
	return 0
}

// local returns an executor, with or without a supervisor that stands by.
func local(t testing.TB, root string, standby bool) *process.Local {
	t.Helper()
	l := process.NewLocal(process.Options{
		Root: root, Supervisor: enginetest.Supervisor(), Standby: standby, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(l.Close)
	return l
}

func TestLocalIsAnExecutor(t *testing.T) {
	for name, standby := range map[string]bool{"cold": false, "with a standby": true} {
		open := func(t *testing.T) *process.Local {
			root := filepath.Join(t.TempDir(), "jobs")
			l := local(t, root, standby)
			if standby {
				warm(t, l, root)
			}
			return l
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enginetest.Executor(t, func(t *testing.T) engine.Executor { return open(t) })
			enginetest.Pipes(t, func(t *testing.T) enginetest.Piping { return open(t) })
		})
	}
}

// warm starts something, so that a supervisor stands by for what comes next.
func warm(t *testing.T, l *process.Local, root string) (dir string) {
	t.Helper()
	enginetest.Start(t, l, enginetest.Shell("warm.0", "exit"), secret.Value{})
	patience.Until(t, "a supervisor that stands by", func() bool {
		ready, _ := filepath.Glob(filepath.Join(root, ".standby-*"))
		if len(ready) != 1 || len(standbys(t)) != 1 { // those of tests before may be ending
			return false
		}
		dir = ready[0]
		return true
	})
	return dir
}

// standbys returns our children that are supervisors standing by.
func standbys(t *testing.T) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := stat(pid, 4)
		line, err := os.ReadFile(path)
		if err == nil && parent == strconv.Itoa(os.Getpid()) && strings.HasSuffix(string(line), enginetest.Supervisor()[1]+"\x00-\x00") {
			found = append(found, pid)
		}
	}
	return found
}

func TestStartRefuses(t *testing.T) {
	shell := []string{"/bin/sh", "-c", "exit 0"}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		root       string
		supervisor []string
		command    process.Command
		pass       secret.Value
		says       string
		is         error
	}{
		"bad id":               {command: process.Command{ID: "../x", Argv: shell}, says: `run id "../x"`},
		"no program":           {command: process.Command{ID: "j.1"}, says: "no program"},
		"piped and encrypted":  {command: process.Command{ID: "j.1", Argv: shell, Pipe: true, Recipient: "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"}, says: "piped"},
		"bad I/O class":        {command: process.Command{ID: "j.1", Argv: shell, IOClass: "fast"}, says: `"fast" is not`},
		"bad I/O level":        {command: process.Command{ID: "j.1", Argv: shell, IOClass: "best-effort:8"}, says: "0 to 7"},
		"bad nice":             {command: process.Command{ID: "j.1", Argv: shell, Nice: 20}, says: "nice 20"},
		"long passphrase":      {command: process.Command{ID: "j.1", Argv: shell}, pass: secret.FromString(strings.Repeat("x", 5000)), says: "longer than 4096"},
		"missing directory":    {command: process.Command{ID: "j.1", Argv: shell, Dir: "/nonexistent"}, says: "working directory /nonexistent"},
		"not executable":       {command: process.Command{ID: "j.1", Argv: []string{file}}, says: file, is: syscall.EACCES},
		"root is a file":       {root: filepath.Join(file, "jobs"), command: process.Command{ID: "j.1", Argv: shell}, says: file, is: syscall.ENOTDIR},
		"read-only root":       {root: "/proc/borgfleet", command: process.Command{ID: "j.1", Argv: shell}, says: "make directory /proc/borgfleet", is: syscall.ENOENT},
		"missing supervisor":   {supervisor: []string{"/nonexistent/agent"}, command: process.Command{ID: "j.1", Argv: shell}, says: "start supervisor", is: syscall.ENOENT},
		"no supervisor":        {supervisor: []string{}, command: process.Command{ID: "j.1", Argv: shell}, says: "no supervisor"},
		"supervisor that ends": {supervisor: []string{"/bin/false"}, command: process.Command{ID: "j.1", Argv: shell}, says: "without a word"},
		"supervisor that says": {supervisor: []string{"/bin/sh", "-c", "echo it hurts >&2"}, command: process.Command{ID: "j.1", Argv: shell}, says: "it hurts"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.root == "" {
				test.root = t.TempDir()
			}
			if test.supervisor == nil {
				test.supervisor = enginetest.Supervisor()
			}
			l := process.NewLocal(process.Options{Root: test.root, Supervisor: test.supervisor, Logger: hclog.NewNullLogger()})
			_, err := l.Start(t.Context(), test.command, test.pass)
			if _, ok := errors.AsType[*process.StartError](err); !ok || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("start: %v, want a StartError with %q", err, test.says)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("start: %v, want %v in its chain", err, test.is)
			}
		})
	}
}

func TestStartAfterFailedSupervisor(t *testing.T) {
	root := t.TempDir()
	broken := process.NewLocal(process.Options{Root: root, Supervisor: []string{"/bin/false"}, Logger: hclog.NewNullLogger()})
	command := enginetest.Shell("job.1", "echo once")
	if _, err := broken.Start(t.Context(), command, secret.Value{}); err == nil {
		t.Fatal("a supervisor that ends at once started something")
	}
	if _, err := broken.Follow(t.Context(), "job.1", process.Offsets{}, nil); !errors.Is(err, process.ErrNotStarted) {
		t.Errorf("follow: %v, want ErrNotStarted", err)
	}
	l := local(t, root, false)
	enginetest.Start(t, l, command, secret.Value{})
	if _, got := enginetest.Follow(t, l, "job.1", process.Offsets{}); got.Stdout.String() != "once\n" {
		t.Errorf("got %q", got.Stdout.String())
	}
}

func TestSuperviseByHand(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "job.1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	argv := append(enginetest.Supervisor(), dir)
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := process.Wait()
	if err != nil || state.ExitCode() != 1 {
		t.Errorf("supervise by hand ended with %v, %v; want exit code 1", state, err)
	}
}

func TestStartGivesUpWithContext(t *testing.T) {
	root := t.TempDir()
	slow := process.NewLocal(process.Options{
		Root: root, Supervisor: []string{"/bin/sh", "-c", `read line < "$0/go"`}, Logger: hclog.NewNullLogger(),
	})
	if err := os.Mkdir(filepath.Join(root, "job.1"), 0o700); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(root, "job.1", "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := slow.Start(ctx, enginetest.Shell("job.1", "exit"), secret.Value{})
		done <- err
	}()
	gate, err := os.OpenFile(fifo, os.O_WRONLY, 0) // opens when the supervisor has come to it
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v, want the context's end", err)
	}
	gate.Close()
}

// TestForeignDescriptorsAreNotPassedOn has a descriptor that whoever started
// the agent forgot to close.
func TestForeignDescriptorsAreNotPassedOn(t *testing.T) {
	for name, standby := range map[string]bool{"cold": false, "standby": true} {
		t.Run(name, func(t *testing.T) {
			var pipe [2]int
			if err := syscall.Pipe(pipe[:]); err != nil { // not close on exec
				t.Fatal(err)
			}
			foreign, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(pipe[1]))
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			l := local(t, root, standby)
			if standby {
				warm(t, l, root)
			}
			command, open := gated(t, "job.1")
			started := enginetest.Start(t, l, command, secret.Value{})
			parent, _ := stat(started.PID, 4)
			for _, pid := range []string{strconv.Itoa(started.PID), parent} {
				links, err := filepath.Glob("/proc/" + pid + "/fd/*")
				if err != nil || len(links) < 3 {
					t.Fatalf("descriptors of %s: %q, %v", pid, links, err)
				}
				for _, link := range links {
					if target, _ := os.Readlink(link); target == foreign {
						t.Errorf("%s is %s", link, foreign)
					}
				}
			}
			open()
			enginetest.Follow(t, l, "job.1", process.Offsets{})
			syscall.Close(pipe[0])
			syscall.Close(pipe[1])
		})
	}
}

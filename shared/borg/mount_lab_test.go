package borg_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// A mount point whose name needs care everywhere: in the kernel's table, in a
// shell, and in JSON.
const oddPoint = `mnt/it's "a" \040 $(touch x) *`

// mountLab has a repository with the archive web1-b, and cleans what is left
// mounted.
type mountLab struct {
	*lab
	point string
}

func newMountLab(t *testing.T) mountLab {
	t.Helper()
	l := mountLab{lab: newLab(t)}
	l.point = filepath.Join(l.root, oddPoint)
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l.lab)
	t.Cleanup(func() { _ = exec.Command("fusermount3", "-uz", l.point).Run() }) // mostly there is nothing to unmount
	return l
}

// mount is a mount job that runs.
type mount struct {
	task    borg.Task
	cmd     *exec.Cmd
	process *os.Process
	over    chan borg.Exit
	stdout  *transcript
	stderr  *transcript
}

// transcript is what a process has said so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *transcript) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(data)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (l mountLab) task(spec job.MountSpec) borg.Task {
	if spec.MountPoint == "" {
		spec.MountPoint = l.point
	}
	return baseTask(l.root, spec)
}

func (l mountLab) start(task borg.Task) *mount {
	l.t.Helper()
	cmd, passphrase := l.command(task)
	m := &mount{task: task, cmd: cmd, over: make(chan borg.Exit, 1), stdout: &transcript{}, stderr: &transcript{}}
	cmd.Stdout, cmd.Stderr = m.stdout, m.stderr
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if passphrase != nil {
		passphrase.Close()
	}
	m.process = cmd.Process
	l.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // mostly it is gone
	go func() { m.over <- wait(l.t, cmd) }()
	return m
}

// outcome waits for the end.
func (m *mount) outcome(t *testing.T, edit func(*borg.Exit)) job.Outcome {
	t.Helper()
	select {
	case exit := <-m.over:
		if edit != nil {
			edit(&exit)
		}
		outcome, _ := parse(m.task, recording{stdout: []byte(m.stdout.String()), stderr: []byte(m.stderr.String()), exit: exit}, 50)
		t.Logf("exit %+v, %q: %s %v", exit, m.stdout, outcome.State, outcome.Failure)
		return outcome
	case <-time.After(time.Minute):
		t.Fatalf("the mount does not end:\n%s", m.stderr)
	}
	return job.Outcome{}
}

// ready waits until the parser says that the mount point can be used.
func (m *mount) ready(t *testing.T) job.Progress {
	t.Helper()
	var told job.Progress
	patience.Until(t, "mounted", func() bool {
		_, items := parse(m.task, recording{stderr: []byte(m.stderr.String())}, 100)
		for _, item := range items {
			if item.Progress != nil && item.Progress.Phase == job.PhaseMounted {
				told = *item.Progress
				return true
			}
		}
		if len(m.over) > 0 {
			t.Fatalf("it ended at once: %+v\n%s", <-m.over, m.stderr)
		}
		return false
	})
	return told
}

// mountedAt reports whether the kernel has a mount at the point.
func mountedAt(t *testing.T, point string) bool {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(table), " "+strings.NewReplacer(`\`, `\134`, " ", `\040`).Replace(point)+" ")
}

// borgs returns the pids of the borg processes of a mount.
func (m *mount) borgs(t *testing.T) []int {
	t.Helper()
	said, err := exec.Command("pgrep", "-g", fmt.Sprint(m.process.Pid), "-f", "^/usr/bin/python3 "+borgBinary).Output()
	if err != nil {
		t.Fatalf("no borg in the group: %v", err)
	}
	var pids []int
	for _, field := range strings.Fields(string(said)) {
		var pid int
		if _, err := fmt.Sscan(field, &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func (l mountLab) umount(t *testing.T, force bool) job.Outcome {
	t.Helper()
	task := borg.Task{Kind: job.Umount, Spec: job.UmountSpec{MountPoint: l.point, Force: force}, Host: "web1"}
	return outcomeOfRun(l.lab, task)
}

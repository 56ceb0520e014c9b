package engine_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// labHostID is the BORG_HOST_ID of newLab.
const labHostID = "test"

// borg runs borg as somebody else would, in the lab's directories: with another
// host id, or with none. It returns when the test is over, or borg is.
func (l *lab) borg(t *testing.T, hostID string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("borg", args...)
	cmd.Env = append(os.Environ(), "BORG_SELFTEST=disabled", "BORG_PASSPHRASE="+passphrase, "BORG_BASE_DIR="+filepath.Join(filepath.Dir(l.root), "borg"))
	cmd.Env = slices.DeleteFunc(cmd.Env, func(entry string) bool { return strings.HasPrefix(entry, "BORG_HOST_ID=") })
	if hostID != "" {
		cmd.Env = append(cmd.Env, "BORG_HOST_ID="+hostID)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil { // else its number may be another's by now
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		}
	})
	return cmd
}

// kill ends a borg and its children as a power cut would.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// writer is a borg create that waits for data, with the lock in its hand.
func (l *lab) writer(t *testing.T, hostID string) *exec.Cmd {
	t.Helper()
	cmd := l.borg(t, hostID, "create", "--content-from-command", l.task.Repository.Location+"::slow", "sleep", "1000")
	patience.Until(t, "the writer's locks", func() bool {
		cache, _ := filepath.Glob(filepath.Join(filepath.Dir(l.root), "borg", ".cache", "borg", "*", "lock.exclusive", "*"))
		return len(cache) == 1 && len(l.locked(t, cmd.Process.Pid)) == 1
	})
	return cmd
}

// reader is a borg that has a shared lock, and does not go on: nobody reads
// what it prints.
func (l *lab) reader(t *testing.T, hostID string) *exec.Cmd {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Fatal(err)
	}
	cmd := l.borg(t, hostID, "export-tar", l.task.Repository.Location+"::web1-2", fifo)
	patience.Until(t, "the reader's lock", func() bool {
		roster, err := os.ReadFile(filepath.Join(l.task.Repository.Location, "lock.roster"))
		return err == nil && strings.Contains(string(roster), fmt.Sprint(", ", cmd.Process.Pid, ","))
	})
	patience.Until(t, "the end of its own lock on the roster", func() bool { return len(l.locked(t, cmd.Process.Pid)) == 0 })
	return cmd
}

// locked returns the names under which a process holds the repository's lock alone.
func (l *lab) locked(t *testing.T, pid int) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(l.task.Repository.Location, "lock.exclusive", fmt.Sprintf("*.%d-0", pid)))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// breakLock runs a break-lock job.
func (l *lab) breakLock(t *testing.T, spec job.BreakLockSpec) (end job.Event, log string) {
	t.Helper()
	rec := newRecorder()
	if err := l.Run(t.Context(), l.attempt(t, spec), rec, nil); err != nil {
		t.Fatal(err)
	}
	return rec.finished(t), strings.Join(rec.log(), "\n")
}

// wantBroken breaks the lock, which one process left.
func (l *lab) wantBroken(t *testing.T, spec job.BreakLockSpec, want job.Lock) {
	t.Helper()
	end, log := l.breakLock(t, spec)
	if end.State != job.Succeeded || !end.Result.Broken || len(end.Result.Locks) != 1 {
		t.Fatalf("ended as %s: %v, %+v\n%s", end.State, end.Failure, end.Result, log)
	}
	got := end.Result.Locks[0]
	if got.PID != want.PID || got.Exclusive != want.Exclusive || got.Process != want.Process {
		t.Errorf("lock %+v, want %+v", got, want)
	}
	if !strings.Contains(log, "removed the lock") || !strings.Contains(log, got.String()) || strings.Contains(log, "readers()") {
		t.Errorf("log:\n%s", log)
	}
	if left, err := filepath.Glob(l.task.Repository.Location + "/lock.*"); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// wantHeld tries to break the lock of a process that may live.
func (l *lab) wantHeld(t *testing.T, pid int, want job.Vitality) {
	t.Helper()
	for _, spec := range []job.BreakLockSpec{{}, {DryRun: true}} {
		end, log := l.breakLock(t, spec)
		if end.Result == nil || end.Result.Broken || len(end.Result.Locks) != 1 ||
			end.Result.Locks[0].PID != pid || end.Result.Locks[0].Process != want {
			t.Fatalf("%+v ended as %s: %v, %+v\n%s", spec, end.State, end.Failure, end.Result, log)
		}
		if spec.DryRun {
			if end.State != job.Succeeded {
				t.Errorf("the dry run ended as %s: %v", end.State, end.Failure)
			}
			continue
		}
		if end.State != job.Failed || end.Failure.Code != job.RepositoryLocked || !strings.Contains(end.Failure.Hint, "--force") {
			t.Errorf("ended as %s: %+v", end.State, end.Failure)
		}
	}
}

// newLocked is a lab with one archive, web1-2.
func newLocked(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.fill(t, "file", 1<<20)
	l.must(t, job.InitSpec{})
	l.must(t, job.BackupSpec{Paths: []string{l.data}})
	return l
}

// A borg of ours that was killed leaves its locks, of the repository and of the
// cache. The next borg of ours clears both by itself.
func TestOurOwnStaleLockIsClearedByBorg(t *testing.T) {
	l := newLocked(t)
	kill(t, l.writer(t, labHostID))
	l.must(t, job.BackupSpec{Paths: []string{l.data}})
}

func TestRealBreakLock(t *testing.T) {
	for name, c := range map[string]struct {
		hostID string
		begin  func(*lab, *testing.T, string) *exec.Cmd
		dead   job.Vitality // what is known of it when it was killed
		alive  job.Vitality // and before
	}{
		"our own":         {labHostID, (*lab).writer, job.Dead, job.Alive},
		"a person's":      {"", (*lab).writer, persons(job.Dead), persons(job.Alive)},
		"another host's":  {"db2.example.net@99", (*lab).writer, job.Unknown, job.Unknown},
		"our own, shared": {labHostID, (*lab).reader, job.Dead, job.Alive},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLocked(t)
			cmd := c.begin(l, t, c.hostID)
			pid, exclusive := cmd.Process.Pid, len(l.locked(t, cmd.Process.Pid)) == 1
			l.wantHeld(t, pid, c.alive)
			kill(t, cmd)
			spec := job.BreakLockSpec{}
			if c.dead == job.Unknown {
				l.wantHeld(t, pid, c.dead)
				spec.Force = true
			}
			l.wantBroken(t, spec, job.Lock{PID: pid, Exclusive: exclusive, Process: c.dead})
			l.must(t, job.BackupSpec{Paths: []string{l.data}}) // borg break-lock broke the cache's lock, too
			end, log := l.breakLock(t, job.BreakLockSpec{})
			if end.State != job.Succeeded || end.Result.Broken || len(end.Result.Locks) != 0 {
				t.Errorf("of a free repository: %s %v, %+v\n%s", end.State, end.Failure, end.Result, log)
			}
		})
	}
}

// persons returns what can be known of a process with borg's own host id: in a
// container, nothing.
func persons(v job.Vitality) job.Vitality {
	if space, err := os.Readlink("/proc/self/ns/pid"); err != nil || space != "pid:[4026531836]" {
		return job.Unknown
	}
	return v
}

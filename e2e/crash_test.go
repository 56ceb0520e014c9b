package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// crashScene is a backup in its middle.
type crashScene struct {
	c                    *harness.Coordinator
	agent                *harness.Agent
	job                  job.Job
	borg                 int // borg's process
	location, passphrase string
}

func midBackup(t *testing.T) *crashScene {
	t.Helper()
	s := &crashScene{c: harness.StartCoordinator(t)}
	s.agent = s.c.AddAgent("web1", harness.AgentOptions{})
	s.location, s.passphrase = s.c.AddRepository("main")
	s.c.Init("web1", "main")
	files := t.TempDir()
	harness.MakeTree(t, files, 24, 1<<20)
	s.job = s.c.Submit(fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[%q],"compression":"lzma,9"}}`, files))
	s.c.Await(s.job.ID, job.Running)
	harness.Eventually(t, "some progress", func() error {
		j := s.c.Job(s.job.ID)
		if j.State.Terminal() {
			t.Fatalf("the backup ended too early: %s", j.State)
		}
		if j.Progress == nil || j.Progress.NFiles < 1 {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	s.borg = s.onlyBorg(t)
	return s
}

// onlyBorg returns the one borg create that runs for this repository.
func (s *crashScene) onlyBorg(t *testing.T) int {
	t.Helper()
	found := slices.DeleteFunc(harness.PIDs(s.location+"::"), func(pid int) bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err != nil || !strings.HasPrefix(string(name), "borg") || strings.HasPrefix(string(name), "borgfleet")
	})
	if len(found) != 1 {
		t.Fatalf("%d borgs run on the repository: %v", len(found), found)
	}
	return found[0]
}

// checkEnd checks what must hold after any crash: one attempt, one archive, no
// lock, an empty journal, a log without repeats.
func (s *crashScene) checkEnd(t *testing.T) {
	t.Helper()
	done := s.c.Await(s.job.ID, job.Succeeded)
	if done.Attempt != 1 || len(done.Attempts) != 1 {
		t.Errorf("%d attempts: %+v", done.Attempt, done.Attempts)
	}
	if archives := harness.Archives(t, s.location, s.passphrase); len(archives) != 1 || archives[0] != done.Result.Archive {
		t.Errorf("borg sees %v, the result names %s", archives, done.Result.Archive)
	}
	if locks, _ := filepath.Glob(filepath.Join(s.location, "lock.exclusive", "*")); len(locks) > 0 {
		t.Errorf("locks are left: %v", locks)
	}
	harness.Eventually(t, "the agent's journal to be empty", func() error {
		entries, err := filepath.Glob(filepath.Join(s.agent.Data, "jobs", "[^.]*")) // a supervisor stands by in a hidden one
		if len(entries) > 0 || err != nil {
			return fmt.Errorf("job directories %v (%v)", entries, err)
		}
		return nil
	})
	log := s.c.MustCLI("job", "log", string(s.job.ID))
	if n := strings.Count(log, "borg create"); n != 1 {
		t.Errorf("the log tells of %d starts of borg:\n%s", n, log)
	}
}

func TestKilledAgentFindsItsBorgAgain(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.agent.Kill()
	if again := s.onlyBorg(t); again != s.borg {
		t.Fatalf("borg %d is gone, %d runs", s.borg, again)
	}
	s.agent.Restart()
	s.c.AwaitOnline("web1")
	if j := s.c.Job(s.job.ID); !j.State.Terminal() {
		if again := s.onlyBorg(t); again != s.borg {
			t.Errorf("borg %d was replaced by %d", s.borg, again)
		}
	}
	s.checkEnd(t)
}

func TestKilledAgentTellsOfABorgThatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.agent.Kill()
	harness.Eventually(t, "borg to end", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", s.borg)); err == nil {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	s.agent.Restart()
	s.checkEnd(t)
}

func TestKilledCoordinatorAdoptsTheRunningJob(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.c.Kill()
	if again := s.onlyBorg(t); again != s.borg {
		t.Fatalf("borg %d is gone, %d runs", s.borg, again)
	}
	s.c.Restart()
	s.checkEnd(t)
}

func TestKilledCoordinatorGetsTheResultOfAJobThatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.c.Kill()
	harness.Eventually(t, "borg to end", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", s.borg)); err == nil {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	s.c.Restart()
	s.checkEnd(t)
}

func TestCancelledBackupLeavesNoProcessAndNoLock(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.c.MustCLI("job", "cancel", string(s.job.ID))
	s.c.Await(s.job.ID, job.Cancelled)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", s.borg)); err == nil {
		t.Error("cancelled was said while borg still runs")
	}
	if archives := harness.Archives(t, s.location, s.passphrase); len(archives) != 0 {
		t.Errorf("archives: %v", archives)
	}
}

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// repository is one that a coordinator knows.
type repository struct{ name, location, passphrase string }

// addRepository makes a repository, and host initialises it.
func addRepository(c *harness.Coordinator, name, host string) repository {
	r := repository{name: name}
	r.location, r.passphrase = c.AddRepository(name)
	c.Init(host, name)
	return r
}

// crashScene is a backup in its middle, where its borg is held.
type crashScene struct {
	c          *harness.Coordinator
	agent      *harness.Agent
	repository repository
	job        job.Job
	borg       int // borg's process
}

func midBackup(t *testing.T) *crashScene {
	t.Helper()
	return midBackupOn(t, harness.StartCoordinator(t))
}

func midBackupOn(t *testing.T, c *harness.Coordinator) *crashScene {
	t.Helper()
	s := &crashScene{c: c, agent: c.AddAgent("web1", harness.AgentOptions{})}
	s.repository = addRepository(c, "main", "web1")
	s.job, s.borg = hold(t, c, "web1", s.repository)
	return s
}

// hold starts a backup of new files, and stops its borg in the middle.
func hold(t *testing.T, c *harness.Coordinator, host string, r repository) (job.Job, int) {
	t.Helper()
	files := t.TempDir()
	harness.MakeTree(t, files, 8, 1<<20) // each takes borg half a second
	j := c.Submit(backupRequest(host, r, files))
	harness.Eventually(t, "borg to be in the middle", func() error {
		now := c.Job(j.ID)
		if now.State.Terminal() {
			t.Fatalf("the backup ended too early: %s %+v", now.State, now.Failure)
		}
		if now.Progress == nil || now.Progress.NFiles < 1 {
			return errors.New("it is not")
		}
		return nil
	})
	process := onlyBorg(t, r)
	signal(t, process, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(process, syscall.SIGCONT) }) // it is gone, if all went well
	return j, process
}

func backupRequest(host string, r repository, path string) string {
	return fmt.Sprintf(`{"host":%q,"kind":"backup","repository":%q,"spec":{"paths":[%q],"compression":"lzma,9"}}`, host, r.name, path)
}

func signal(t *testing.T, process int, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(process, signal); err != nil {
		t.Fatal(err)
	}
}

// release lets borg go on.
func (s *crashScene) release(t *testing.T) {
	t.Helper()
	signal(t, s.borg, syscall.SIGCONT)
}

// wantSameBorg checks that the backup's borg is still the one that was held.
func (s *crashScene) wantSameBorg(t *testing.T) {
	t.Helper()
	if now := onlyBorg(t, s.repository); now != s.borg {
		t.Fatalf("borg %d is gone, %d runs", s.borg, now)
	}
}

// awaitBorgsEnd waits until borg is done, whoever hears of that.
func (s *crashScene) awaitBorgsEnd(t *testing.T) {
	t.Helper()
	harness.Eventually(t, "borg to end", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", s.borg)); err == nil {
			return errors.New("it runs")
		}
		return nil
	})
}

// onlyBorg returns the one borg create that runs for a repository.
func onlyBorg(t *testing.T, r repository) int {
	t.Helper()
	found := slices.DeleteFunc(harness.PIDs(r.location+"::"), func(pid int) bool {
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
	if archives := harness.Archives(t, s.repository.location, s.repository.passphrase); len(archives) != 1 || archives[0] != done.Result.Archive {
		t.Errorf("borg sees %v, the result names %s", archives, done.Result.Archive)
	}
	if locks, _ := filepath.Glob(filepath.Join(s.repository.location, "lock.exclusive", "*")); len(locks) > 0 {
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
	s.wantSameBorg(t)
	s.agent.Restart()
	s.c.AwaitOnline("web1")
	s.wantSameBorg(t)
	s.release(t)
	s.checkEnd(t)
}

func TestKilledAgentTellsOfABorgThatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.agent.Kill()
	s.release(t)
	s.awaitBorgsEnd(t)
	s.agent.Restart()
	s.checkEnd(t)
}

func TestKilledCoordinatorAdoptsTheRunningJob(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.c.Kill()
	s.wantSameBorg(t)
	s.c.Restart()
	s.c.AwaitOnline("web1")
	s.wantSameBorg(t)
	s.release(t)
	s.checkEnd(t)
}

func TestKilledCoordinatorGetsTheResultOfAJobThatEndedMeanwhile(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.c.Kill()
	s.release(t)
	s.awaitBorgsEnd(t)
	s.c.Restart()
	s.checkEnd(t)
}

func TestCancelledBackupLeavesNoProcessAndNoLock(t *testing.T) {
	t.Parallel()
	s := midBackup(t)
	s.c.MustCLI("job", "cancel", string(s.job.ID))
	s.release(t)
	s.c.Await(s.job.ID, job.Cancelled)
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", s.borg)); err == nil {
		t.Error("cancelled was said while borg still runs")
	}
	if archives := harness.Archives(t, s.repository.location, s.repository.passphrase); len(archives) != 0 {
		t.Errorf("archives: %v", archives)
	}
}

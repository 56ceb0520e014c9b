package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// stateScene is a fleet whose state was copied at a moment at which one job was
// queued and two were running; one of these still is, held, and the others and
// a later one are over.
type stateScene struct {
	c             *harness.Coordinator
	copied        string // the file
	identity      string // opens it
	repositories  [2]repository
	before        job.Job // over before the copy
	ended         job.Job // running in the copy, over after it
	queued        job.Job // queued in the copy, over after it
	later         job.Job // not in the copy
	across        job.Job // running in the copy and now
	acrossProcess int
}

func newStateScene(t *testing.T) *stateScene {
	t.Helper()
	s := &stateScene{c: harness.StartCoordinator(t)}
	for i, host := range []string{"web1", "web2"} {
		s.c.AddAgent(host, harness.AgentOptions{})
		s.repositories[i] = addRepository(s.c, "of-"+host, host)
	}
	small := t.TempDir()
	harness.MakeTree(t, small, 2, 1<<10)
	s.before = s.c.Submit(backupRequest("web1", s.repositories[0], small))
	s.c.Await(s.before.ID, job.Succeeded)
	var process int
	s.ended, process = hold(t, s.c, "web1", s.repositories[0])
	s.across, s.acrossProcess = hold(t, s.c, "web2", s.repositories[1])
	s.queued = s.c.Submit(backupRequest("web1", s.repositories[0], small))
	s.copy(t)
	signal(t, process, syscall.SIGCONT)
	s.ended = s.c.Await(s.ended.ID, job.Succeeded)
	s.queued = s.c.Await(s.queued.ID, job.Succeeded)
	s.later = s.c.Submit(backupRequest("web1", s.repositories[0], small))
	s.later = s.c.Await(s.later.ID, job.Succeeded)
	return s
}

// copy copies the state, to a recipient of age.
func (s *stateScene) copy(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	s.copied, s.identity = filepath.Join(dir, "state.age"), filepath.Join(dir, "identity")
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.identity, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.c.MustCLI("state", "backup", s.copied, "--recipient", identity.Recipient().String())
	if !strings.Contains(out, "coordinator.yaml") {
		t.Errorf("it does not say what is needed besides:\n%s", out)
	}
	text, err := os.ReadFile(s.copied)
	if err != nil || !strings.HasPrefix(string(text), "age-encryption.org/v1") {
		t.Fatalf("the copy is not encrypted: %v", err)
	}
}

// restore restores the copy into a data directory.
func (s *stateScene) restore(t *testing.T, data string) string {
	t.Helper()
	result := harness.Run(t, []string{"BORGFLEET_URL=", "BORGFLEET_TOKEN="}, harness.Binary(t, "borgfleet"),
		"state", "restore", s.copied, "--identity", s.identity, "--data", data, "--yes")
	if result.Code != 0 {
		t.Fatalf("state restore: exit code %d\n%s%s", result.Code, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// check checks what must hold once the restored coordinator c has heard its
// hosts, who tell of the jobs in told besides those of the copy.
func (s *stateScene) check(t *testing.T, c *harness.Coordinator, told ...job.Job) {
	t.Helper()
	c.AwaitOnline("web1")
	c.AwaitOnline("web2")
	signal(t, s.acrossProcess, syscall.SIGCONT)
	done := c.Await(s.across.ID, job.Succeeded)
	if done.Attempt != 1 {
		t.Errorf("the job that ran across took %d attempts", done.Attempt)
	}
	finished := []job.Job{s.later} // whether it is known or not, its archive is there
	for _, known := range append([]job.Job{s.before, s.ended, s.queued}, told...) {
		over := s.awaitResult(t, c, known)
		if over.Attempt != 1 {
			t.Errorf("job %s took %d attempts", known.ID, over.Attempt)
		}
		if known.ID != s.later.ID {
			finished = append(finished, over)
		}
	}
	s.checkArchives(t, s.repositories[0], finished...)
	s.checkArchives(t, s.repositories[1], done)
	if out := c.MustCLI("audit", "verify"); !strings.Contains(out, "each follows from the one before") {
		t.Errorf("audit verify: %s", out)
	}
	if out := c.MustCLI("audit", "list", "--action", "state."); !strings.Contains(out, "state.restore") || !strings.Contains(out, "state.backup") {
		t.Errorf("the audit does not tell of copy and restoration:\n%s", out)
	}
	if out := c.MustCLI("status"); !strings.Contains(out, "was restored from a copy of") {
		t.Errorf("status does not tell of the restoration:\n%s", out)
	}
}

// awaitResult waits until a coordinator has the result of a job, which it may
// not know at first.
func (s *stateScene) awaitResult(t *testing.T, c *harness.Coordinator, known job.Job) (found job.Job) {
	t.Helper()
	harness.Eventually(t, "job "+string(known.ID)+" to be over", func() error {
		if err := c.Get("/api/v1/jobs/"+string(known.ID), &found); err != nil {
			return err
		}
		if !found.State.Terminal() {
			return fmt.Errorf("it is %s (%s)", found.State, found.Reason)
		}
		return nil
	})
	if found.State != job.Succeeded || found.Result == nil {
		t.Errorf("job %s is %s after %d attempts: %+v", known.ID, found.State, found.Attempt, found.Failure)
	}
	return found
}

// checkArchives holds that borg sees what the results name, and nothing twice.
func (s *stateScene) checkArchives(t *testing.T, r repository, finished ...job.Job) {
	t.Helper()
	var want []string
	for _, j := range finished {
		if j.Result != nil {
			want = append(want, j.Result.Archive)
		}
	}
	got := harness.Archives(t, r.location, r.passphrase)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("borg sees %v, results name %v", got, want)
	}
}

// TestRestoredOverItself goes back to an older state in place: what hosts told
// since is in the stream.
func TestRestoredOverItself(t *testing.T) {
	t.Parallel()
	s := newStateScene(t)
	refused := s.c.CLI("state", "restore", s.copied, "--identity", s.identity, "--yes")
	if refused.Code == 0 || !strings.Contains(refused.Stderr, "in use by another coordinator") {
		t.Errorf("restored beside a running coordinator: %+v", refused)
	}
	s.c.Terminate(t)
	out := s.restore(t, s.c.Data)
	aside, err := filepath.Glob(filepath.Join(s.c.Data, "before-restore-*", "borgfleet.db"))
	if err != nil || len(aside) != 1 || !strings.Contains(out, filepath.Dir(aside[0])) {
		t.Errorf("what was there is in %v (%v), it says:\n%s", aside, err, out)
	}
	s.c.Restart()
	s.check(t, s.c, s.later)
}

// TestRestoredOnANewMachine has nothing but the copy: what hosts told since is
// only in their own memory. Of a job that is not in the copy they tell as long as
// nobody has stored its end.
func TestRestoredOnANewMachine(t *testing.T) {
	t.Parallel()
	s := newStateScene(t)
	untold, process := hold(t, s.c, "web1", s.repositories[0])
	s.c.Terminate(t)
	signal(t, process, syscall.SIGCONT)
	if err := os.RemoveAll(s.c.Data); err != nil {
		t.Fatal(err)
	}
	s.restore(t, s.c.Data)
	s.c.Restart()
	s.check(t, s.c, untold)
}

package faults_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// slowLink has every byte of the agent's link take its time.
func slowLink() scenario {
	return scenario{name: "agent / link delayed by 400 ms / the whole time", attempts: 1,
		options: func(testing.TB) options { return options{delay: 400 * time.Millisecond} },
		play: func(s *scene) {
			s.toMiddle(4)
			s.host.Kill()
			s.host.Restart()
			s.quick()
		}}
}

// twoCopies has an order come twice: the agent is slow to take it, and the
// coordinator sends it again. With late, the second copy is taken only when the
// job is over and forgotten.
func twoCopies(name string, late bool) scenario {
	return scenario{name: "agent / an order comes twice / " + name, play: func(s *scene) {
		s.host.points.Arm(fault.OrderRead)
		s.job = s.quick()
		s.host.points.AwaitReached(fault.OrderRead)
		harness.Eventually(s.t, "the order to be sent again", func() error {
			if !strings.Contains(s.c.Output(), "order sent again: job="+string(s.job)) {
				return errors.New("it is not")
			}
			return nil
		})
		s.host.points.Release(fault.OrderRead)
		if !late {
			return
		}
		s.host.points.Arm(fault.OrderRead)
		if !await(s.host.points, fault.OrderRead, 10*time.Second) {
			s.t.Log("the second copy was quicker")
		}
		s.is(job.Succeeded)
		harness.Eventually(s.t, "the job to be forgotten", s.host.empty)
		s.host.points.Release(fault.OrderRead)
	}}
}

// localMiddle breaks a backup into a directory of the host. There is no link
// whose rate could slow it down, so it gets work to do.
func localMiddle(what string, b breakage) scenario {
	p := phase{"middle, local repository", func(s *scene) {
		dir := s.t.TempDir()
		harness.MakeTree(s.t, dir, 10, 1<<20)
		s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{dir}, Compression: "lzma,9"})
		s.sending()
	}, nothing}
	made := broken(what, p, b)
	made.options = func(testing.TB) options { return options{local: true} }
	return made
}

// foreignLock has somebody that we know nothing of lock the repository.
func (s *scene) foreignLock() *harness.Process {
	s.t.Helper()
	env := []string{"BORG_PASSPHRASE=" + s.repo.passphrase, "BORG_BASE_DIR=" + s.t.TempDir(), "BORG_HOST_ID=somebody@elsewhere"}
	holder := harness.Start(s.t, "a foreign borg", env, "borg", "with-lock", s.repo.dir, "sleep", "1000")
	harness.Eventually(s.t, "the repository to be locked", func() error {
		if locks, _ := filepath.Glob(filepath.Join(s.repo.dir, "lock.exclusive", "*")); len(locks) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	return holder
}

// unlock ends what foreignLock started, as its owner would.
func (s *scene) unlock(holder *harness.Process) {
	s.t.Helper()
	for _, pid := range lab.Children(holder.PID()) {
		_ = syscall.Kill(pid, syscall.SIGTERM) // the sleep: borg then lets its lock go
	}
	holder.Wait(s.t)
}

// lockedOut kills a borg that waits for a lock.
func lockedOut() scenario {
	return scenario{name: "borg / kill / waiting for a lock", play: func(s *scene) {
		holder := s.foreignLock()
		s.job = s.quick()
		pid := s.borgPID()
		signal(s, pid, syscall.SIGKILL)
		s.gone(pid)
		s.unlock(holder)
	}}
}

// endsWhileAway has a job end while the coordinator is not there.
func endsWhileAway(what string, b breakage) scenario {
	return scenario{name: fmt.Sprintf("%s / %s / the job ends meanwhile", what, b.name), play: func(s *scene) {
		s.toMiddle(4)
		pid := s.borgPID()
		b.strike(s)
		s.gone(pid)
		b.repair(s)
	}}
}

// streamLost loses what the stream holds while the coordinator has not stored
// it: whoever told it must tell it again.
func streamLost() scenario {
	return scenario{name: "coordinator / kill, and the stream is lost / event-read", play: func(s *scene) {
		held := coordinatorAt(fault.EventRead)
		s.host.points.Arm(fault.FinishedJournaled)
		s.job = s.quick()
		s.host.points.AwaitReached(fault.FinishedJournaled)
		s.points.Arm(fault.EventRead)
		s.host.points.Release(fault.FinishedJournaled)
		s.points.AwaitReached(fault.EventRead)
		begun := time.Now()
		harness.Eventually(s.t, "a hello about it", func() error {
			status, err := s.host.status()
			if err == nil && !status.Bus.HelloAt.After(begun) {
				err = errors.New("none")
			}
			return err
		})
		s.c.Kill()
		held.leave(s)
		if err := os.RemoveAll(filepath.Join(s.c.Data, "bus", "store")); err != nil {
			s.t.Fatal(err)
		}
		s.c.Restart()
	}}
}

// clockJump sets a program's clock in the middle of a backup.
func clockJump(who, ahead string) scenario {
	return scenario{name: fmt.Sprintf("%s / clock jumps by %s / middle", who, ahead), play: func(s *scene) {
		s.toMiddle(5)
		points := s.host.points
		if who == "coordinator" {
			points = s.points
		}
		jump, err := time.ParseDuration(ahead)
		if err != nil {
			s.t.Fatal(err)
		}
		points.Clock(jump)
		s.is(job.Succeeded)
		points.Clock(0)
		s.quick()
	}}
}

func cancelCases() []scenario {
	cancelled := func(name string, play func(*scene)) scenario {
		return ends(scenario{name: "cancel / " + name, play: play}, job.Cancelled)
	}
	held := func(p phase) scenario {
		return ends(scenario{name: "cancel / held at " + p.name, play: func(s *scene) {
			p.reach(s)
			s.cancel()
			p.leave(s)
			s.is(job.Cancelled, job.Succeeded)
		}}, job.Cancelled, job.Succeeded)
	}
	return []scenario{
		ends(scenario{name: "cancel / queued", play: func(s *scene) {
			queued.reach(s)
			s.cancel()
			s.is(job.Cancelled)
		}}, job.Cancelled, job.Succeeded),
		quick(cancelled("host offline", func(s *scene) {
			s.host.Kill()
			s.job = s.quick()
			s.is(job.Queued)
			s.cancel()
			s.is(job.Cancelled)
			s.host.Restart()
			s.c.AwaitOnline(s.host.Host)
			if n := len(s.begun()); n != 0 {
				s.t.Errorf("%d borgs were started", n)
			}
		})),
		cancelled("waiting for a lock", func(s *scene) {
			holder := s.foreignLock()
			s.job = s.quick()
			pid := s.borgPID()
			s.cancel()
			s.gone(pid)
			s.is(job.Cancelled)
			s.unlock(holder)
		}),
		cancelled("silent upload of one large file", func(s *scene) {
			dir := s.t.TempDir()
			harness.MakeTree(s.t, dir, 1, 16<<20)
			s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{dir}, UploadLimit: 128, Compression: "none"})
			s.is(job.Running)
			pid := s.borgPID()
			s.cancel()
			s.gone(pid)
			s.is(job.Cancelled)
		}),
		cancelled("again and again", func(s *scene) {
			s.toMiddle(30)
			for range 5 {
				s.cancel()
			}
			s.is(job.Cancelled)
		}),
		cancelled("while the link is cut", func(s *scene) {
			s.toMiddle(60)
			pid := s.borgPID()
			s.host.machine.Link.Cut()
			s.cancel()
			<-time.After(cutTime) // the fault itself
			s.host.machine.Link.Heal()
			s.gone(pid)
			s.is(job.Cancelled)
		}),
		cancelled("check on a server that hangs", func(s *scene) {
			s.job = s.ask(job.Check, job.CheckSpec{VerifyData: true})
			serve := s.serve()
			signal(s, serve, syscall.SIGSTOP)
			pid := s.borgPID()
			s.cancel()
			s.gone(pid)
			signal(s, serve, syscall.SIGCONT)
			s.is(job.Cancelled)
		}),
		held(agentAt(fault.OrderRead)), held(agentAt(fault.OrderJournaled)), held(agentAt(fault.BorgStarted)),
		held(agentAt(fault.BorgEnded)), held(coordinatorAt(fault.OrderStored)), held(agentAt(fault.StartMarked)),
	}
}

// cancel cancels the job. That it is over already is no fault.
func (s *scene) cancel() {
	s.t.Helper()
	if r := s.c.CLI("job", "cancel", string(s.job)); r.Code != 0 && !strings.Contains(r.Stderr, "is over") {
		s.t.Fatalf("cancel: exit code %d: %s", r.Code, r.Stderr)
	}
}

// serve returns the server's borg of the first repository.
func (s *scene) serve() int {
	s.t.Helper()
	var found int
	harness.Eventually(s.t, "the server's borg", func() error {
		for _, pid := range harness.PIDs("borg serve") {
			for _, child := range lab.Children(s.server.PID()) {
				if child == pid {
					found = pid
					return nil
				}
			}
		}
		return errors.New("none")
	})
	return found
}

func identityCases() []scenario {
	journal := func(s *scene) string { return filepath.Join(s.host.Data, "journal.db") }
	crash := func(s *scene) { // of the whole host
		s.host.Kill()
		s.host.killRuns()
	}
	return []scenario{
		again(scenario{name: "host / power cut / middle", play: func(s *scene) {
			s.toMiddle(6)
			crash(s)
			s.host.Restart()
		}}),
		quick(again(scenario{name: "agent / journal lost / middle", play: func(s *scene) {
			s.toMiddle(6)
			s.host.Kill()
			if err := os.Remove(journal(s)); err != nil {
				s.t.Fatal(err)
			}
			s.host.orphans = 1
			s.host.Restart()
		}})),
		again(scenario{name: "agent / journal's tail corrupted / middle", play: func(s *scene) {
			s.toMiddle(6)
			s.host.Kill()
			lab.CorruptTail(s.t, journal(s), 12<<10)
			s.host.orphans = 1 // if it is beyond use
			s.host.Restart()
		}}),
		again(scenario{name: "agent / restored from an old image / middle", play: func(s *scene) {
			s.quick() // the image's journal knows of something
			harness.Eventually(s.t, "the first backup", s.over)
			harness.Eventually(s.t, "its journal to be settled", s.host.empty)
			image := s.t.TempDir()
			s.host.Terminate(s.t)
			copyTree(s.t, image, s.host.Data)
			s.host.Restart()
			s.toMiddle(6)
			crash(s)
			if err := os.RemoveAll(s.host.Data); err != nil {
				s.t.Fatal(err)
			}
			copyTree(s.t, s.host.Data, image)
			s.host.Restart()
		}}),
		quick(scenario{name: "agent / a second one with the same identity / middle", play: twin}),
	}
}

// twin starts a copy of the agent's machine beside it.
func twin(s *scene) {
	s.toMiddle(8)
	second := s.lab.Machine("twin")
	copied := filepath.Join(s.t.TempDir(), "data")
	copyTree(s.t, copied, s.host.Data)
	argv := append(second.Prefix(), harness.Binary(s.t, "borgfleet-agent"), "run", "--config", filepath.Join(s.host.Dir, "agent.yaml"), "--data", copied)
	process := harness.Start(s.t, "twin", nil, argv...)
	harness.Eventually(s.t, "an alert", func() error {
		var status struct{ Attention []struct{ Kind, Host string } }
		if err := s.c.Get("/api/v1/status", &status); err != nil {
			return err
		}
		for _, a := range status.Attention {
			if a.Kind == "duplicate" && a.Host == s.host.Host {
				return nil
			}
		}
		return fmt.Errorf("none: %v", status.Attention)
	})
	s.quick()
	harness.Eventually(s.t, "both jobs to be over", s.over)
	process.Kill()
	harness.KillAll(s.t, copied)
}

func copyTree(t testing.TB, to, from string) {
	t.Helper()
	if r := harness.Run(t, nil, "cp", "-a", "--no-target-directory", from, to); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
}

// ready returns what /readyz answers.
func (s *scene) ready() int {
	response, err := http.Get(s.c.HTTP + "/readyz")
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

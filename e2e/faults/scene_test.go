package faults_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// scenario is one case of the matrix.
type scenario struct {
	name    string // what breaks / how / when
	quick   bool   // also in `make test`
	options func(testing.TB) options
	play    func(*scene)
	states  []job.State // in which the jobs may end; empty: succeeded
	// attempts is how many a job may have needed; 0: one.
	attempts int
	// connections is how often a host over SSH may have been connected to anew.
	connections int
	// of says how jobs of a kind may end, in the place of states.
	of map[job.Kind][]job.State
}

// scene is a scenario that is played.
type scene struct {
	*world
	host *host
	repo *repository
	disk *lab.Disk // the small one that the case breaks
	job  job.ID    // the job that the fault hits

	download *download // what the fault hits, if that is one
	at       string    // the mount point
	url      string    // of the API; empty: the coordinator's
}

// phase is a moment in a job's life at which a fault can be placed.
type phase struct {
	name string
	// reach asks for a job and returns when it is there.
	reach func(*scene)
	// leave lets go what was held.
	leave func(*scene)
}

func nothing(*scene) {}

// Phases in which nothing needs to be held.
var (
	// queued is a job that waits, because its repository is busy with another.
	queued = phase{"queued", func(s *scene) {
		s.slowBackup(4)
		s.job = s.quick()
		s.is(job.Queued)
	}, nothing}
	// middle is a backup of which some has been sent.
	middle = phase{"middle", func(s *scene) { s.toMiddle(7) }, nothing}
)

// agentAt is where the agent, or a supervisor, is held at a point.
func agentAt(point string) phase {
	return phase{point, func(s *scene) {
		s.host.points.Arm(point)
		s.job = s.quick()
		s.host.points.AwaitReached(point)
	}, func(s *scene) { s.host.points.Release(point) }}
}

// coordinatorAt is where the coordinator is held at a point.
func coordinatorAt(point string) phase {
	return phase{point, func(s *scene) {
		s.points.Arm(point)
		s.job = s.quick()
		s.points.AwaitReached(point)
	}, func(s *scene) { s.points.Release(point) }}
}

// submitting is a coordinator that has stored a job and not answered. The
// submitter asks again with the same key in the end.
var submitting = phase{fault.SubmitStored, func(s *scene) {
	s.points.Arm(fault.SubmitStored)
	go func() {
		if response, err := s.c.Request("POST", "/api/v1/jobs", s.keyed()); err == nil {
			_ = response.Body.Close()
		}
	}()
	s.points.AwaitReached(fault.SubmitStored)
}, func(s *scene) { s.points.Release(fault.SubmitStored) }}

// keyed is a request for a small backup with an idempotency key.
func (s *scene) keyed() string {
	return strings.Replace(s.request(s.host, s.repo, job.Backup, job.BackupSpec{Paths: []string{"/etc/hostname"}}),
		"{", `{"idempotency_key":"once",`, 1)
}

// askAgain submits the keyed request as a client does that got no answer.
func (s *scene) askAgain() {
	if s.job == "" && len(s.plans) == 0 {
		s.job = s.c.Submit(s.keyed()).ID
		s.asked = append(s.asked, s.job)
	}
}

// cancelling is a coordinator that has stored a cancellation and not told it.
var cancelling = phase{fault.CancelStored, func(s *scene) {
	s.toMiddle(90)
	s.points.Arm(fault.CancelStored)
	s.c.MustCLI("job", "cancel", string(s.job))
	s.points.AwaitReached(fault.CancelStored)
}, func(s *scene) { s.points.Release(fault.CancelStored) }}

// toMiddle starts a backup that takes so many seconds, and waits until borg
// sends.
func (s *scene) toMiddle(seconds int) {
	s.t.Helper()
	s.job = s.slowBackup(seconds)
	s.sending()
}

// sending waits until borg has read some of the files.
func (s *scene) sending() {
	s.t.Helper()
	harness.Eventually(s.t, "borg to be in the middle", func() error {
		j := s.c.Job(s.job)
		if j.State.Terminal() {
			s.t.Fatalf("it ended too early: %s (%v)", j.State, j.Failure)
		}
		if j.Progress == nil || j.Progress.NFiles < 1 {
			return errors.New("it has not begun")
		}
		return nil
	})
}

// is waits until the job is in a state.
func (s *scene) is(states ...job.State) job.Job {
	s.t.Helper()
	return s.c.Await(s.job, states...)
}

// borgPID returns the process of the first attempt's borg.
func (s *scene) borgPID() int {
	s.t.Helper()
	var pid int
	harness.Eventually(s.t, "borg to run", func() error {
		if pid = s.host.borg(s.job.AttemptID(1)); pid == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	return pid
}

// borgGone waits until a process is no more.
func (s *scene) gone(pid int) {
	s.t.Helper()
	harness.Eventually(s.t, fmt.Sprintf("process %d to be gone", pid), func() error {
		if alive(pid) {
			return errors.New("it lives")
		}
		return nil
	})
}

// breakage is a fault and its repair.
type breakage struct {
	name   string
	strike func(*scene)
	lasts  time.Duration // between strike and repair
	repair func(*scene)
}

// How long faults last that take time: a stop as long as issue and contract
// name it, a cut long enough for retransmissions to have slowed down.
const (
	stopTime = 30 * time.Second
	cutTime  = 12 * time.Second
	// shortStop is for those where a longer one is not different.
	shortStop = 8 * time.Second
)

// Faults of the agent and of its link.
var (
	killAgent    = breakage{"kill", func(s *scene) { s.host.Kill() }, 0, func(s *scene) { s.host.Restart() }}
	stopAgent    = breakage{"stop", func(s *scene) { s.host.Stop() }, stopTime, func(s *scene) { s.host.Continue() }}
	restartAgent = breakage{"restart", func(s *scene) { s.host.Terminate(s.t) }, 0, func(s *scene) { s.host.Restart() }}
	cutAgent     = breakage{"cut", func(s *scene) { s.host.machine.Link.Cut() }, cutTime, heal}
	deafAgent    = breakage{"cut to the agent", func(s *scene) { s.host.machine.Link.CutFromHub() }, cutTime, heal}
	muteAgent    = breakage{"cut from the agent", func(s *scene) { s.host.machine.Link.CutToHub() }, cutTime, heal}
)

func heal(s *scene) { s.host.machine.Link.Heal() }

// Faults of the coordinator.
var (
	killCoordinator    = breakage{"kill", func(s *scene) { s.c.Kill() }, 0, func(s *scene) { s.c.Restart() }}
	stopCoordinator    = breakage{"stop", func(s *scene) { s.c.Stop() }, stopTime, func(s *scene) { s.c.Continue() }}
	restartCoordinator = breakage{"restart", func(s *scene) { s.c.Terminate(s.t) }, 0, func(s *scene) { s.c.Restart() }}
)

// Faults of borg and of its supervisor. There is nothing to repair.
var (
	killBorg       = breakage{"kill", func(s *scene) { signal(s, s.borgPID(), syscall.SIGKILL) }, 0, nothing}
	stopBorg       = breakage{"stop", func(s *scene) { signal(s, s.borgPID(), syscall.SIGSTOP) }, stopTime, func(s *scene) { signal(s, s.borgPID(), syscall.SIGCONT) }}
	killSupervisor = breakage{"kill", func(s *scene) { signal(s, s.supervisor(), syscall.SIGKILL) }, 0, nothing}
	stopSupervisor = breakage{"stop", func(s *scene) { signal(s, s.supervisor(), syscall.SIGSTOP) }, stopTime, func(s *scene) { signal(s, s.supervisor(), syscall.SIGCONT) }}
)

func signal(s *scene, pid int, with syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(pid, with); err != nil {
		s.t.Fatalf("signal %s to %d: %v", with, pid, err)
	}
}

// supervisor returns the process that watches the attempt's borg.
func (s *scene) supervisor() int {
	s.t.Helper()
	var found int
	harness.Eventually(s.t, "a supervisor", func() error {
		if s.host.sshd != nil {
			if found = s.host.noted(s.job.AttemptID(1), "claimed"); found == 0 {
				return errors.New("none")
			}
			return nil
		}
		for _, pid := range harness.PIDs("supervise") {
			if s.supervises(pid) {
				found = pid
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// supervises reports whether a supervisor has the lock of the job's directory.
func (s *scene) supervises(pid int) bool {
	links, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return slices.ContainsFunc(links, func(l os.DirEntry) bool {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, l.Name()))
		return strings.Contains(target, "/jobs/"+s.job.AttemptID(1)+"/")
	})
}

// broken makes a scenario of a fault in a phase.
func broken(what string, p phase, b breakage) scenario {
	return scenario{name: fmt.Sprintf("%s / %s / %s", what, b.name, p.name), play: func(s *scene) {
		p.reach(s)
		b.strike(s)
		p.leave(s)
		if b.lasts > 0 {
			<-time.After(b.lasts) // the fault itself
		}
		b.repair(s)
		s.askAgain()
	}}
}

package faults_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// deadTime is longer than either side of a connection waits for a sign of life.
const deadTime = 75 * time.Second

// Faults of the connection to a host over SSH, and of the host.
var (
	killConnection = breakage{"connection killed", (*scene).killConnections, 0, nothing}
	frozenServer   = breakage{"sshd stopped", func(s *scene) { s.freeze(syscall.SIGSTOP) }, deadTime, func(s *scene) { s.freeze(syscall.SIGCONT) }}
	cutBriefly     = shortly(cutAgent, cutTime)
	cutForLong     = breakage{"cut for long", func(s *scene) { s.host.machine.Link.Cut() }, deadTime, heal}
	crashHost      = breakage{"power cut", (*scene).crash, 0, func(s *scene) { s.host.sshd.Restart(s.t) }}
)

// over has scenarios played with a host over SSH.
func over(w way, cases ...scenario) []scenario {
	for i := range cases {
		before := cases[i].options
		cases[i].name = fmt.Sprintf("SSH, %s: %s", w, cases[i].name)
		cases[i].options = func(t testing.TB) options {
			o := options{}
			if before != nil {
				o = before(t)
			}
			o.way = w
			return o
		}
	}
	return cases
}

// reconnects allows a second connection to the host: the fault ends the first.
func reconnects(cases ...scenario) []scenario {
	for i := range cases {
		cases[i].connections = 1
	}
	return cases
}

func sshCases() []scenario {
	return slicesOf(
		over(direct, coordinatorOfSSHCases()...), over(direct, hostOverSSHCases()...), over(direct, diskOfSSHCases()...),
		over(near, depotCases()...), over(far, tunnelCases()...))
}

// coordinatorOfSSHCases break what holds the host's journal.
func coordinatorOfSSHCases() []scenario {
	return reconnects(
		broken("coordinator", coordinatorAt(fault.OrderStored), killCoordinator),
		broken("coordinator", agentAt(fault.OrderJournaled), killCoordinator),
		quick(broken("coordinator", agentAt(fault.BorgStarted), killCoordinator)),
		broken("coordinator", middle, killCoordinator),
		endsWhileAway("coordinator", killCoordinator),
		broken("coordinator", agentAt(fault.FinishedJournaled), killCoordinator),
		broken("coordinator", agentAt(fault.FinishedPublished), killCoordinator),
		broken("coordinator", agentAt(fault.VerdictRead), killCoordinator),
		ends(broken("coordinator", cancelling, killCoordinator), job.Cancelled),
		broken("coordinator", middle, stopCoordinator), // sshd gives it up meanwhile
		shelved(may(then(broken("coordinator", downloading, killCoordinator), (*scene).breaksOff), job.Download, job.Failed, job.Cancelled)),
		shelved(again(broken("coordinator", listed, killCoordinator))),
	)
}

// hostOverSSHCases break the host, and the way to it.
func hostOverSSHCases() []scenario {
	return append(reconnects(
		broken("host", agentAt(fault.OrderJournaled), killConnection),
		broken("host", agentAt(fault.BorgStarted), killConnection),
		quick(broken("host", middle, killConnection)),
		broken("host", agentAt(fault.BorgEnded), killConnection),
		ends(broken("host", cancelling, killConnection), job.Cancelled),
		shelved(then(broken("host", mounted, killConnection), func(s *scene) {
			s.readMounted()
			s.c.AwaitOnline(s.host.Host)
			s.umount()
		})),
		shelved(may(then(broken("host", downloading, killConnection), (*scene).breaksOff), job.Download, job.Failed, job.Cancelled)),
		broken("host", middle, frozenServer),
		broken("link", queued, cutForLong),
		broken("link", agentAt(fault.OrderJournaled), cutForLong),
		broken("link", middle, cutForLong),
		ends(scenario{name: "cancel / while the link is cut", play: cancelWhileCut}, job.Cancelled),
		again(broken("host", middle, crashHost)),
		again(broken("host", agentAt(fault.BorgEnded), crashHost)),
	),
		broken("link", agentAt(fault.BorgEnded), cutBriefly),
		again(ends(broken("supervisor", middle, killSupervisor), job.Succeeded, job.Warning)),
		broken("supervisor", middle, shortly(stopSupervisor, shortStop)),
		again(broken("borg", middle, killBorg)),
	)
}

// cancelWhileCut has borg, which does not need the link, be ended as soon as the
// host can be reached again.
func cancelWhileCut(s *scene) {
	s.toMiddle(150)
	pid := s.borgPID()
	s.host.machine.Link.Cut()
	s.cancel()
	<-time.After(deadTime) // the fault itself
	if !alive(pid) {
		s.t.Error("borg ended although nothing has reached it")
	}
	s.host.machine.Link.Heal()
	s.gone(pid)
	s.is(job.Cancelled)
}

func diskOfSSHCases() []scenario {
	return []scenario{
		ends(onDisk(scenario{name: "host / disk full / before the order", play: func(s *scene) {
			s.disk.Fill()
			s.job = s.quick()
			<-time.After(fullTime) // the fault itself
			s.disk.Free()
		}}, 64, ofAgent), job.Succeeded, job.Failed),
		ends(full("host", middle, ofAgent), job.Succeeded, job.Warning, job.Failed),
		onDisk(scenario{name: "coordinator / disk full / the job ends meanwhile", play: fullCoordinator}, 96, ofCoordinator),
		full("coordinator", agentAt(fault.BorgEnded), ofCoordinator),
	}
}

// depotCases have a host that reaches the depot by itself.
func depotCases() []scenario {
	return append(reconnects(
		quick(again(broken("coordinator", middle, killCoordinator))),
		ends(again(broken("coordinator", cancelling, killCoordinator)), job.Cancelled),
		again(broken("link", middle, cutForLong)),
		broken("host", middle, killConnection),
		shelved(again(broken("coordinator", listing, killCoordinator))),
		shelved(broken("coordinator", previewed, killCoordinator)),
		again(broken("host", middle, crashHost)),
	),
		broken("link", middle, cutBriefly),
		again(scenario{name: "depot / its borg killed / middle", play: func(s *scene) {
			s.toMiddle(6)
			signal(s, s.depotServe(), syscall.SIGKILL)
		}}),
		ends(onDisk(scenario{name: "depot / disk full / middle", play: fullDepot}, 64, ofCoordinator), job.Failed, job.Succeeded),
		ends(scenario{name: "cancel / in the depot", play: func(s *scene) {
			s.toMiddle(60)
			s.cancel()
			s.is(job.Cancelled)
		}}, job.Cancelled),
	)
}

// depotServe returns the borg that serves a host.
func (s *scene) depotServe() int {
	s.t.Helper()
	var found int
	harness.Eventually(s.t, "the depot's borg", func() error {
		for _, pid := range harness.PIDs("--restrict-to-repository " + s.repo.dir) {
			if parent(pid) == s.c.PID() {
				found = pid
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// fullDepot has the disk that the depot shares with what the coordinator knows
// run full under a backup.
func fullDepot(s *scene) {
	spare := filepath.Join(filepath.Dir(s.c.Data), "spare")
	if err := os.WriteFile(spare, make([]byte, 10<<20), 0o600); err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	harness.MakeTree(s.t, dir, 80, 1<<20)
	s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{dir}, Compression: "none"})
	harness.Eventually(s.t, "borg to begin", func() error {
		if len(s.host.borgs()) == 0 {
			return errors.New("it does not run")
		}
		return nil
	})
	harness.Eventually(s.t, "borg to give up", func() error {
		if locks, _ := filepath.Glob(filepath.Join(s.repo.dir, "lock.exclusive", "*")); len(s.host.borgs()) > 0 || len(locks) > 0 {
			return errors.New("it goes on")
		}
		return nil
	})
	if err := os.Remove(spare); err != nil { // a person makes space: what has happened may not be stored before
		s.t.Fatal(err)
	}
	if failed := s.c.Await(s.job, job.Failed); failed.Failure.Code != job.DiskFull {
		s.t.Errorf("it is %s (%v)", failed.State, failed.Failure)
	}
	s.quick()
}

// tunnelCases have a host whose way to the depot is the coordinator's connection.
func tunnelCases() []scenario {
	return reconnects(
		quick(again(broken("host", middle, killConnection))),
		again(broken("coordinator", middle, killCoordinator)),
		broken("coordinator", agentAt(fault.BorgEnded), killCoordinator),
		again(broken("link", middle, cutForLong)),
		again(broken("host", agentAt(fault.OrderJournaled), killConnection)),
		ends(again(broken("host", cancelling, killConnection)), job.Cancelled),
	)
}

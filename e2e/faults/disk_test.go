package faults_test

import (
	"errors"
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

// fullTime is how long a disk stays full where nothing tells that enough was
// tried.
const fullTime = 5 * time.Second

// onDisk gives a scenario a small disk for one of its directories.
func onDisk(s scenario, megabytes int, use func(*options, *lab.Disk)) scenario {
	disks := map[testing.TB]*lab.Disk{}
	s.options = func(t testing.TB) options {
		o := options{lab: lab.New(t)}
		disks[t] = o.lab.Disk(megabytes)
		use(&o, disks[t])
		return o
	}
	play := s.play
	s.play = func(stage *scene) {
		stage.disk = disks[stage.t]
		play(stage)
	}
	return s
}

func ofAgent(o *options, d *lab.Disk)       { o.agentData = d }
func ofCoordinator(o *options, d *lab.Disk) { o.data = d }
func ofStore(o *options, d *lab.Disk)       { o.storeDisk = d }

// full makes a scenario of a disk that fills up in a phase, and has room again
// some time later.
func full(what string, p phase, use func(*options, *lab.Disk)) scenario {
	fill := breakage{"disk full", func(s *scene) { s.disk.Fill() }, fullTime, func(s *scene) { s.disk.Free() }}
	return onDisk(broken(what, p, fill), 64, use)
}

// readOnly makes a scenario of a disk that fails, so that the system takes no
// more writes to it, and of its host that is then started again.
func readOnly(what string, p phase, use func(*options, *lab.Disk), again func(*scene)) scenario {
	fail := breakage{"disk read-only", func(s *scene) { s.disk.ReadOnly() }, fullTime, func(s *scene) {
		s.disk.ReadWrite()
		again(s)
	}}
	return onDisk(broken(what, p, fail), 96, use)
}

func diskCases() []scenario {
	restartAgent := func(s *scene) {
		s.host.Kill()
		// What borg's cache has lost with the disk, it does not mend by itself; the failure says so.
		if err := os.RemoveAll(filepath.Join(s.host.Data, "borg", ".cache")); err != nil {
			s.t.Fatal(err)
		}
		s.host.Restart()
	}
	restartCoordinator := func(s *scene) { s.c.Kill(); s.c.Restart() }
	return []scenario{
		// A job that cannot begin, or whose borg has no room for its cache, fails, and says so.
		ends(onDisk(scenario{name: "agent / disk full / before the order", play: func(s *scene) {
			s.disk.Fill()
			s.job = s.quick()
			<-time.After(fullTime) // the fault itself
			s.disk.Free()
		}}, 64, ofAgent), job.Succeeded, job.Failed),
		ends(full("agent", agentAt(fault.OrderRead), ofAgent), job.Succeeded, job.Failed),
		ends(full("agent", middle, ofAgent), job.Succeeded, job.Warning, job.Failed),
		full("agent", agentAt(fault.BorgEnded), ofAgent),
		full("agent", agentAt(fault.ExitUntold), ofAgent),
		quick(onDisk(scenario{name: "coordinator / disk full / the job ends meanwhile", play: fullCoordinator}, 96, ofCoordinator)),
		full("coordinator", coordinatorAt(fault.EventRead), ofCoordinator),
		full("coordinator", middle, ofCoordinator),
		again(ends(readOnly("agent", middle, ofAgent, restartAgent), job.Succeeded, job.Warning, job.Failed)),
		again(ends(readOnly("agent", agentAt(fault.BorgEnded), ofAgent, restartAgent), job.Succeeded, job.Warning)),
		readOnly("coordinator", middle, ofCoordinator, restartCoordinator),
		readOnly("coordinator", coordinatorAt(fault.EventRead), ofCoordinator, restartCoordinator),
		ends(onDisk(scenario{name: "store / disk full / middle", play: fullStore}, 24, ofStore), job.Failed, job.Succeeded),
	}
}

// fullCoordinator has a job end while the coordinator cannot store it.
func fullCoordinator(s *scene) {
	s.toMiddle(4)
	pid := s.borgPID()
	s.disk.Fill()
	harness.Eventually(s.t, "the coordinator to say that it is not ready", func() error {
		if code := s.ready(); code == 200 {
			return errors.New("it is ready")
		}
		return nil
	})
	refused := s.c.CLI("job", "submit", s.request(s.host, s.repo, job.List, job.ListSpec{}))
	taken := refused.Code == 0 && s.host.sshd != nil // without a stream beside it, the database may have room in itself
	if !taken && (refused.Code == 0 || !strings.Contains(refused.Stderr, "space")) {
		s.t.Errorf("a submission was answered with exit code %d: %s", refused.Code, refused.Stderr)
	}
	s.gone(pid)
	s.disk.Free()
	harness.Eventually(s.t, "the coordinator to be ready again", func() error {
		if code := s.ready(); code != 200 {
			return errors.New("it is not")
		}
		return nil
	})
}

// fullStore has a repository's disk run full under a backup.
func fullStore(s *scene) {
	dir := s.t.TempDir()
	harness.MakeTree(s.t, dir, 40, 1<<20)
	s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{dir}, Compression: "none"})
	if failed := s.is(job.Failed); failed.Failure.Code != job.DiskFull {
		s.t.Errorf("it failed with %s", failed.Failure.Code)
	}
	s.quick() // borg has given the space of what it could not finish back
}

func storeCases() []scenario {
	apart := func(s scenario) scenario {
		s.options = func(testing.TB) options { return options{storeApart: true} }
		return s
	}
	cut := func(name string, lasts time.Duration) breakage {
		return breakage{name, func(s *scene) { s.store.Link.Cut() }, lasts, func(s *scene) { s.store.Link.Heal() }}
	}
	return []scenario{
		apart(again(broken("link to the repository", middle, cut("cut for a moment", 6*time.Second)))),
		apart(again(broken("link to the repository", middle, cut("cut for longer", stopTime)))),
		apart(again(scenario{name: "link to the repository / cut / before the start", play: func(s *scene) {
			s.store.Link.Cut()
			s.job = s.quick()
			s.is(job.Running)
			s.borgPID()
			<-time.After(cutTime) // the fault itself
			s.store.Link.Heal()
		}})),
		quick(again(scenario{name: "repository's server / connection killed / middle", play: func(s *scene) {
			s.toMiddle(6)
			for pid := s.serve(); pid != s.server.PID() && pid > 1; pid = parent(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // the server's borg, and sshd's two processes above it
			}
		}})),
		again(scenario{name: "repository's server / its borg killed / middle", play: func(s *scene) {
			s.toMiddle(6)
			signal(s, s.serve(), syscall.SIGKILL)
		}}),
		scenario{name: "repository's server / its borg stopped / middle", play: func(s *scene) {
			s.toMiddle(6)
			pid := s.serve()
			signal(s, pid, syscall.SIGSTOP)
			<-time.After(stopTime) // the fault itself
			signal(s, pid, syscall.SIGCONT)
		}},
		ends(scenario{name: "repository's server / away / before the start", attempts: 3, play: func(s *scene) {
			s.server.Stop()
			s.job = s.quick()
			s.is(job.Running)
			s.borgPID()
			<-time.After(cutTime) // the fault itself
			s.server.Continue()
		}}, job.Succeeded),
	}
}

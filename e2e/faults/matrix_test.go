package faults_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// matrix is every case.
func matrix() []scenario {
	return slicesOf(agentCases(), supervisorCases(), borgCases(), coordinatorCases(), busCases(), storeCases(), cancelCases(), identityCases(), diskCases(),
		listingCases(), downloadCases(), mountCases(), pruneCases(), deleteCases(), passphraseCases(), sshCases(),
		planCases(), noticeCases(), hookCases(), restoreTestCases())
}

func slicesOf(parts ...[]scenario) (all []scenario) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// TestMatrix plays the quick cases, all of them with BORGFLEET_MATRIX=all, or
// those whose name matches it.
func TestMatrix(t *testing.T) {
	which := os.Getenv("BORGFLEET_MATRIX")
	wanted := func(s scenario) bool { return s.quick }
	if which == "all" {
		wanted = func(scenario) bool { return true }
	} else if which != "" {
		pattern, err := regexp.Compile(which)
		if err != nil {
			t.Fatalf("BORGFLEET_MATRIX: %v", err)
		}
		wanted = func(s scenario) bool { return pattern.MatchString(s.name) }
	}
	report := newReport()
	template(t) // before the cases need it all at once
	t.Run("cases", func(t *testing.T) {
		for i, s := range matrix() {
			if !wanted(s) {
				continue
			}
			t.Run(strings.ReplaceAll(s.name, " / ", "/"), func(t *testing.T) {
				t.Parallel()
				row := report.begin(i, s.name)
				defer row.end(t)
				row.saw(s.perform(t))
			})
		}
	})
	report.print(t, which == "all")
}

// perform plays a scenario and checks what became of it.
func (s scenario) perform(t *testing.T) finding {
	t.Helper()
	o := options{}
	if s.options != nil {
		o = s.options(t)
	}
	w := newWorld(t, o)
	stage := &scene{world: w, host: w.hosts[0], repo: w.repos[0]}
	s.play(stage)
	f := w.check()
	s.judge(&f)
	return f
}

// judge compares how the jobs ended with how they may.
func (s scenario) judge(f *finding) {
	states := s.states
	if len(states) == 0 {
		states = []job.State{job.Succeeded}
	}
	if f.connections > s.connections {
		f.breach(twice, "the host was connected to %d times anew, not %d", f.connections, s.connections)
	}
	for _, j := range f.jobs {
		may := states
		if own := s.of[j.Kind]; own != nil {
			may = own
		}
		if !slices.Contains(may, j.State) {
			f.breach(lost, "job %s of kind %s ended %s (%v), not %v", j.ID, j.Kind, j.State, j.Failure, may)
		}
		if limit := max(1, s.attempts); j.Attempt > limit {
			f.breach(twice, "job %s needed %d attempts, not %d", j.ID, j.Attempt, limit)
		}
	}
}

// again allows a second attempt: the fault ends borg, or what knows of it.
func again(s scenario) scenario {
	s.attempts = 2
	return s
}

// ends says how the jobs may end.
func ends(s scenario, states ...job.State) scenario {
	s.states = states
	return s
}

func quick(s scenario) scenario {
	s.quick = true
	return s
}

func agentCases() []scenario {
	return []scenario{
		broken("agent", queued, killAgent),
		broken("agent", agentAt(fault.OrderRead), killAgent),
		quick(broken("agent", agentAt(fault.OrderJournaled), killAgent)),
		broken("agent", agentAt(fault.BorgStarted), killAgent),
		broken("agent", middle, killAgent),
		quick(broken("agent", agentAt(fault.BorgEnded), killAgent)),
		broken("agent", agentAt(fault.FinishedJournaled), killAgent),
		broken("agent", agentAt(fault.FinishedPublished), killAgent),
		broken("agent", agentAt(fault.VerdictRead), killAgent),
		ends(broken("agent", cancelling, killAgent), job.Cancelled),
		broken("agent", queued, stopAgent),
		broken("agent", agentAt(fault.OrderRead), stopAgent),
		broken("agent", agentAt(fault.OrderJournaled), stopAgent),
		broken("agent", middle, stopAgent),
		broken("agent", agentAt(fault.FinishedJournaled), stopAgent),
		ends(broken("agent", cancelling, stopAgent), job.Cancelled),
		broken("agent", queued, restartAgent),
		quick(broken("agent", middle, restartAgent)),
		ends(broken("agent", cancelling, restartAgent), job.Cancelled),
		broken("agent", queued, cutAgent),
		broken("agent", coordinatorAt(fault.OrderStored), cutAgent),
		broken("agent", agentAt(fault.OrderJournaled), cutAgent),
		quick(broken("agent", middle, cutAgent)),
		broken("agent", agentAt(fault.FinishedJournaled), cutAgent),
		ends(broken("agent", cancelling, cutAgent), job.Cancelled),
		broken("agent", coordinatorAt(fault.OrderStored), muteAgent),
		broken("agent", middle, muteAgent),
		broken("agent", agentAt(fault.FinishedJournaled), deafAgent),
		broken("agent", middle, deafAgent),
		broken("agent", coordinatorAt(fault.OrderStored), deafAgent),
		slowLink(),
		twoCopies("while it runs", false), twoCopies("after its end", true),
	}
}

func supervisorCases() []scenario {
	return []scenario{
		again(broken("supervisor", agentAt(fault.StartMarked), killSupervisor)),
		quick(ends(again(broken("supervisor", agentAt(fault.StartUntold), killSupervisor)), job.Succeeded, job.Warning)),
		ends(again(broken("supervisor", middle, killSupervisor)), job.Succeeded, job.Warning), // borg's report is there, its exit status is not
		ends(again(broken("supervisor", agentAt(fault.ExitUntold), killSupervisor)), job.Succeeded, job.Warning),
		broken("supervisor", middle, stopSupervisor),
	}
}

func borgCases() []scenario {
	return []scenario{
		quick(again(broken("borg", middle, killBorg))),
		again(localMiddle("borg", killBorg)),
		broken("borg", middle, stopBorg),
		again(lockedOut()),
	}
}

func coordinatorCases() []scenario {
	return []scenario{
		quick(broken("coordinator", submitting, killCoordinator)),
		broken("coordinator", queued, killCoordinator),
		quick(broken("coordinator", coordinatorAt(fault.OrderStored), killCoordinator)),
		broken("coordinator", coordinatorAt(fault.OrderReplied), killCoordinator),
		broken("coordinator", middle, killCoordinator),
		broken("coordinator", coordinatorAt(fault.EventRead), killCoordinator),
		quick(broken("coordinator", coordinatorAt(fault.EventStored), killCoordinator)),
		ends(broken("coordinator", cancelling, killCoordinator), job.Cancelled),
		broken("coordinator", agentAt(fault.FinishedPublished), killCoordinator),
		endsWhileAway("coordinator", killCoordinator),
		broken("coordinator", middle, stopCoordinator),
		broken("coordinator", agentAt(fault.FinishedJournaled), stopCoordinator),
		broken("coordinator", queued, restartCoordinator),
		broken("coordinator", middle, restartCoordinator),
		ends(broken("coordinator", cancelling, restartCoordinator), job.Cancelled),
		endsWhileAway("coordinator", restartCoordinator),
		streamLost(),
		clockJump("coordinator", "1h"), clockJump("coordinator", "-1h"),
		clockJump("agent", "1h"), clockJump("agent", "-24h"),
	}
}

package faults_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// then plays on after the repair.
func then(s scenario, after func(*scene)) scenario {
	play := s.play
	s.play = func(stage *scene) {
		play(stage)
		after(stage)
	}
	return s
}

// may says how jobs of a kind may end, besides well.
func may(s scenario, kind job.Kind, states ...job.State) scenario {
	s.of = map[job.Kind][]job.State{kind: append([]job.State{job.Succeeded}, states...)}
	return s
}

// shortly lets a fault last only as long as has a meaning for pieces and mounts.
func shortly(b breakage, lasts time.Duration) breakage {
	b.lasts = lasts
	return b
}

func allShelved(cases []scenario) []scenario {
	for i := range cases {
		cases[i] = shelved(cases[i])
	}
	return cases
}

func listingCases() []scenario {
	return allShelved([]scenario{
		again(broken("agent", listing, killAgent)),
		again(broken("agent", listed, killAgent)),
		broken("agent", listing, shortly(stopAgent, shortStop)),
		broken("agent", listing, cutAgent),
		again(broken("supervisor", listing, killSupervisor)),
		again(broken("borg", listing, killBorg)),
		broken("coordinator", listing, killCoordinator),
		again(broken("coordinator", listed, killCoordinator)),
		broken("external bus", listing, killBus),
	})
}

func downloadCases() []scenario {
	breaks := func(what string, b breakage) scenario {
		return may(then(broken(what, downloading, b), (*scene).breaksOff), job.Download, job.Failed, job.Cancelled)
	}
	lasts := func(what string, b breakage) scenario {
		return then(broken(what, downloading, b), (*scene).goesOn)
	}
	return allShelved([]scenario{
		breaks("agent", killAgent),
		lasts("agent", shortly(stopAgent, shortStop)),
		lasts("agent", cutAgent),
		breaks("supervisor", killSupervisor),
		breaks("borg", killBorg),
		lasts("borg", shortly(stopBorg, shortStop)),
		breaks("coordinator", killCoordinator),
		lasts("external bus", killBus),
		may(walksAway(), job.Download, job.Cancelled, job.Failed),
	})
}

func mountCases() []scenario {
	lasts := func(what string, b breakage) scenario {
		return then(broken(what, mounted, b), func(s *scene) {
			s.readMounted()
			s.c.AwaitOnline(s.host.Host)
			s.umount()
		})
	}
	ends := func(what string, b breakage) scenario {
		return may(broken(what, mounted, b), job.Mount, job.Failed)
	}
	return allShelved([]scenario{
		lasts("agent", killAgent),
		lasts("agent", cutAgent),
		may(lasts("supervisor", killSupervisor), job.Mount, job.Failed), // how it ended nobody can say
		quick(ends("borg", killMountBorg)),
		lasts("borg", stopMountBorg),
		ends("host", powerCut),
		lasts("coordinator", killCoordinator),
		{name: "coordinator / kill / unmounted meanwhile", play: func(s *scene) {
			s.mount(2)
			pid := s.borgPID()
			s.c.Kill()
			s.gone(pid)
			s.c.Restart()
		}},
		lasts("external bus", killBus),
		may(scenario{name: "cancel / mounted", play: func(s *scene) {
			s.mount(0)
			s.cancel()
			s.is(job.Cancelled)
		}}, job.Mount, job.Cancelled),
	})
}

func pruneCases() []scenario {
	return allShelved([]scenario{
		broken("agent", previewed, killAgent),
		broken("agent", previewed, cutAgent),
		quick(broken("coordinator", previewed, killCoordinator)),
		broken("external bus", previewed, killBus),
		again(broken("supervisor", pruningAt(fault.ExitUntold), killSupervisor)),
		may(scenario{name: "cancel / dry run done, untold", play: func(s *scene) {
			previewing.reach(s)
			s.cancel()
			previewing.leave(s)
		}}, job.Prune, job.Cancelled),
	})
}

// pruningAt is a prune after its dry run, with the supervisor held at a point.
func pruningAt(point string) phase {
	return phase{"pruned, " + point, func(s *scene) {
		previewed.reach(s)
		s.host.points.Arm(point)
		previewed.leave(s)
		s.host.points.AwaitReached(point)
	}, func(s *scene) { s.host.points.Release(point) }}
}

func deleteCases() []scenario {
	started, ended := deletingAt("deleting", fault.BorgStarted), deletingAt("deleted, untold", fault.BorgEnded)
	return allShelved([]scenario{
		broken("agent", started, killAgent),
		broken("agent", ended, killAgent),
		broken("agent", ended, cutAgent),
		may(broken("supervisor", deletingAt("deleted, exit-untold", fault.ExitUntold), killSupervisor), job.Delete, job.Failed, job.Warning),
		may(scenario{name: "borg / kill / deleting", play: func(s *scene) {
			s.job = s.deletePamphlets()
			serve := s.serve()
			signal(s, serve, syscall.SIGSTOP)
			signal(s, s.borgPID(), syscall.SIGKILL)
			signal(s, serve, syscall.SIGCONT)
		}}, job.Delete, job.Failed),
		broken("coordinator", deletingHere("deleted, event-read", fault.EventRead), killCoordinator),
		broken("coordinator", deletingHere("deleted, event-stored", fault.EventStored), killCoordinator),
		broken("external bus", ended, killBus),
	})
}

// withPassphrase asks for a list of the archives with a passphrase of its own.
func (s *scene) withPassphrase() {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodGet, s.c.HTTP+"/api/v1/backups/borg/archives?host="+s.host.Host+"&repository_path="+s.repo.name, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.c.Token())
	request.Header.Set("X-Borg-Passphrase", s.repo.passphrase)
	request.Header.Set("Prefer", "respond-async")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	var j job.Job
	if err := errors.Join(err, json.Unmarshal(text, &j)); err != nil || response.StatusCode != http.StatusAccepted {
		s.t.Fatalf("%s, %v: %s", response.Status, err, text)
	}
	s.job = j.ID
	s.asked = append(s.asked, j.ID)
}

func passphraseCases() []scenario {
	held := func(at phase, points func(*scene) *lab.Points) phase {
		return phase{at.name + ", with a passphrase of its own", func(s *scene) {
			points(s).Arm(at.name)
			s.withPassphrase()
			points(s).AwaitReached(at.name)
		}, at.leave}
	}
	stored := held(coordinatorAt(fault.OrderStored), func(s *scene) *lab.Points { return s.points })
	journaled := held(agentAt(fault.OrderJournaled), func(s *scene) *lab.Points { return s.host.points })
	return allShelved([]scenario{
		broken("coordinator", stored, killCoordinator),
		broken("agent", journaled, killAgent),
	})
}

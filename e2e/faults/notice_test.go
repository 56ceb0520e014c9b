package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// sink is a target of notifications.
type sink struct {
	*httptest.Server
	sync.Mutex
	away    bool
	refused int
	taken   []notice // what came, as often as it came
}

// notice is one message.
type notice struct {
	ID     string
	Alerts []struct {
		Status string
		Job    job.ID
	}
	Runs []struct{ ID, Plan, State string }
}

func (k *sink) take(w http.ResponseWriter, r *http.Request) {
	k.Lock()
	defer k.Unlock()
	var n notice
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil || k.away {
		k.refused++
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	k.taken = append(k.taken, n)
}

func (k *sink) leave(away bool) {
	k.Lock()
	defer k.Unlock()
	k.away = away
}

func (k *sink) refusals() int {
	k.Lock()
	defer k.Unlock()
	return k.refused
}

// about are the messages of something, by their ids, with how often they came.
func (k *sink) about(chosen func(notice) bool) map[string]int {
	k.Lock()
	defer k.Unlock()
	count := map[string]int{}
	for _, n := range k.taken {
		if chosen(n) {
			count[n.ID]++
		}
	}
	return count
}

// notify has the coordinator tell a sink of jobs with warnings, and of runs that
// ended well.
func (s *scene) notify() {
	s.t.Helper()
	s.told = &sink{}
	s.told.Server = httptest.NewServer(http.HandlerFunc(s.told.take))
	s.t.Cleanup(s.told.Close)
	s.call(http.MethodPut, "/api/v1/targets/ops", map[string]any{"kind": "webhook", "url": s.told.URL + "/hook"})
	s.call(http.MethodPut, "/api/v1/rules/all", map[string]any{
		"targets": []string{"ops"}, "kinds": []string{"warning"}, "group": "1s", "runs": []string{"success"},
	})
}

// warnedAt is an alert of which the coordinator tells, held at a point.
func warnedAt(point string) phase {
	return phase{"an alert, " + point, func(s *scene) {
		s.notify()
		s.points.Arm(point)
		s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{"/etc/hostname", "/there/is/no/such/file"}})
		s.points.AwaitReached(point)
	}, func(s *scene) { s.points.Release(point) }}
}

// endedAt is a run that ended well, of which nobody was told, with the coordinator
// held at a point.
func endedAt(point string) phase {
	return phase{"a run is to be told of, " + point, func(s *scene) {
		s.notify()
		s.hourly("one")
		s.points.Arm(point)
		s.toTheHour()
		s.points.AwaitReached(point)
	}, func(s *scene) { s.points.Release(point) }}
}

// away is a target that does not answer.
var away = phase{"an alert, its target away", func(s *scene) {
	s.notify()
	s.told.leave(true)
	s.job = s.ask(job.Backup, job.BackupSpec{Paths: []string{"/etc/hostname", "/there/is/no/such/file"}})
	harness.Eventually(s.t, "a try", func() error {
		if s.told.refusals() == 0 {
			return errors.New("none")
		}
		return nil
	})
}, func(s *scene) { s.told.leave(false) }}

func ofAlert(s *scene) func(notice) bool {
	return func(n notice) bool {
		return len(n.Alerts) == 1 && n.Alerts[0].Job == s.job && n.Alerts[0].Status == "raised"
	}
}

func ofRun(*scene) func(notice) bool { return func(n notice) bool { return len(n.Runs) > 0 } }

// once looks whether the sink was told once of something: one message, which may
// have come several times only where the coordinator was killed.
func once(s scenario, what func(*scene) func(notice) bool, most int) scenario {
	return then(s, func(s *scene) {
		s.awaitRuns()
		chosen := what(s)
		harness.Eventually(s.t, "everything to be told", func() error {
			if len(s.told.about(chosen)) == 0 {
				return fmt.Errorf("nothing of it was told: %+v", s.told.taken)
			}
			return s.allSent()
		})
		told := s.told.about(chosen)
		if len(told) != 1 {
			s.t.Errorf("it was told in %d messages: %+v", len(told), s.told.taken)
		}
		for id, n := range told {
			if n > most {
				s.t.Errorf("message %s came %d times, not %d", id, n, most)
			}
		}
	})
}

func noticeCases() []scenario {
	warns := func(s scenario) scenario { return ends(s, job.Warning) }
	gone := breakage{"away", nothing, shortStop, func(s *scene) { s.told.leave(false) }}
	stays := phase{away.name, away.reach, nothing}
	return []scenario{
		quick(warns(once(broken("coordinator", warnedAt(fault.MessageDue), killCoordinator), ofAlert, 1))),
		warns(once(broken("coordinator", warnedAt(fault.MessageDue), stopCoordinator), ofAlert, 1)),
		warns(once(broken("coordinator", warnedAt(fault.MessageSent), killCoordinator), ofAlert, 2)),
		warns(once(broken("coordinator", warnedAt(fault.MessageSent), stopCoordinator), ofAlert, 1)),
		once(broken("coordinator", endedAt(fault.RunEnded), killCoordinator), ofRun, 1),
		once(broken("coordinator", endedAt(fault.RunEnded), stopCoordinator), ofRun, 1),
		once(broken("coordinator", endedAt(fault.MessageDue), killCoordinator), ofRun, 1),
		once(broken("coordinator", endedAt(fault.MessageSent), killCoordinator), ofRun, 2),
		warns(once(broken("target", stays, gone), ofAlert, 1)),
		warns(once(broken("coordinator", away, killCoordinator), ofAlert, 1)),
	}
}

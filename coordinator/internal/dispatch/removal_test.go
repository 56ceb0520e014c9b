package dispatch_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// forget removes a host as the registry does before it tells anybody.
func (w *world) forget(host string) {
	w.t.Helper()
	if _, err := w.store.Apply(store.DeleteHost(host)); err != nil {
		w.t.Fatal(err)
	}
	w.registry.mu.Lock()
	delete(w.registry.views, host)
	w.registry.mu.Unlock()
	w.link.mu.Lock()
	delete(w.link.agents, host)
	w.link.mu.Unlock()
	w.presence.Forget(host)
}

// remove removes a host. Its agent goes on, but is no longer heard.
func (w *world) remove(host string) {
	w.t.Helper()
	w.forget(host)
	w.dispatch().HostRemoved(host)
}

// add adds a host with a new agent.
func (w *world) add(name string) {
	w.t.Helper()
	host := fleet.Host{Name: name, Mode: fleet.ModeAgent, CreatedAt: time.Now()}
	if _, err := w.store.Apply(store.CreateHost(host)); err != nil {
		w.t.Fatal(err)
	}
	w.registry.mu.Lock()
	w.registry.views[name] = fleet.HostView{Host: host}
	w.registry.mu.Unlock()
	w.agents[name] = newAgent(name, w.publish)
	w.link.mu.Lock()
	w.link.agents[name] = w.agents[name]
	w.link.mu.Unlock()
}

func (w *world) expectUnhosted(id job.ID) {
	w.t.Helper()
	j := w.expect(id, job.Failed, 1, "")
	if j.Failure.Code != job.Interrupted || j.Failure.Retryable || !strings.Contains(j.Failure.Message, "host web1 was removed") || j.FinishedAt == nil {
		w.t.Errorf("job ended with %+v", j.Failure)
	}
}

func TestRemovedHost(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		running := w.submit(backup("web1", "web"))
		w.expect(running.ID, job.Running, 1, "")
		w.link.setFault(func(string) (error, error) { return nil, errLost })
		sent := w.submit(backup("web1", "db"))
		w.job(sent.ID)
		w.link.setFault(nil)
		queued := w.submit(backup("web1", "db"))
		other := w.submit(backup("web2", "web"))
		w.job(other.ID)

		old := w.agents["web1"]
		w.remove("web1")
		w.expectUnhosted(running.ID)
		w.expectUnhosted(sent.ID)
		if j := w.expect(queued.ID, job.Cancelled, 0, ""); j.CancelRequested || j.Failure.Message != "host web1 was removed before the job ran" {
			t.Errorf("job %+v, %+v", j, j.Failure)
		}
		w.hello("web2")
		w.expect(other.ID, job.Running, 1, "") // the repository is free

		old.tell(first(running), job.Event{Type: job.EventStarted, PID: 1})
		old.tell(first(running), succeeded())
		w.mustDeliver() // what its agent had said before
		w.expectUnhosted(running.ID)
		if _, err := w.dispatch().HandleHello(context.Background(), old.hello()); job.AsFailure(err).Code != job.UnknownHost {
			t.Errorf("hello of a host that is no more: %v", err)
		}
		if runs, err := w.store.Runs("web1"); err != nil || len(runs) != 0 {
			t.Errorf("a removed host has runs %v, %v", runs, err)
		}
		w.dispatch().HostRemoved("web1") // nothing is left to do
		w.expectUnhosted(running.ID)
		w.expect(other.ID, job.Running, 1, "")
	})
}

func TestHostRemovedInAnEarlierLife(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		running := w.submit(backup("web1", "web"))
		w.expect(running.ID, job.Running, 1, "")
		queued, other := w.submit(backup("web1", "web")), w.submit(backup("web2", "db"))
		w.job(other.ID)
		w.forget("web1") // and then the coordinator dies
		w.restart()
		w.expectUnhosted(running.ID)
		w.expect(queued.ID, job.Cancelled, 0, "")
		w.hello("web2")
		w.expect(other.ID, job.Running, 1, "")
	})
}

func TestRemovalThatCannotBeStored(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		running := w.submit(backup("web1", "web"))
		w.job(running.ID)
		fail := 1
		w.dispatch().WrapApply(func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
			return func(changes ...store.Change) (uint64, error) {
				if fail--; fail >= 0 {
					return 0, errors.New("disk full")
				}
				return inner(changes...)
			}
		})
		w.forget("web1")
		w.dispatch().HostRemoved("web1")
		w.expectUnhosted(running.ID) // by Run
	})
}

func TestManyJobsOfARemovedHost(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		var changes []store.Change
		for range 1200 { // more than go into one transaction
			changes = append(changes, store.CreateJob(job.Job{
				ID: job.NewID(time.Now()), Kind: job.Check, Host: "web1", Repository: "web", State: job.Queued,
				SubmittedAt: time.Now(), Spec: job.CheckSpec{}, Attempts: []job.Attempt{},
			}))
		}
		if _, err := w.store.Apply(changes...); err != nil {
			t.Fatal(err)
		}
		w.restart()
		w.remove("web1")
		if open, err := w.store.OpenJobs(); err != nil || len(open) != 0 {
			t.Errorf("%d jobs are still open, %v", len(open), err)
		}
	})
}

// TestAnotherHostOfTheSameName has the old agent's machine enrolled anew, with
// its journal.
func TestAnotherHostOfTheSameName(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		before := w.submit(backup("web1", "web"))
		w.job(before.ID)
		old := w.agents["web1"]
		time.Sleep(time.Second)
		w.remove("web1")
		time.Sleep(time.Second)
		w.add("web1")
		w.agents["web1"].attempts = old.attempts
		after := w.submit(backup("web1", "web"))
		reply := w.hello("web1")
		if len(reply.Verdicts) != 1 || reply.Verdicts[0].Action != bus.Stop {
			t.Errorf("verdicts %+v", reply.Verdicts)
		}
		w.expectUnhosted(before.ID)
		w.expect(after.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(after), succeeded())
		w.agents["web1"].tell(first(before), job.Event{Type: job.EventFinished, State: job.Cancelled})
		w.mustDeliver()
		w.expectUnhosted(before.ID)
		w.expect(after.ID, job.Succeeded, 1, "")
	})
}

func TestAttentionForgetsARemovedHost(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.submit(backup("web1", "web"))
		synctest.Wait()
		w.remove("web1")
		time.Sleep(time.Second)
		w.add("web1")
		for range 2 {
			s, err := w.dispatch().Status(context.Background())
			if err != nil || len(s.Attention) != 0 {
				t.Errorf("attention %+v, %v", s.Attention, err)
			}
			w.restart()
		}
	})
}

package dispatch_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// begin starts an agent: the journal is as it was, the run is another one.
func (a *agent) begin(instance string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instance, a.started, a.refused = instance, time.Now(), false
}

// clone is a copy of the agent's machine, with the same journal.
func (w *world) clone(host, instance string) *agent {
	a := w.agents[host]
	a.mu.Lock()
	defer a.mu.Unlock()
	twin := newAgent(host, w.publish)
	twin.journal, twin.revision, twin.seal = a.journal, a.revision, a.seal
	twin.instance, twin.started = instance, time.Now()
	for k, r := range a.attempts {
		copied := *r
		copied.events = slices.Clone(r.events)
		twin.attempts[k] = &copied
	}
	for k := range a.fences {
		twin.fences[k], twin.over[k] = true, a.over[k]
	}
	return twin
}

// hear hands over a hello of an agent that need not be the one that is reached.
func (w *world) hear(a *agent) bus.HelloReply {
	w.t.Helper()
	reply, err := w.dispatch().HandleHello(context.Background(), a.hello())
	if err != nil {
		w.t.Fatal(err)
	}
	a.settled(reply)
	synctest.Wait()
	return reply
}

// needs returns the kinds of what needs a person.
func (w *world) needs() (kinds []string) {
	w.t.Helper()
	status, err := w.dispatch().Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range status.Attention {
		kinds = append(kinds, a.Kind)
	}
	return kinds
}

func TestASecondAgentWithTheSameIdentityIsRefused(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		present := w.agents["web1"]
		present.begin("A")
		w.hello("web1")
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Running, 1, "")
		time.Sleep(time.Second)
		twin := w.clone("web1", "B")
		twin.attempts = map[key]*record{}
		reply := w.hear(twin)
		if reply.Refused == nil || reply.Refused.Code != job.Conflict || reply.Refused.Hint == "" || len(reply.Verdicts) != 0 {
			t.Fatalf("reply to the second agent: %+v", reply)
		}
		w.expect(j.ID, job.Running, 1, "") // which the second one does not know
		if got := w.needs(); !slices.Contains(got, "duplicate") {
			t.Errorf("nobody is told: %v", got)
		}
		next := w.submit(backup("web1", "db"))
		w.expect(next.ID, job.Running, 1, "")
		if len(present.orders) != 2 || len(twin.orders) != 0 {
			t.Errorf("orders: %d here, %d there", len(present.orders), len(twin.orders))
		}
		time.Sleep(2 * time.Minute)
		if got := w.needs(); slices.Contains(got, "duplicate") {
			t.Error("a second agent that is gone is still told of")
		}
	})
}

func TestAnAgentThatDoesNotAnswerIsSucceeded(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		old := w.agents["web1"]
		old.begin("A")
		w.hello("web1")
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Running, 1, "")
		time.Sleep(time.Second)
		twin := w.clone("web1", "B")
		old.setUp(false) // stopped, not gone
		if reply := w.hear(twin); reply.Refused != nil {
			t.Fatalf("the successor is refused: %v", reply.Refused)
		}
		w.expect(j.ID, job.Running, 1, "")
		w.link.agents["web1"] = twin
		old.setUp(true)
		if reply := w.hear(old); reply.Refused == nil {
			t.Error("both are at work")
		}
	})
}

func TestAnOrderForARunThatIsGoneGoesToTheNextOne(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		a := w.agents["web1"]
		a.begin("A")
		w.hello("web1")
		held := make(chan struct{})
		w.link.setFault(func(string) (error, error) { <-held; return errLost, nil })
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Sent, 1, "")
		w.link.setFault(nil)
		a.begin("B") // killed and started while the order travels
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		close(held)
		w.expect(j.ID, job.Running, 1, "")
		if len(a.orders) != 1 || a.orders[0].Instance != "B" {
			t.Errorf("orders taken: %+v", a.orders)
		}
	})
}

// After a start of the coordinator the one that was refused must not be quicker
// than the one that it stood back for.
func TestARefusedAgentStandsBackAfterARestart(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		present := w.agents["web1"]
		present.begin("A")
		w.hello("web1")
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Running, 1, "")
		twin := w.clone("web1", "B")
		twin.attempts, twin.journal = map[key]*record{}, "journal-2"
		w.hear(twin)
		w.restart()
		if reply := w.hear(twin); reply.Refused == nil {
			t.Fatal("the refused one is at work after a restart")
		}
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		present.setUp(false)
		if reply := w.hear(twin); reply.Refused != nil {
			t.Errorf("refused, though nobody else is there: %v", reply.Refused)
		}
	})
	scenario(t, func(t *testing.T, w *world) {
		twin := w.agents["web1"]
		twin.begin("B")
		twin.refused = true
		w.restart()
		w.hello("web1")
		time.Sleep(2 * time.Minute) // the other one never comes back
		if reply := w.hello("web1"); reply.Refused != nil {
			t.Errorf("refused for ever: %v", reply.Refused)
		}
	})
}

// What an agent that was replaced has said before it was cut off must not bring
// its keys back.
func TestAReplacedAgentIsNotHeard(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		old := w.agents["web1"]
		old.begin("A")
		w.hello("web1")
		queued := old.hello()
		fresh := newAgent("web1", w.publish)
		fresh.begin("B")
		w.link.agents["web1"] = fresh
		w.registry.setKey("web1", fresh.hello().SealKey) // the enrolment that replaces it
		w.presence.Forget("web1")
		reply, err := w.dispatch().HandleHello(context.Background(), queued)
		if err != nil || reply.Refused == nil {
			t.Errorf("reply %+v, %v", reply, err)
		}
		if key := w.registry.key("web1"); key != fresh.hello().SealKey {
			t.Error("the old agent's key is back")
		}
		if got := w.needs(); slices.Contains(got, "duplicate") {
			t.Error("an alarm about an agent that was replaced")
		}
		if reply := w.hear(fresh); reply.Refused != nil {
			t.Errorf("the new agent is refused: %v", reply.Refused)
		}
	})
}

func TestRolledBackJournal(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		a := w.agents["web1"]
		a.begin("A")
		w.hello("web1")
		kept := w.submit(backup("web1", "web"))
		w.expect(kept.ID, job.Running, 1, "")
		time.Sleep(time.Second)
		image := w.clone("web1", "B")
		a.tell(first(kept), job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: "x"}}})
		a.tell(first(kept), job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: "y"}}})
		gone := w.submit(backup("web1", "db"))
		w.expect(gone.ID, job.Running, 1, "")
		w.mustDeliver()
		slow := a.hello()
		slow.Stamp.Revision, slow.Attempts = image.revision, nil // of the same run: proves nothing
		if _, err := w.dispatch().HandleHello(context.Background(), slow); err != nil {
			t.Fatal(err)
		}
		w.expect(gone.ID, job.Running, 1, "")

		image.started = time.Now()
		w.link.agents["web1"] = image
		if reply := w.hear(image); reply.Refused != nil {
			t.Fatal(reply.Refused)
		}
		if got := w.job(gone.ID); got.State != job.Queued || got.Attempts[0].Failure.Code != job.Interrupted {
			t.Errorf("what was lost is %s: %+v", got.State, got.Attempts)
		}
		w.expect(kept.ID, job.Running, 1, "")
		if got := w.needs(); !slices.Contains(got, "rolled_back") {
			t.Errorf("nobody is told: %v", got)
		}
		image.tell(first(kept), succeeded()) // under a number that was told before
		w.mustDeliver()
		w.expect(kept.ID, job.Succeeded, 1, "")
	})
}

func (r *registry) setKey(host, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	view := r.views[host]
	view.SealKey = key
	r.views[host] = view
}

func (r *registry) key(host string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.views[host].SealKey
}

package dispatch_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestHostAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []string{"web1"}, []string{"web"})
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Queued, 0, "host web1 has never connected")
		w.dispatch().HostConnected("web1")
		w.expect(j.ID, job.Queued, 0, "host web1 has just connected and not said hello yet")
		w.agents["web1"].setUp(false)
		w.hello("web1") // said just before it went
		back := w.expect(j.ID, job.Queued, 0, "host web1 offline since 00:00:00 UTC")
		if len(back.Attempts) != 0 {
			t.Errorf("attempts of an order that was not delivered: %+v", back.Attempts)
		}
		w.agents["web1"].setUp(true)
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		time.Sleep(time.Second)
		w.dispatch().HostDisconnected("web1")
		w.expect(j.ID, job.Running, 1, "host web1 offline since 00:00:01 UTC")
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		time.Sleep(2 * time.Minute) // silence
		w.expect(j.ID, job.Running, 1, "host web1 offline since 00:01:31 UTC")
	})
}

func TestAmbiguousOrderIsSentAgain(t *testing.T) {
	for name, fault := range map[string][2]error{
		"request lost": {errLost, nil}, "reply lost": {nil, errLost},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				w.link.setFault(func(string) (error, error) { return fault[0], fault[1] })
				j := w.submit(backup("web1", "web"))
				w.expect(j.ID, job.Sent, 1, "host web1 has not answered the order; its next hello settles it")
				w.link.setFault(nil)
				w.hello("web1")
				w.expect(j.ID, job.Running, 1, "")
				a := w.agents["web1"]
				if len(a.orders) != 1 {
					t.Fatalf("the host ran %d orders", len(a.orders))
				}
				a.tell(first(j), succeeded())
				w.mustDeliver()
				w.expect(j.ID, job.Succeeded, 1, "")
			})
		})
	}
}

func TestSentOrderToHostThatGoesAwayStaysSent(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.link.setFault(func(string) (error, error) { return nil, errLost })
		j := w.submit(backup("web1", "web"))
		w.job(j.ID)
		w.link.setFault(func(string) (error, error) { return fleet.ErrHostAway, nil })
		// A hello from before the order: the host does not know it yet.
		old := w.agents["web1"].hello()
		old.Attempts, old.Stamp.Revision = nil, 0
		if _, err := w.dispatch().HandleHello(context.Background(), old); err != nil {
			t.Fatal(err)
		}
		w.expect(j.ID, job.Sent, 1, "host web1 offline since 00:00:00 UTC")
	})
}

func TestLostAttempt(t *testing.T) {
	tests := map[string]struct {
		change func(a *agent)
		state  job.State
	}{
		"another journal":         {func(a *agent) { a.journal, a.revision = "journal-2", 1 }, job.Queued},
		"the journal has gone on": {func(a *agent) { a.revision++ }, job.Queued},
		"an older hello":          {func(a *agent) { a.revision = 0 }, job.Running},
		"no stamp":                {func(a *agent) { a.journal = "" }, job.Running},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				j := w.submit(backup("web1", "web"))
				w.expect(j.ID, job.Running, 1, "")
				a := w.agents["web1"]
				a.attempts = map[key]*record{}
				test.change(a)
				w.hello("web1")
				got := w.job(j.ID)
				if got.State != test.state {
					t.Fatalf("job is %s (%s), want %s", got.State, got.Reason, test.state)
				}
				if got.State == job.Queued {
					if f := got.Attempts[0].Failure; f == nil || f.Code != job.Interrupted {
						t.Errorf("first attempt failed with %+v", f)
					}
					time.Sleep(11 * time.Second)
					w.expect(j.ID, job.Running, 2, "")
				}
			})
		})
	}
}

func TestFencedAttempt(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		a := w.agents["web1"]
		kept := a.attempts
		a.attempts, a.journal = map[key]*record{}, "journal-2"
		w.hello("web1")
		time.Sleep(11 * time.Second)
		w.expect(j.ID, job.Running, 2, "")
		a.attempts[first(j)] = kept[first(j)] // the old journal is found again
		reply := w.hello("web1")
		for _, v := range reply.Verdicts {
			if v.Attempt == 1 && v.Action != bus.Stop {
				t.Errorf("verdict on the old attempt is %+v", v)
			}
		}
		a.tell(first(j), succeeded())
		w.mustDeliver()
		w.expect(j.ID, job.Running, 2, "")
		a.tell(key{j.ID, 2}, succeeded())
		w.mustDeliver()
		w.expect(j.ID, job.Succeeded, 2, "")
	})
}

func TestHelloOfHostileHost(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.mustDeliver()
		reply, err := w.dispatch().HandleHello(context.Background(), bus.Hello{
			Host: "web2", Stamp: bus.Stamp{Journal: "x", Revision: 9}, SealKey: "X", Attempts: []bus.HostAttempt{
				{Job: j.ID, Attempt: 1, LastSeq: 9}, {Job: "../x", Attempt: 1, LastSeq: 2, Finished: true},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []bus.Verdict{
			{Job: j.ID, Attempt: 1, Action: bus.Keep, Stored: 9}, {Job: "../x", Attempt: 1, Action: bus.Forget, Stored: 2},
		}
		if diff := cmp.Diff(want, reply.Verdicts); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
		w.expect(j.ID, job.Running, 1, "")
		if _, err := w.dispatch().HandleHello(context.Background(), bus.Hello{Host: "web9"}); job.AsFailure(err).Code != job.UnknownHost {
			t.Errorf("hello of an unknown host: %v", err)
		}
	})
}

// Every hello is told, also one that brings nothing new: whoever watches
// heartbeats counts on them.
func TestEveryHelloIsTold(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		watcher := w.feed.Watch()
		defer watcher.Close()
		for range 3 {
			w.hello("web1")
			updates, err := watcher.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(updates, func(u feed.Update) bool { return u.Type == feed.HostSeen && u.Host == "web1" }) {
				t.Errorf("not among %+v", updates)
			}
		}
	})
}

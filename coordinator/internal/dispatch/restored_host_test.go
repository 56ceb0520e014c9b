package dispatch_test

import (
	"context"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// What a host answers names no other host: subjects are made of it.
func TestTheOutcomeInAnAnswerIsOfItsHost(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.leave("web1")
		j := w.submit(backup("web1", "web"))
		over := succeeded()
		over.Job, over.Attempt, over.Host, over.Seq = j.ID, 1, "web2.x\r\nPUB y 0", 2
		w.agents["web1"].fences[first(j)], w.agents["web1"].over[first(j)] = true, over
		watcher := w.feed.Watch()
		defer watcher.Close()
		w.come("web1")
		w.expect(j.ID, job.Succeeded, 1, "")
		updates, err := watcher.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, update := range updates {
			if e := update.Event; e != nil && (e.Host != "web1" || update.Host != "web1") {
				t.Errorf("told of host %q: %+v", e.Host, e)
			}
		}
	})
}

// A queued job whose time is over by the restoration may have been done before:
// its host is asked, and does not begin it now.
func TestAJobThatIsOverdueAfterARestoration(t *testing.T) {
	for name, ran := range map[string]bool{"was done": true, "was never begun": false} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				w.leave("web1")
				j := w.submit(expiring("web1", "web", 60))
				copied, at := w.snapshot()
				if ran {
					w.agents["web1"].setUp(true)
					w.hello("web1")
					w.expect(j.ID, job.Running, 1, "")
					w.agents["web1"].tell(first(j), succeeded())
					w.mustDeliver()
					w.hello("web1")
					w.hello("web1")
				}
				time.Sleep(2 * time.Minute)
				w.agents["web1"].setUp(false)
				w.putBack(copied, at)
				time.Sleep(time.Hour)
				if got := w.job(j.ID); got.State != job.Queued {
					t.Fatalf("job is %s with %+v", got.State, got.Failure)
				}
				w.come("web1")
				if ran {
					w.expect(j.ID, job.Succeeded, 1, "")
				} else {
					w.over(j.ID, job.Expired, job.Timeout)
				}
				if n := len(w.agents["web1"].orders); (n == 1) != ran {
					t.Errorf("the host ran %d orders", n)
				}
			})
		})
	}
}

// A host cannot make more of a restoration than there may be jobs.
func TestJobsThatAreMadeAnewAreBounded(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.limits = dispatch.Limits{Open: 3, Running: 3, PerHost: 3}
		copied, at := w.snapshot()
		time.Sleep(time.Second)
		w.putBack(copied, at)
		var events []bus.StreamEvent
		for i := range 5 {
			events = append(events, bus.StreamEvent{
				Sequence: w.dispatch().StreamPosition() + uint64(i) + 1,
				Event: bus.Event{
					Event:  job.Event{Job: job.NewID(at), Host: "web1", Attempt: 1, Seq: 1, Type: job.EventAccepted},
					Origin: &bus.Origin{Kind: job.Backup, Repository: "web"},
				},
			})
		}
		if err := w.dispatch().HandleEvents(context.Background(), events); err != nil {
			t.Fatal(err)
		}
		page, err := w.dispatch().Jobs(context.Background(), job.Filter{Host: "web1"})
		if err != nil || len(page.Jobs) != 3 {
			t.Errorf("%d jobs, %v; want 3", len(page.Jobs), err)
		}
	})
}

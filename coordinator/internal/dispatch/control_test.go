package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestCancel(t *testing.T) {
	ctx := context.Background()
	t.Run("queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, []string{"web1"}, []string{"web"})
			j := w.submit(backup("web1", "web"))
			for range 2 { // the second changes nothing
				if got, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil || got.State != job.Cancelled {
					t.Fatalf("cancel: %+v, %v", got, err)
				}
			}
			w.hello("web1")
			w.expect(j.ID, job.Cancelled, 0, "")
		})
	})
	t.Run("running", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			got := w.expect(j.ID, job.Running, 1, "")
			a := w.agents["web1"]
			if !got.CancelRequested || a.of(first(j)).cancelled {
				t.Fatal("the wish is not stored, or was told by a broken link")
			}
			w.restart()
			w.link.setFault(nil)
			w.hello("web1")
			if !a.of(first(j)).cancelled {
				t.Fatal("the wish was not repeated in the hello's reply")
			}
			w.expect(j.ID, job.Running, 1, "")
			a.tell(first(j), job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.mustDeliver()
			w.expect(j.ID, job.Cancelled, 1, "")
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Errorf("cancelling again: %v", err)
			}
		})
	})
	t.Run("sent, and the host has never seen it", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(backup("web1", "web"))
			w.job(j.ID)
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			w.link.setFault(nil)
			w.hello("web1")
			w.mustDeliver()
			w.expect(j.ID, job.Cancelled, 1, "")
			if n := len(w.agents["web1"].orders); n != 0 {
				t.Errorf("the host ran %d orders", n)
			}
		})
	})
	t.Run("sent, and the host is gone before it was told", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(backup("web1", "web"))
			w.job(j.ID)
			w.leave("web1")
			for range 3 { // repeated cancels are no error
				if got, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil || !got.CancelRequested {
					t.Fatalf("cancel: %+v, %v", got, err)
				}
			}
			w.restart()
			time.Sleep(time.Hour)
			if got := w.job(j.ID); got.State != job.Sent {
				t.Fatalf("job is %s, and nobody knows whether the host has it", got.State)
			}
			w.link.setFault(nil)
			w.come("web1")
			w.mustDeliver()
			w.over(j.ID, job.Cancelled, job.CodeCancelled)
			if n := len(w.agents["web1"].orders); n != 0 {
				t.Errorf("the host ran %d orders", n)
			}
		})
	})
	t.Run("the link is cut, and the host has it", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return nil, errLost })
			j := w.submit(backup("web1", "web"))
			w.job(j.ID)
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			w.link.setFault(nil)
			if reply := w.hello("web1"); len(reply.Verdicts) != 1 || reply.Verdicts[0].Action != bus.Stop {
				t.Fatalf("the host was told %+v", reply.Verdicts)
			}
			w.agents["web1"].tell(first(j), job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.mustDeliver()
			w.over(j.ID, job.Cancelled, job.CodeCancelled)
		})
	})
	t.Run("the cancel and the end cross", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			w.expect(j.ID, job.Running, 1, "")
			w.agents["web1"].tell(first(j), succeeded())
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			w.mustDeliver()
			w.expect(j.ID, job.Succeeded, 1, "")
		})
	})
	t.Run("waiting for borg's lock", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) { // it fails as locked just then: no retry
			j := w.submit(backup("web1", "web"))
			w.expect(j.ID, job.Running, 1, "")
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			w.agents["web1"].tell(first(j), failed(job.RepositoryLocked))
			w.mustDeliver()
			w.over(j.ID, job.Failed, job.RepositoryLocked)
		})
	})
	t.Run("retry waits", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
			w.mustDeliver()
			if _, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.expect(j.ID, job.Cancelled, 1, "")
		})
	})
	t.Run("over", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.agents["web1"].tell(first(j), succeeded())
			w.mustDeliver()
			_, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, j.ID)
			if f := job.AsFailure(err); f == nil || f.Code != job.Conflict {
				t.Errorf("cancel: %v", err)
			}
		})
	})
	t.Run("unknown", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			_, err := w.dispatch().Cancel(ctx, fleet.Actor{Name: "operator:bob"}, job.NewID(time.Now()))
			if f := job.AsFailure(err); f == nil || f.Code != job.UnknownJob {
				t.Errorf("cancel: %v", err)
			}
		})
	})
}

func TestRetryMakesANewJob(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		if _, err := w.dispatch().Retry(context.Background(), fleet.Actor{Name: "operator:bob"}, j.ID); job.AsFailure(err).Code != job.Conflict {
			t.Errorf("retry of an open job: %v", err)
		}
		synctest.Wait()
		w.agents["web1"].tell(first(j), failed(job.DiskFull))
		w.mustDeliver()
		again, err := w.dispatch().Retry(context.Background(), fleet.Actor{Name: "operator:bob"}, j.ID)
		if err != nil || again.ID == j.ID || again.SubmittedBy != "operator:bob" {
			t.Fatalf("retry: %+v, %v", again, err)
		}
		w.expect(again.ID, job.Running, 1, "")
		w.expect(j.ID, job.Failed, 1, "")
	})
}

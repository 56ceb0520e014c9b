package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// lockJobs returns the jobs that look at locks, newest first.
func (w *world) lockJobs() []job.Job {
	w.t.Helper()
	synctest.Wait()
	page, err := w.dispatch().Jobs(context.Background(), job.Filter{Kind: job.BreakLock})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Jobs
}

func TestLockedRepositoryIsLookedAt(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		a := w.agents["web1"]
		locked := func(j job.Job, attempt int) {
			w.expect(j.ID, job.Running, attempt, "")
			a.tell(key{j.ID, attempt}, failed(job.RepositoryLocked))
			w.mustDeliver()
		}
		j := w.submit(backup("web1", "web"))
		locked(j, 1)
		looks := w.lockJobs()
		if len(looks) != 1 {
			t.Fatalf("%d jobs look at the lock", len(looks))
		}
		look := looks[0]
		if look.Host != "web1" || look.Repository != "web" || look.SubmittedBy != "coordinator" || look.Spec != (job.BreakLockSpec{}) || look.State != job.Running {
			t.Errorf("job is %+v", look)
		}
		time.Sleep(time.Minute) // the retry's time comes, and it waits for the look
		if got := w.job(j.ID); got.State != job.Queued {
			t.Errorf("the retry is %s beside the look at the lock", got.State)
		}
		w.hello("web1")
		a.tell(first(look), job.Event{Type: job.EventFinished, State: job.Succeeded, Result: &job.Result{Broken: true}})
		w.mustDeliver()
		locked(j, 2) // it is locked still: one look is enough
		time.Sleep(time.Minute)
		w.hello("web1")
		if n := len(w.lockJobs()); n != 1 {
			t.Errorf("%d jobs looked at the lock", n)
		}
		time.Sleep(10 * time.Minute)
		w.hello("web1")
		locked(j, 3)
		if n := len(w.lockJobs()); n != 2 {
			t.Errorf("%d jobs looked at the lock, want another one after ten minutes", n)
		}
		w.over(j.ID, job.Failed, job.RepositoryLocked)
		page, err := w.store.Audit(fleet.AuditFilter{Action: "borg.repository.break_lock", Limit: 10})
		if err != nil || len(page.Entries) != 3 || page.Entries[2].By != "coordinator" || page.Entries[2].Outcome != "requested" {
			t.Errorf("audit has %+v, %v", page.Entries, err)
		}
	})
}

func TestOneLookAtALock(t *testing.T) {
	t.Run("of two jobs that end together", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			one, two := w.submit(list("web1", "web")), w.submit(list("web1", "web"))
			synctest.Wait()
			for _, j := range []job.Job{one, two} {
				w.agents["web1"].tell(first(j), failed(job.RepositoryLocked))
			}
			w.mustDeliver()
			if n := len(w.lockJobs()); n != 1 {
				t.Errorf("%d jobs look at the lock", n)
			}
		})
	})
	t.Run("not of a look that finds it locked", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(job.Request{Host: "web1", Kind: job.BreakLock, Repository: "web"})
			w.expect(j.ID, job.Running, 1, "")
			w.agents["web1"].tell(first(j), failed(job.RepositoryLocked))
			w.mustDeliver()
			if n := len(w.lockJobs()); n != 1 {
				t.Errorf("%d jobs look at the lock", n)
			}
		})
	})
	t.Run("a dry run is none", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			dry := w.submit(job.Request{Host: "web1", Kind: job.BreakLock, Repository: "web", Spec: []byte(`{"dry_run":true}`)})
			w.expect(dry.ID, job.Running, 1, "")
			w.agents["web1"].tell(first(dry), succeeded())
			w.mustDeliver()
			j := w.submit(backup("web1", "web"))
			w.expect(j.ID, job.Running, 1, "")
			w.agents["web1"].tell(first(j), failed(job.RepositoryLocked))
			w.mustDeliver()
			if n := len(w.lockJobs()); n != 2 {
				t.Errorf("%d jobs look at the lock", n)
			}
		})
	})
	t.Run("over a store that fails", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			w.expect(j.ID, job.Running, 1, "")
			w.agents["web1"].tell(first(j), failed(job.RepositoryLocked))
			w.failNextWrite(true)
			if err := w.deliver(); err == nil {
				t.Fatal("events were acknowledged on a broken store")
			}
			w.mustDeliver()
			if n := len(w.lockJobs()); n != 1 {
				t.Errorf("%d jobs look at the lock", n)
			}
		})
	})
}

// failNextWrite lets the next write fail, stored or not.
func (w *world) failNextWrite(stored bool) {
	fail := true
	w.dispatch().WrapApply(func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
		return func(changes ...store.Change) (uint64, error) {
			if !fail {
				return inner(changes...)
			}
			fail = false
			if stored {
				if _, err := inner(changes...); err != nil {
					return 0, err
				}
			}
			return 0, store.ErrAmbiguous
		}
	})
}

package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// verifications returns the jobs that verify hosts, newest first.
func (w *world) verifications() []job.Job {
	w.t.Helper()
	synctest.Wait()
	page, err := w.dispatch().Jobs(context.Background(), job.Filter{Kind: job.Verify})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Jobs
}

// days lets time pass, in which everybody says hello and old1 is as it should be,
// or not.
func (w *world) days(n int, end job.Event) {
	w.t.Helper()
	for range n * 48 {
		time.Sleep(30 * time.Minute)
		for host := range w.agents {
			w.hello(host)
		}
		for _, k := range w.agents["old1"].open() {
			w.agents["old1"].tell(k, end)
		}
		w.mustDeliver()
	}
}

func TestVerifiesHostsOnceADay(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		good := ended(job.Succeeded, job.Result{Checks: []job.Finding{{Name: "borg", Good: true}}})
		w.days(3, good)
		jobs := w.verifications()
		if len(jobs) != 3 {
			t.Fatalf("%d jobs in three days", len(jobs))
		}
		for i, j := range jobs {
			if j.Host != "old1" || j.Repository != "" || j.SubmittedBy != "coordinator" || j.State != job.Succeeded {
				t.Errorf("job is %+v", j)
			}
			if i > 0 && jobs[i-1].SubmittedAt.Sub(j.SubmittedAt) < 23*time.Hour {
				t.Errorf("jobs at %v and %v", j.SubmittedAt, jobs[i-1].SubmittedAt)
			}
		}
		w.restart()
		w.days(1, good)
		if n := len(w.verifications()); n != 4 {
			t.Errorf("%d jobs in four days with a start between", n)
		}
	})
}

// A host that is away for longer keeps one job at a time waiting, and then a
// person is told.
func TestVerifiesHostsThatAreAway(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.leave("old1")
		for range 60 {
			time.Sleep(time.Hour)
			open := 0
			for _, j := range w.verifications() {
				if !j.State.Terminal() {
					open++
				}
			}
			if open > 1 {
				t.Fatalf("%d jobs wait", open)
			}
		}
		w.wantNeed("verify", "old1", "no host accepted the job in its time")
	})
}

// wantNeed checks that one thing needs a person.
func (w *world) wantNeed(kind, host string, words ...string) {
	w.t.Helper()
	synctest.Wait()
	status, err := w.dispatch().Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range status.Attention {
		if a.Kind != kind || a.Host != host {
			continue
		}
		for _, word := range words {
			if !strings.Contains(a.Message+"; "+a.Hint, word) {
				w.t.Errorf("attention %+v says nothing of %q", a, word)
			}
		}
		return
	}
	w.t.Errorf("%s of %s is not in %+v", kind, host, status.Attention)
}

func TestSaysWhatIsWrongWithAHost(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		bad := ended(job.Warning, job.Result{Checks: []job.Finding{
			{Name: "login", Good: true}, {Name: "space", Detail: "20 MiB are left", Hint: "make space"}, {Name: "fuse", Detail: "no FUSE"},
		}})
		w.days(1, bad)
		w.wantNeed("verify", "old1", "20 MiB are left and 1 more", "make space")
		w.days(1, ended(job.Succeeded, job.Result{}))
		for _, kind := range w.needs() {
			if kind == "verify" {
				t.Error("it is still said of a host that is as it should be")
			}
		}
		w.problem("old1", job.Fail(job.HostKeyChanged, "another key").WithHint("look at it"))
		w.wantNeed("unreachable", "old1", "cannot be reached: another key", "look at it")
		w.problem("old1", job.Fail(job.HostUnreachable, "no route"))
		for _, kind := range w.needs() {
			if kind == "unreachable" {
				t.Error("a host that may come back needs a person")
			}
		}
		w.leave("old1")
		w.submit(backup("old1", "own"))
		w.wantNeed("offline", "old1", "1 job waits for it: no route")
	})
}

// problem makes the registry know why a host is not reached.
func (w *world) problem(host string, why *job.Failure) {
	w.registry.mu.Lock()
	defer w.registry.mu.Unlock()
	view := w.registry.views[host]
	view.Problem = why
	w.registry.views[host] = view
}

func TestNewHostIsNotVerifiedAtOnce(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.apply(store.CreateHost(fleet.Host{Name: "old2", Mode: fleet.ModeSSH, CreatedAt: time.Now()}))
		time.Sleep(time.Minute)
		if jobs := w.verifications(); len(jobs) != 0 {
			t.Errorf("jobs are %+v", jobs)
		}
	})
}

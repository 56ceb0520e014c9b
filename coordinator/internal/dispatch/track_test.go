package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestSkippedByAHook: nobody cancelled it, nothing is wrong, and it is not tried again.
func TestSkippedByAHook(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "when its time is over": true} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				p := planned("web1", "web", "R1")
				p.ExpiresIn = 60
				j := w.plan(p)[0].Job
				w.expect(j.ID, job.Running, 1, "")
				if late {
					w.until("00:05:00")
				}
				w.ends(j, job.Event{Type: job.EventFinished, State: job.Cancelled, Failure: job.Fail(job.Skipped, "hook on-battery asked for it")})
				over := w.expect(j.ID, job.Cancelled, 1, "")
				if over.Failure == nil || over.Failure.Code != job.Skipped || over.CancelRequested {
					t.Errorf("it ended with %v, cancelled: %v", over.Failure, over.CancelRequested)
				}
				if status := w.status(); len(status.Attention) != 0 {
					t.Errorf("somebody is to look: %+v", status.Attention)
				}
				if runs, err := w.store.Runs("web1"); err != nil || len(runs) != 0 {
					t.Errorf("it counts as a backup that ended: %v, %v", runs, err)
				}
			})
		})
	}
}

func (w *world) status() fleet.Status {
	w.t.Helper()
	synctest.Wait()
	status, err := w.dispatch().Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return status
}

// addPlan stores a plan, so that there are tracks of it.
func (w *world) addPlan(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.apply(store.CreatePlan(fleet.Plan{Name: name, CreatedAt: time.Now()}, time.Now()))
	}
}

func TestPlansAreToldOfTheirJobs(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.addPlan("daily")
		watcher := w.feed.Watch()
		defer watcher.Close()
		dump := planned("web1", "web", "R1")
		dump.Spec, dump.IdempotencyKey = []byte(`{"content_from":"postgres-dump"}`), "dump"
		test := dispatch.Planned{Request: request(job.TestRestore, `{"archive":"old"}`), Run: "R1"}
		test.Host, test.Plan, test.IdempotencyKey = "web2", "daily", "test"
		check := dispatch.Planned{Request: request(job.Check, `{"verify_data":true}`), Run: "R1"}
		check.Plan, check.IdempotencyKey = "daily", "check"
		w.knows([3]string{"old", "web1", ""})
		var last job.Job
		for _, p := range []dispatch.Planned{planned("web1", "web", "R1"), dump, test, check} {
			last = w.plan(p)[0].Job
			w.ends(last, succeeded())
		}
		track, err := w.store.Track("daily", "web1", "web")
		if err != nil {
			t.Fatal(err)
		}
		if len(track.Samples) != 1 || track.Samples[0].NFiles != 3 || track.Dumps["postgres-dump"].Job == "" || track.LastRestoreTest == nil || track.RestoreTestJob == "" {
			t.Errorf("the plan knows %+v", track)
		}
		if record, err := w.store.RepositoryRecord("web"); err != nil || record.LastVerify == nil || record.LastCheck == nil || !record.LastVerify.Equal(*w.job(last.ID).FinishedAt) {
			t.Errorf("of the repository is known %+v, %v", record, err)
		}
		updates, err := watcher.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, update := range updates {
			if (update.Job != nil || update.Event != nil) && update.Plan != "daily" {
				t.Errorf("update %+v names no plan", update)
			}
		}
	})
}

// TestTracksOfPlans: a failure needs attention until the same plan does the same well.
func TestTracksOfPlans(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.addPlan("daily", "weekly")
		end := func(plan, key string, r job.Request, event job.Event) {
			time.Sleep(time.Second)
			p := dispatch.Planned{Request: r, Run: "R1"}
			p.Plan, p.IdempotencyKey, p.MaxAttempts = plan, key, 1
			w.ends(w.plan(p)[0].Job, event)
		}
		wants := func(when string, want ...string) {
			t.Helper()
			got := []string{}
			for _, a := range w.status().Attention {
				got = append(got, a.Kind+" "+string(a.Severity)+" "+a.Plan)
			}
			if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
				t.Errorf("%s: %s", when, diff)
			}
		}
		test, dump := request(job.TestRestore, `{"archive":"old"}`), backup("web1", "web")
		dump.Spec = []byte(`{"content_from":"postgres-dump"}`)
		w.ends(w.submit(backup("web1", "web")), failed(job.DiskFull))
		wants("a person's backup failed", "failed critical ")
		end("daily", "1", backup("web1", "web"), failed(job.DiskFull))
		wants("daily failed", "failed critical daily", "failed critical ")
		end("weekly", "2", backup("web1", "web"), succeeded())
		wants("weekly is good, and makes good what nobody planned", "failed critical daily")
		end("daily", "3", dump, succeeded())
		wants("a dump is not the files", "failed critical daily")
		end("daily", "4", backup("web1", "web"), ended(job.Warning, job.Result{Archive: "a", Warnings: []string{"x"}}))
		wants("daily had something to say", "warning warning daily")
		end("daily", "5", backup("web1", "web"), succeeded())
		wants("daily is good")
		end("daily", "6", test, failed(job.RestoreMismatch))
		wants("a restore test failed", "failed critical daily")
		w.restart()
		w.hello("web1")
		wants("after a restart", "failed critical daily")
		end("daily", "7", test, succeeded())
		wants("a restore test is good")
		end("weekly", "8", test, failed(job.RestoreMismatch))
		w.apply(store.DeletePlan("weekly"))
		wants("its plan was removed")
	})
}

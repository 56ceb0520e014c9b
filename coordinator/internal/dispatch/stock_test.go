package dispatch_test

import (
	"context"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// lists returns the jobs by which the coordinator looks which archives are left.
func (w *world) lists() []job.Job {
	w.t.Helper()
	page, err := w.dispatch().Jobs(context.Background(), job.Filter{Kind: job.List, Repository: "web"})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Jobs
}

func TestTakesStockWhenNobodyKnowsWhatWasRemoved(t *testing.T) {
	const archives, rules = `{"archives":["a"]}`, `{"keep_last":1,"confirmed":true}`
	for name, test := range map[string]struct {
		request job.Request
		end     job.Event
		looks   bool
	}{
		"a delete that was interrupted":           {request(job.Delete, archives), failed(job.Interrupted), true},
		"a delete that was done":                  {request(job.Delete, archives), ended(job.Succeeded, job.Result{Deleted: []string{"a"}}), false},
		"a delete of what is not there":           {request(job.Delete, archives), failed(job.ArchiveMissing), false},
		"a dry run that was interrupted":          {request(job.Delete, `{"archives":["a"],"dry_run":true}`), failed(job.Interrupted), false},
		"a prune whose connection broke":          {request(job.Prune, rules), failed(job.ConnectionLost), true},
		"a prune that the repository had no room": {request(job.Prune, rules), failed(job.DiskFull), false},
		"a backup that was interrupted":           {backup("web1", "web"), failed(job.Interrupted), false},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				test.request.MaxAttempts = 1
				w.does(test.request, test.end)
				lists := w.lists()
				if looks := len(lists) == 1; looks != test.looks || len(lists) > 1 {
					t.Fatalf("%d lists", len(lists))
				}
				if !test.looks {
					return
				}
				if j := lists[0]; j.Spec != (job.ListSpec{}) || j.SubmittedBy != "coordinator" || j.Host != "web1" {
					t.Errorf("it is %+v", j)
				}
				w.ends(lists[0], ended(job.Succeeded, job.Result{Archives: []job.Archive{{Name: "b", Start: time.Now()}}}))
				w.wantArchives("b")
			})
		})
	}
}

// What an attempt has done that could not say so, the next one does not find.
func TestTakesStockAfterAnotherAttempt(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.does(request(job.Prune, `{"keep_last":1,"confirmed":true}`), failed(job.Interrupted))
		if len(w.lists()) != 0 {
			t.Error("it is looked before the retry")
		}
		time.Sleep(time.Minute)
		w.expect(j.ID, job.Running, 2, "")
		w.agents["web1"].tell(key{j.ID, 2}, ended(job.Succeeded, job.Result{}))
		w.mustDeliver()
		if len(w.lists()) != 1 {
			t.Error("it is not looked after the retry")
		}
	})
}

package dispatch_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// does submits a job, and lets its host end it.
func (w *world) does(request job.Request, end job.Event) job.Job {
	w.t.Helper()
	j := w.submit(request)
	w.expect(j.ID, job.Running, 1, "")
	time.Sleep(time.Second)
	w.agents[j.Host].tell(first(j), job.Event{Type: job.EventStarted, PID: 42})
	time.Sleep(time.Second)
	w.agents[j.Host].tell(first(j), end)
	w.mustDeliver()
	w.hello(j.Host)
	return w.job(j.ID)
}

func ended(state job.State, result job.Result) job.Event {
	return job.Event{Type: job.EventFinished, State: state, Result: &result}
}

// wantArchives checks which archives are known of the repository web.
func (w *world) wantArchives(want ...string) fleet.ArchivePage {
	w.t.Helper()
	page, err := w.dispatch().Archives(context.Background(), fleet.ArchiveFilter{Repository: "web"})
	if err != nil {
		w.t.Fatal(err)
	}
	got := []string{}
	for _, a := range page.Archives {
		got = append(got, a.Name)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("known are %q, want %q", got, want)
	}
	return page
}

func request(kind job.Kind, spec string) job.Request {
	return job.Request{Host: "web1", Kind: kind, Repository: "web", Spec: json.RawMessage(spec)}
}

func TestArchivesThatAreKnown(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		begun := time.Now()
		w.does(request(job.Init, ""), ended(job.Succeeded, job.Result{Repository: &job.RepositoryInfo{ID: "x"}}))
		if page := w.wantArchives(); page.AsOf == nil {
			t.Error("a new repository is not known to be empty")
		}
		one := w.does(backup("web1", "web"), ended(job.Succeeded, job.Result{Archive: "a", ArchiveID: "1", OriginalSize: 100, NFiles: 3}))
		w.does(backup("web1", "web"), ended(job.Warning, job.Result{Archive: "b", ArchiveID: "2"}))
		w.does(backup("web2", "web"), ended(job.Succeeded, job.Result{Archive: "c", ArchiveID: "3"}))
		w.does(backup("web2", "web"), failed(job.DiskFull))
		page := w.wantArchives("c", "b", "a")
		if a := page.Archives[2]; a.Host != "web1" || a.Job != one.ID || a.OriginalSize != 100 || !a.Start.Equal(*one.StartedAt) {
			t.Errorf("archive is %+v", a)
		}
		w.does(request(job.Delete, `{"glob":"*","dry_run":true}`), ended(job.Succeeded, job.Result{Deleted: []string{"a", "b", "c"}}))
		w.does(request(job.Delete, `{"archives":["b"]}`), ended(job.Succeeded, job.Result{Deleted: []string{"b"}}))
		w.does(request(job.Prune, `{"keep_last":1,"confirmed":true,"prefix":"a"}`), failed(job.Interrupted))
		w.wantArchives("c", "a")
		listed := []job.Archive{{Name: "old", ID: "0", Start: begun.Add(-time.Hour)}, {Name: "a", ID: "1", Start: *one.StartedAt, Hostname: "one"}}
		w.does(request(job.List, `{"prefix":"x"}`), ended(job.Succeeded, job.Result{Archives: listed}))
		w.wantArchives("c", "a", "old")
		done := w.does(request(job.List, ""), ended(job.Succeeded, job.Result{Archives: listed}))
		page = w.wantArchives("a", "old")
		if page.AsOf == nil || !page.AsOf.Equal(*done.FinishedAt) || page.Archives[0].Host != "web1" || page.Archives[1].Host != "" {
			t.Errorf("after the list: %+v", page)
		}
		w.restart()
		w.wantArchives("a", "old")
	})
}

func TestAListThatIsTooLong(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		at := func(minutes int) time.Time { return time.Now().Add(time.Duration(minutes) * time.Minute) }
		first := []job.Archive{{Name: "a", Start: at(-50)}, {Name: "b", Start: at(-40)}, {Name: "c", Start: at(-30)}}
		w.does(request(job.List, ""), ended(job.Succeeded, job.Result{Archives: first}))
		asOf := w.wantArchives("c", "b", "a").AsOf
		w.does(request(job.List, ""), ended(job.Succeeded, job.Result{Archives: []job.Archive{first[1]}, ArchivesOmitted: 1}))
		if page := w.wantArchives("b", "a"); !page.AsOf.Equal(*asOf) {
			t.Error("a list that leaves archives out is taken for all of them")
		}
	})
}

func TestArchivesThatAreNotKnown(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		_, none := w.dispatch().Archive(context.Background(), "web", "a")
		_, nowhere := w.dispatch().Archive(context.Background(), "nowhere", "a")
		_, page := w.dispatch().Archives(context.Background(), fleet.ArchiveFilter{Repository: "nowhere"})
		_, cursor := w.dispatch().Archives(context.Background(), fleet.ArchiveFilter{Repository: "web", Cursor: "?"})
		for i, test := range []struct {
			err  error
			code job.Code
		}{{none, job.ArchiveMissing}, {nowhere, job.UnknownRepository}, {page, job.UnknownRepository}, {cursor, job.InvalidRequest}} {
			if f := job.AsFailure(test.err); f == nil || f.Code != test.code {
				t.Errorf("%d: %v, want %s", i, test.err, test.code)
			}
		}
		if _, err := w.store.Apply(store.PutArchives("web", fleet.Archive{Archive: job.Archive{Name: "a"}})); err != nil {
			t.Fatal(err)
		}
		if a, err := w.dispatch().Archive(context.Background(), "web", "a"); err != nil || a.Name != "a" {
			t.Errorf("%+v, %v", a, err)
		}
	})
}

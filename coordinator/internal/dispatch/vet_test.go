package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// archives are some with these names and ids "id-NAME", oldest first.
func archives(names ...string) (list []job.Archive) {
	for i, name := range names {
		list = append(list, job.Archive{Name: name, ID: "id-" + name, Start: time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)})
	}
	return list
}

func lists(names ...string) job.Event {
	return ended(job.Succeeded, job.Result{Archives: archives(names...)})
}

// recorded makes archives known in the repository "shared".
func (w *world) recorded(names ...string) {
	w.t.Helper()
	var known []fleet.Archive
	for _, archive := range archives(names...) {
		known = append(known, fleet.Archive{Archive: archive, Host: "web1", SeenAt: time.Now()})
	}
	w.apply(store.PutArchives("shared", known...))
}

// look waits until a job waits for a look at its repository, and returns that.
func (w *world) look(writer job.Job) job.Job {
	w.t.Helper()
	j := w.job(writer.ID)
	aside, err := w.store.Aside(writer.ID)
	if err != nil || aside.Vet == "" {
		w.t.Fatalf("%s is %s (%q, %v), and nobody looks, %v", j.Kind, j.State, j.Reason, j.Failure, err)
	}
	w.expect(writer.ID, job.Queued, j.Attempt, "waiting for a look at its repository, job …"+aside.Vet.Short())
	look := w.job(aside.Vet)
	if look.Host != fleet.LocalHost || look.For != j.For || look.SubmittedBy != "coordinator" || look.Repository != j.Repository {
		w.t.Errorf("look is %+v", look)
	}
	if !w.dispatch().Busy(j.Repository) {
		w.t.Error("hosts may come in while it is looked")
	}
	return look
}

func (w *world) frozen() *fleet.Frozen {
	w.t.Helper()
	synctest.Wait()
	repository, _, err := w.store.Repository("shared")
	if err != nil {
		w.t.Fatal(err)
	}
	return repository.Depot.Frozen
}

const confirmed = `{"keep_daily":7,"confirmed":true}`

func deletes() job.Request { return of("", job.Delete, "shared", `{"archives":["a"]}`) }

func TestLooksBeforeAnythingIsDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		request job.Request
		looks   []job.Spec
	}{
		"a delete":           {deletes(), []job.Spec{job.ListSpec{}}},
		"a prune":            {of("web1", job.Prune, "shared", `{"keep_daily":7,"prefix":"x","confirmed":true}`), []job.Spec{job.ListSpec{}}},
		"a compact":          {of("", job.Compact, "shared", ""), []job.Spec{job.ListSpec{}, job.CheckSpec{ArchivesOnly: true}}},
		"a repair":           {of("", job.Check, "shared", `{"repair":true}`), []job.Spec{job.ListSpec{}, job.CheckSpec{ArchivesOnly: true}}},
		"a check":            {of("", job.Check, "shared", ""), nil},
		"a dry run":          {of("", job.Delete, "shared", `{"archives":["a"],"dry_run":true}`), nil},
		"a list":             {of("", job.List, "shared", ""), nil},
		"a backup":           {backup("web1", "shared"), nil},
		"where all may":      {of("", job.Delete, "own", `{"archives":["a"]}`), nil},
		"kept by others":     {of("web1", job.Compact, "web", ""), nil},
		"a lock is no entry": {of("", job.BreakLock, "shared", ""), nil},
	} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				w.recorded("a", "b")
				w.apply(store.PutRepositoryRecord("shared", store.RepositoryRecord{ArchivesAsOf: ptr(time.Now())}))
				writer := w.submit(test.request)
				for i, spec := range test.looks {
					look := w.look(writer)
					if look.Spec != spec {
						t.Fatalf("look is a %s with %+v", look.Kind, look.Spec)
					}
					if i == 0 {
						w.restart() // in the middle
						w.hello(fleet.LocalHost)
					}
					w.ends(look, lists("a", "b"))
				}
				w.expect(writer.ID, job.Running, 1, "")
				if busy := w.dispatch().Busy(writer.Repository); busy != (test.looks != nil) {
					t.Errorf("hosts are kept out: %v", busy)
				}
				for _, name := range w.depot.evictions() {
					if name != "shared" {
						t.Errorf("hosts could come back into %s", name)
					}
				}
				if evicted := len(w.depot.evictions()); (evicted > 0) != (test.looks != nil) {
					t.Errorf("hosts were sent away %d times", evicted)
				}
				w.ends(writer, succeeded())
				if w.dispatch().Busy(writer.Repository) {
					t.Error("hosts are still kept out")
				}
			})
		})
	}
}

func ptr[T any](v T) *T { return &v }

// Between the look and the job nobody else may use the repository, not even jobs
// that came earlier.
func TestNothingComesBetweenALookAndItsJob(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.recorded("a")
		writer := w.submit(deletes())
		look := w.look(writer)
		request := backup("web1", "shared")
		request.Priority = 100
		other, reader := w.submit(request), w.submit(of("", job.List, "shared", ""))
		synctest.Wait()
		for _, j := range []job.Job{other, reader} {
			if got := w.job(j.ID); got.State != job.Queued {
				t.Errorf("%s is %s beside the look", j.Kind, got.State)
			}
		}
		w.leave(fleet.LocalHost)
		w.agents[fleet.LocalHost].tell(first(look), lists("a"))
		w.mustDeliver()
		if got := w.job(other.ID); got.State != job.Queued {
			t.Errorf("backup is %s between the look and its job", got.State)
		}
		if !w.dispatch().Busy("shared") {
			t.Error("hosts may come in between the look and its job")
		}
		w.come(fleet.LocalHost)
		w.ends(writer, succeeded())
		w.expect(other.ID, job.Running, 1, "")
	})
}

// What was seen holds for one attempt.
func TestLooksBeforeEachAttempt(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.recorded("a", "b", "web1-2026-11-22T02:00:00")
		writer := w.submit(of("web1", job.Prune, "shared", confirmed))
		for w.job(writer.ID).Reason[:15] == "waiting for its" { // nobody knows what there is
			w.ends(w.dryRun(writer), shares(2, 1))
		}
		all := lists("a", "b", "web1-2026-11-22T02:00:00")
		w.ends(w.look(writer), all)
		w.expect(writer.ID, job.Running, 1, "")
		w.agents[fleet.LocalHost].tell(first(writer), failed(job.DiskFull))
		w.mustDeliver()
		if got := w.job(writer.ID); got.State == job.Queued {
			t.Errorf("a full disk is tried again: %+v", got)
		}
		again := w.submit(of("web1", job.Prune, "shared", `{"keep_daily":7,"prefix":"web1-","confirmed":true}`))
		w.ends(w.look(again), all)
		w.agents[fleet.LocalHost].tell(first(again), failed(job.Interrupted))
		w.mustDeliver()
		if !w.dispatch().Busy("shared") {
			t.Error("hosts may come in though nobody knows what the prune did")
		}
		time.Sleep(time.Minute)
		w.hello(fleet.LocalHost)
		w.ends(w.look(again), lists("a", "b")) // the first attempt has removed one
		w.expect(again.ID, job.Running, 2, "")
		if f := w.frozen(); f != nil {
			t.Errorf("repository is frozen: %+v", f)
		}
	})
}

func TestFreezes(t *testing.T) {
	for name, test := range map[string]struct {
		seen             job.Event
		missing, unknown []string
		reason           string
	}{
		"one is missing":     {lists("a"), []string{"b"}, []string{}, "1 archive that was recorded is not there as it was"},
		"one is another one": {ended(job.Succeeded, job.Result{Archives: append(archives("a"), job.Archive{Name: "b", ID: "other"})}), []string{"b"}, []string{}, "1 archive that"},
		"one is new":         {lists("a", "b", "c"), []string{}, []string{"c"}, "1 archive was made by no job"},
		"all are others":     {lists("c", "d"), []string{"a", "b"}, []string{"c", "d"}, "2 archives that were recorded are not there as they were, and 2 archives were made by no job"},
		"none is there":      {lists(), []string{"a", "b"}, []string{}, "2 archives that"},
	} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				w.recorded("a", "b")
				writer := w.submit(deletes())
				look := w.look(writer)
				waits := w.submit(of("", job.Compact, "shared", ""))
				w.ends(look, test.seen)
				over := w.over(writer.ID, job.Failed, job.RepositoryFrozen, test.reason)
				if len(over.Attempts) != 0 || over.Failure.Retryable || !strings.Contains(over.Failure.Hint, "borgfleet repo show shared") {
					t.Errorf("job is %+v", over)
				}
				w.over(waits.ID, job.Failed, job.RepositoryFrozen)
				f := w.frozen()
				if f == nil || f.At.IsZero() || cmp.Diff(test.missing, f.Missing) != "" || cmp.Diff(test.unknown, f.Unknown) != "" {
					t.Errorf("frozen is %+v", f)
				}
				w.wantShared("a", "b") // what is recorded stays, to be compared with
				w.refuses(deletes(), job.RepositoryFrozen, "frozen")
				w.refuses(of("web1", job.Prune, "shared", daily), job.RepositoryFrozen)
				w.expect(w.submit(backup("web1", "shared")).ID, job.Running, 1, "")
				if w.dispatch().Busy("shared") {
					t.Error("hosts are kept out of a frozen repository")
				}
				w.wantFrozenTold(test.reason)
			})
		})
	}
}

func (w *world) wantShared(want ...string) {
	w.t.Helper()
	known, err := w.store.AllArchives("shared")
	if err != nil {
		w.t.Fatal(err)
	}
	got := []string{}
	for _, archive := range known {
		got = append(got, archive.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("recorded archives: %s", diff)
	}
}

func (w *world) wantFrozenTold(reason string) {
	w.t.Helper()
	status, err := w.dispatch().Status(context.Background())
	told := slices.ContainsFunc(status.Attention, func(a fleet.Attention) bool { return a.Kind == "frozen" && a.Repository == "shared" })
	if err != nil || !told {
		w.t.Errorf("attention is %+v, %v", status.Attention, err)
	}
	page, err := w.store.Audit(fleet.AuditFilter{Action: "repository.freeze", Limit: 10})
	if err != nil || len(page.Entries) != 1 || !strings.HasPrefix(page.Entries[0].Detail, reason) || page.Entries[0].Object != "repository/shared" {
		w.t.Errorf("audit has %+v, %v", page.Entries, err)
	}
}

// A list that somebody asks for is compared as well.
func TestAnyListFreezes(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.recorded("a", "b")
		w.does(of("", job.List, "shared", `{"prefix":"b"}`), lists("b"))
		w.does(of("", job.List, "shared", `{"last":1}`), lists("b"))
		w.does(of("", job.List, "shared", ""), lists("a", "b"))
		if f := w.frozen(); f != nil {
			t.Fatalf("repository is frozen: %+v", f)
		}
		w.wantShared("a", "b")
		w.does(of("", job.List, "shared", `{"prefix":"c"}`), lists("c"))
		if f := w.frozen(); f == nil || cmp.Diff([]string{"c"}, f.Unknown) != "" {
			t.Errorf("frozen is %+v", f)
		}
		w.does(of("", job.List, "shared", ""), lists("a", "b", "c"))
		w.wantShared("a", "b")
	})
}

// What our own jobs have made and deleted is as it should be, also when they
// could not say so.
func TestWhatOurJobsDidIsAsItShouldBe(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.recorded("a", "b")
		made := w.submit(backup("web1", "shared"))
		w.expect(made.ID, job.Running, 1, "")
		one := w.job(made.ID).Attempts[0].Archive
		w.ends(made, ended(job.Succeeded, job.Result{Archive: one, ArchiveID: "id-" + one}))
		lost := backup("web1", "shared")
		lost.MaxAttempts = 1
		broken := w.submit(lost)
		two := w.job(broken.ID).Attempts[0].Archive
		w.ends(broken, failed(job.Interrupted))
		removes := w.submit(deletes())
		w.ends(w.look(removes), lists("a", "b", one, two, two+".checkpoint", "web1.checkpoint.3"))
		w.ends(removes, ended(job.Succeeded, job.Result{Deleted: []string{"a"}}))
		after := w.submit(of("", job.Delete, "shared", `{"archives":["b"]}`))
		w.ends(w.look(after), lists("b", one, two))
		w.expect(after.ID, job.Running, 1, "")
		w.ends(after, failed(job.Interrupted)) // and so it is listed
		settle := w.settling()
		if !w.dispatch().Busy("shared") {
			t.Error("hosts may come in before it is known what was deleted")
		}
		w.ends(settle, lists(one, two))
		w.wantShared(one, two)
		if f := w.frozen(); f != nil || w.dispatch().Busy("shared") {
			t.Errorf("frozen is %+v", f)
		}
		w.ends(w.look(w.submit(of("", job.Compact, "shared", ""))), lists(one)) // and that was somebody else
		if f := w.frozen(); f == nil || cmp.Diff([]string{two}, f.Missing) != "" {
			t.Errorf("frozen is %+v", f)
		}
	})
}

// settling returns the one list of the repository "shared" that runs.
func (w *world) settling() job.Job {
	w.t.Helper()
	page, err := w.dispatch().Jobs(context.Background(), job.Filter{Kind: job.List, Repository: "shared", State: job.Running})
	if err != nil || len(page.Jobs) != 1 {
		w.t.Fatalf("lists are %+v, %v", page.Jobs, err)
	}
	return page.Jobs[0]
}

// A host that is in somebody else's hands tells what it likes.
func TestHostsCannotTellArchivesAway(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.recorded("a")
		for _, lie := range []job.Result{{Archive: "a", ArchiveID: "id-mine"}, {Archive: "b", ArchiveID: "id-b"}} {
			j := w.submit(backup("web1", "shared"))
			w.expect(j.ID, job.Running, 1, "")
			w.ends(j, ended(job.Succeeded, lie))
		}
		named := of("web1", job.Backup, "shared", `{"paths":["/etc"],"archive":"a"}`)
		j := w.submit(named)
		w.expect(j.ID, job.Running, 1, "")
		w.ends(j, ended(job.Succeeded, job.Result{Archive: "a", ArchiveID: "id-mine"}))
		known, _, err := w.store.Archive("shared", "a")
		if err != nil || known.ID != "id-a" {
			t.Errorf("recorded is %+v, %v", known, err)
		}
		w.wantShared("a")
	})
}

// A name that was deleted here, and is there again, is nobody's of ours.
func TestDeletedArchiveThatComesBack(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		made := w.submit(backup("web1", "shared"))
		w.expect(made.ID, job.Running, 1, "")
		name := w.job(made.ID).Attempts[0].Archive
		w.ends(made, ended(job.Succeeded, job.Result{Archive: name, ArchiveID: "id-" + name}))
		removes := w.submit(of("", job.Delete, "shared", fmt.Sprintf(`{"archives":[%q]}`, name)))
		w.ends(w.look(removes), lists(name))
		w.ends(removes, ended(job.Succeeded, job.Result{Deleted: []string{name}}))
		w.ends(w.look(w.submit(deletes())), lists(name))
		if f := w.frozen(); f == nil || cmp.Diff([]string{name}, f.Unknown) != "" {
			t.Errorf("frozen is %+v", f)
		}
	})
}

package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// freeze makes a list find other archives than the recorded ones.
func (w *world) freeze(recorded []string, seen ...string) {
	w.t.Helper()
	w.recorded(recorded...)
	w.does(of("", job.List, "shared", ""), lists(seen...))
	if w.frozen() == nil {
		w.t.Fatal("repository is not frozen")
	}
}

func (w *world) unfreeze() job.Job {
	w.t.Helper()
	j, err := w.dispatch().Unfreeze(context.Background(), fleet.Actor{Name: "alice", From: "http"}, "shared", "it was me")
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

func TestUnfreezeTakesWhatIsThere(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.freeze([]string{"a", "b"}, "b", "c")
		adopts := w.unfreeze()
		w.restart() // in the middle
		w.hello(fleet.LocalHost)
		w.ends(adopts, lists("b", "c", "d"))
		w.wantShared("b", "c", "d")
		if f := w.frozen(); f != nil {
			t.Errorf("it is still frozen: %+v", f)
		}
		if diff := cmp.Diff([]string{"shared"}, w.depot.kept); diff != "" {
			t.Error("kept configurations: ", diff)
		}
		page, err := w.store.Audit(fleet.AuditFilter{Action: "repository.unfreeze", Limit: 10})
		if err != nil || len(page.Entries) != 2 {
			t.Fatalf("audit has %+v, %v", page.Entries, err)
		}
		done, asked := page.Entries[0], page.Entries[1]
		if done.Outcome != "done" || done.Detail != "3 archives are recorded" {
			t.Errorf("audit says %+v", done)
		}
		if asked.By != "alice" || asked.From != "http" || asked.Outcome != "requested" ||
			!strings.HasPrefix(asked.Detail, "it was me (frozen: ") || !strings.Contains(asked.Detail, string(adopts.ID)) {
			t.Errorf("audit says %+v", asked)
		}
		again := w.submit(of("web1", job.List, "shared", ""))
		w.ends(again, lists("b", "c", "d"))
		writer := w.submit(deletes())
		w.ends(w.look(writer), lists("b", "c", "d"))
		w.expect(writer.ID, job.Running, 1, "")
	})
}

// Two people may have the same thought.
func TestUnfreezeTwice(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.freeze([]string{"a"}, "b")
		one, two := w.unfreeze(), w.unfreeze()
		w.ends(one, lists("b"))
		w.ends(two, lists("b", "c")) // the second one says nothing of what has come since
		if f := w.frozen(); f == nil || cmp.Diff([]string{"c"}, f.Unknown) != "" {
			t.Errorf("frozen is %+v", f)
		}
	})
}

func TestUnfreezeOfManyArchives(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.freeze([]string{"a"}, "b")
		w.ends(w.unfreeze(), ended(job.Succeeded, job.Result{Archives: archives("x", "y", "z")[1:], ArchivesOmitted: 1}))
		rest := w.settling()
		if want := (job.ListSpec{Before: archives("x", "y")[1].Start.Add(time.Microsecond)}); rest.Spec != want {
			t.Errorf("it goes on with %+v, want %+v", rest.Spec, want)
		}
		w.restart()
		w.hello(fleet.LocalHost)
		w.ends(rest, lists("x", "y"))
		w.wantShared("x", "y", "z")
		if f := w.frozen(); f != nil {
			t.Errorf("it is still frozen: %+v", f)
		}
	})
}

func TestUnfreezeThatCannotBe(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		for name, test := range map[string]struct {
			repository, reason string
			code               job.Code
		}{
			"no reason":              {"shared", " ", job.InvalidRequest},
			"no such repository":     {"gone", "why not", job.UnknownRepository},
			"it is not frozen":       {"shared", "why not", job.Conflict},
			"it is not in the depot": {"web", "why not", job.Conflict},
		} {
			_, err := w.dispatch().Unfreeze(context.Background(), fleet.Actor{Name: "alice"}, test.repository, test.reason)
			if f := job.AsFailure(err); err == nil || f.Code != test.code {
				t.Errorf("%s: answer is %v, want %s", name, err, test.code)
			}
		}
		w.freeze([]string{"a"}, "b")
		w.ends(w.unfreeze(), failed(job.PassphraseWrong))
		if w.frozen() == nil {
			t.Error("it was let go by a list that failed")
		}
		w.depot.set(false, errDisk)
		w.ends(w.unfreeze(), lists("b"))
		if w.frozen() == nil {
			t.Error("it was let go though its configuration could not be kept")
		}
		w.wantShared("a")
	})
}

// What is damaged is nobody's to make final. Once somebody has said that it is to
// be as it is, it can be repaired.
func TestFreezesForDamage(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.recorded("a")
		repair := of("", job.Check, "shared", `{"repair":true}`)
		for _, request := range []job.Request{of("", job.Compact, "shared", ""), repair} {
			writer := w.submit(request)
			w.ends(w.look(writer), lists("a"))
			w.ends(w.look(writer), failed(job.IntegrityError))
			w.over(writer.ID, job.Failed, job.RepositoryFrozen, "parts of its archives", "it broke")
			if w.frozen() == nil {
				t.Fatal("it is not frozen")
			}
			w.apply(store.SetFrozen("shared", nil)) // nobody has accepted anything
			w.apply(store.PutRepositoryRecord("shared", store.RepositoryRecord{}))
		}
		writer := w.submit(repair)
		w.ends(w.look(writer), lists("a"))
		w.ends(w.look(writer), failed(job.IntegrityError))
		w.ends(w.unfreeze(), lists("a"))
		again := w.submit(repair)
		w.ends(w.look(again), lists("a"))
		w.ends(w.look(again), failed(job.IntegrityError))
		w.expect(again.ID, job.Running, 1, "")
		w.agents[fleet.LocalHost].tell(first(again), job.Event{Type: job.EventStarted, PID: 7})
		w.ends(again, succeeded())
		mended := ended(job.Succeeded, job.Result{Archives: []job.Archive{{Name: "a", ID: "mended"}, {Name: "found", ID: "f"}}})
		w.ends(w.settling(), mended) // a repair gives other ids, and finds archives
		w.wantShared("a", "found")
		w.does(of("", job.Check, "shared", ""), ended(job.Succeeded, job.Result{}))
		compact := w.submit(of("", job.Compact, "shared", ""))
		w.ends(w.look(compact), mended)
		w.ends(w.look(compact), failed(job.IntegrityError)) // and that is new
		w.over(compact.ID, job.Failed, job.RepositoryFrozen)
	})
}

func TestCheckThatCannotBeMade(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		writer := w.submit(of("", job.Compact, "shared", ""))
		w.ends(w.look(writer), lists())
		w.ends(w.look(writer), failed(job.DiskFull))
		w.over(writer.ID, job.Failed, job.DiskFull, "has not ended well")
		if w.frozen() != nil {
			t.Error("it is frozen")
		}
	})
}

// A new repository's configuration is the right one.
func TestKeepsTheConfigurationOfANewRepository(t *testing.T) {
	keeping(t, func(t *testing.T, w *world) {
		w.does(of("", job.Init, "shared", ""), succeeded())
		w.does(of("web1", job.Init, "web", ""), succeeded())
		if diff := cmp.Diff([]string{"shared"}, w.depot.kept); diff != "" {
			t.Error("kept configurations: ", diff)
		}
	})
}

package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

const daily = `{"keep_daily":7}`

// dryRun waits until a prune waits for its dry run, and returns that.
func (w *world) dryRun(prune job.Job) job.Job {
	w.t.Helper()
	j := w.job(prune.ID)
	aside, err := w.store.Aside(prune.ID)
	if err != nil || aside.Preview == "" {
		w.t.Fatalf("prune is %s (%q) and has no dry run, %v", j.State, j.Reason, err)
	}
	w.expect(prune.ID, job.Queued, 0, "waiting for its dry run, job …"+aside.Preview.Short())
	dry := w.job(aside.Preview)
	want := prune.Spec.(job.PruneSpec)
	want.DryRun = true
	if dry.Spec != want || dry.Host != prune.Host || dry.Repository != prune.Repository || dry.SubmittedBy != "coordinator" {
		w.t.Errorf("dry run is %+v", dry)
	}
	return dry
}

// ends lets the first attempt of a job end.
func (w *world) ends(j job.Job, end job.Event) {
	w.t.Helper()
	w.expect(j.ID, job.Running, 1, "")
	w.agents[j.Host].tell(first(j), end)
	w.mustDeliver()
	w.hello(j.Host)
}

// shares is the end of a prune that keeps and prunes so many archives.
func shares(kept, pruned int) job.Event {
	result := job.Result{}
	for i := range kept {
		result.Kept = append(result.Kept, fmt.Sprint("kept", i))
	}
	for i := range pruned {
		result.Pruned = append(result.Pruned, fmt.Sprint("pruned", i))
	}
	return ended(job.Succeeded, result)
}

func TestPruneLooksFirst(t *testing.T) {
	for name, test := range map[string]struct {
		spec         string
		kept, pruned int
		goes         bool
	}{
		"half may go":                   {daily, 5, 5, true},
		"more than half may not":        {daily, 5, 6, false},
		"all of three may":              {daily, 0, 3, true},
		"all of four may not":           {daily, 0, 4, false},
		"nothing is there":              {daily, 0, 0, true},
		"a larger share may":            {`{"keep_daily":7,"max_percent":90}`, 1, 9, true},
		"not more than the larger one":  {`{"keep_daily":7,"max_percent":90}`, 1, 19, false},
		"a smaller share than it might": {`{"keep_daily":7,"max_percent":10}`, 8, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				prune := w.submit(request(job.Prune, test.spec))
				dry := w.dryRun(prune)
				w.restart() // in the middle
				w.hello("web1")
				w.ends(dry, shares(test.kept, test.pruned))
				if test.goes {
					w.ends(prune, shares(test.kept, test.pruned))
					w.expect(prune.ID, job.Succeeded, 1, "")
					return
				}
				over := w.over(prune.ID, job.Failed, job.NeedsConfirmation, fmt.Sprintf("%d of %d archives", test.pruned, test.kept+test.pruned))
				if !strings.Contains(over.Failure.Hint, string(dry.ID)) || !strings.Contains(over.Failure.Hint, "--confirm") || len(over.Attempts) != 0 {
					t.Errorf("prune is %+v", over)
				}
			})
		})
	}
}

func TestPruneThatNeedsNoLook(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		for _, spec := range []string{`{"keep_daily":7,"confirmed":true}`, `{"keep_daily":7,"dry_run":true}`} {
			j := w.submit(request(job.Prune, spec))
			w.ends(j, shares(0, 10))
			w.expect(j.ID, job.Succeeded, 1, "")
		}
		prune := w.submit(request(job.Prune, daily))
		w.ends(w.dryRun(prune), shares(5, 5))
		w.expect(prune.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(prune), failed(job.ConnectionLost)) // the look holds for the retry
		w.mustDeliver()
		w.hello("web1")
		time.Sleep(time.Minute)
		w.hello("web1")
		w.expect(prune.ID, job.Running, 2, "")
	})
}

func TestPruneEndsWithItsDryRun(t *testing.T) {
	t.Run("that fails", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			prune := w.submit(request(job.Prune, daily))
			dry := w.dryRun(prune)
			w.ends(dry, failed(job.PassphraseWrong))
			w.over(prune.ID, job.Failed, job.PassphraseWrong, string(dry.ID), "it broke")
		})
	})
	t.Run("that is cancelled", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			prune := w.submit(request(job.Prune, daily))
			dry := w.dryRun(prune)
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{}, dry.ID); err != nil {
				t.Fatal(err)
			}
			w.ends(dry, job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.over(prune.ID, job.Cancelled, job.CodeCancelled)
		})
	})
	t.Run("that says nothing", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			prune := w.submit(request(job.Prune, daily))
			w.ends(w.dryRun(prune), job.Event{Type: job.EventFinished, State: job.Succeeded})
			w.over(prune.ID, job.Failed, job.Internal)
		})
	})
	t.Run("whose end was stored without an answer", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			prune := w.submit(request(job.Prune, daily))
			dry := w.dryRun(prune)
			w.agents["web1"].tell(first(dry), shares(0, 10))
			w.failNextWrite(true)
			if err := w.deliver(); err == nil {
				t.Fatal("events were acknowledged on a broken store")
			}
			w.mustDeliver()
			w.over(prune.ID, job.Failed, job.NeedsConfirmation)
		})
	})
	t.Run("and the other way round", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			prune := w.submit(request(job.Prune, daily))
			dry := w.dryRun(prune)
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{}, prune.ID); err != nil {
				t.Fatal(err)
			}
			w.over(prune.ID, job.Cancelled, job.CodeCancelled)
			if j := w.job(dry.ID); !j.CancelRequested || !w.agents["web1"].of(first(dry)).cancelled {
				t.Errorf("the host goes on with %+v", j)
			}
		})
	})
}

func TestDryRunHasThePassphraseOfItsPrune(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.registry.setBroken(errors.New("the coordinator must not look for it"))
		prune, err := w.submitWith(request(job.Prune, daily), "correct horse")
		if err != nil {
			t.Fatal(err)
		}
		dry := w.dryRun(prune)
		if got := w.opened(dry, 1); got != "correct horse" {
			t.Errorf("the host reads %q for the dry run", got)
		}
		w.ends(dry, shares(5, 1))
		w.expect(prune.ID, job.Running, 1, "")
		if got := w.opened(prune, 1); got != "correct horse" {
			t.Errorf("the host reads %q", got)
		}
	})
}

// knows stores archives of the repository web: their names, their host, and their
// machine.
func (w *world) knows(archives ...[3]string) {
	w.t.Helper()
	for _, a := range archives {
		known := fleet.Archive{Archive: job.Archive{Name: a[0], Start: time.Now(), Hostname: a[2]}, Host: a[1], SeenAt: time.Now()}
		if _, err := w.store.Apply(store.PutArchives("web", known)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestPruneLeavesOthersAlone(t *testing.T) {
	own := [3]string{"web1-2026-11-22T02:00:00", "web1", "vm7.example.net"}
	for name, test := range map[string]struct {
		spec  string
		known [][3]string
		other string // what is named in the refusal; empty: it goes
	}{
		"its own names":                 {daily, [][3]string{own, {"web2-2026-11-22T02:00:00", "web2", ""}}, ""},
		"a name that begins alike":      {daily, [][3]string{{"web1-db-2026-11-22T02:00:00", "web2", ""}, {"web1-2026", "web2", ""}}, ""},
		"another's under its own name":  {daily, [][3]string{{own[0], "web2", ""}}, "web2"},
		"all, alone":                    {`{"keep_daily":7,"all":true}`, [][3]string{own, {"x", "", ""}}, ""},
		"all, beside another":           {`{"keep_daily":7,"all":true}`, [][3]string{own, {"x", "web2", ""}}, "x of web2"},
		"a prefix":                      {`{"keep_daily":7,"prefix":"web1-"}`, [][3]string{own, {"web1-b", "web1", ""}, {"x", "web2", ""}}, ""},
		"a prefix that reaches":         {`{"keep_daily":7,"prefix":"web"}`, [][3]string{own, {"web2-a", "web2", ""}, {"web2-b", "web2", ""}}, "web2-a of web2 and 1 more"},
		"a host that was removed":       {`{"keep_daily":7,"all":true}`, [][3]string{{"x", "gone", ""}}, "x of gone"},
		"listed, of its machine":        {`{"keep_daily":7,"all":true}`, [][3]string{own, {"x", "", "vm7.example.net"}}, ""},
		"listed, of a machine so named": {`{"keep_daily":7,"all":true}`, [][3]string{{"x", "", "web1.example.net"}}, ""},
		"listed, of another host":       {`{"keep_daily":7,"all":true}`, [][3]string{{"x", "", "web2.example.net"}}, "x of web2"},
		"listed, of another's machine":  {`{"keep_daily":7,"all":true}`, [][3]string{{"x", "", "vm8"}, {"web2-a", "web2", "vm8"}}, "web2-a of web2 and 1 more"},
		"listed, of a strange machine":  {`{"keep_daily":7,"all":true}`, [][3]string{own, {"x", "", "laptop"}}, "x of laptop"},
		"of a machine that may be its":  {`{"keep_daily":7,"all":true}`, [][3]string{{"x", "", "laptop"}}, ""},
		"a series":                      {`{"keep_daily":7,"series":"web-"}`, [][3]string{own, {"web-db-2026-11-22T02:00:00", "web2", ""}, {"web-x", "web2", ""}}, ""},
		"a series that reaches":         {`{"keep_daily":7,"series":"web-"}`, [][3]string{own, {"web-2026-11-22T02:00:00", "web2", ""}}, "web-2026-11-22T02:00:00 of web2"},
		"a series is no pattern":        {`{"keep_daily":7,"series":"*"}`, [][3]string{{"web2-2026-11-22T02:00:00", "web2", ""}}, ""},
		"a series of a strange machine": {`{"keep_daily":7,"series":"nightly-"}`, [][3]string{own, {"nightly-2026-11-22T02:00:00", "", "laptop"}}, "laptop"},
		"its own series, renamed":       {`{"keep_daily":7,"series":"web1-daily-"}`, [][3]string{own, {"web1-daily-2026-11-22T02:00:00", "", "laptop"}}, ""},
		"its own from a renamed one":    {daily, [][3]string{own, {"web1-2025-11-22T02:00:00", "", "laptop"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				w.knows(test.known...)
				_, err := w.dispatch().Submit(context.Background(), fleet.Actor{}, request(job.Prune, test.spec))
				f := job.AsFailure(err)
				switch {
				case test.other == "" && err != nil:
					t.Errorf("refused: %v", err)
				case test.other != "" && (f == nil || f.Code != job.Conflict || !strings.Contains(f.Message, test.other) || f.Hint == ""):
					t.Errorf("got %v, want a conflict that names %q", err, test.other)
				}
			})
		})
	}
}

// TestPruneOfARepositoryWithTwoRecords: one repository that was declared twice is
// known by borg's id of it.
func TestPruneOfARepositoryWithTwoRecords(t *testing.T) {
	for name, test := range map[string]struct {
		web, db string // the ids, as far as they are known
		refused bool
	}{
		"the same id":        {"5e5e", "5e5e", true},
		"another repository": {"5e5e", "aa8e", false},
		"ids not known":      {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				w.knows([3]string{"x", "web2", ""})
				for repository, id := range map[string]string{"web": test.web, "db": test.db} {
					if _, err := w.store.Apply(store.PutRepositoryRecord(repository, store.RepositoryRecord{Info: &job.RepositoryInfo{ID: id}})); err != nil {
						t.Fatal(err)
					}
				}
				prune := request(job.Prune, `{"keep_daily":7,"all":true}`)
				prune.Repository = "db"
				_, err := w.dispatch().Submit(context.Background(), fleet.Actor{}, prune)
				if f := job.AsFailure(err); test.refused != (f != nil && f.Code == job.Conflict && strings.Contains(f.Message, "x of web2")) || !test.refused && err != nil {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestDryRunShowsOthersArchives: of a repository that was never listed, the dry run
// is the first that names any.
func TestDryRunShowsOthersArchives(t *testing.T) {
	for name, test := range map[string]struct {
		archive string
		known   [][3]string
		refused bool
	}{
		"another's name":             {"web2-2026-11-22T02:00:00", nil, true},
		"its own name":               {"web1-2026-11-22T02:00:00", nil, false},
		"of a host that is none":     {"db7-2026-11-22T02:00:00", nil, false},
		"a name of a person":         {"before-the-Transfer", nil, false},
		"another's name, made by it": {"web2-2026-11-22T02:00:00", [][3]string{{"web2-2026-11-22T02:00:00", "web1", ""}}, false},
	} {
		for where, result := range map[string]job.Result{"kept": {Kept: []string{"x", test.archive}}, "pruned": {Pruned: []string{test.archive}, Kept: []string{"x"}}} {
			t.Run(name+", "+where, func(t *testing.T) {
				scenario(t, func(t *testing.T, w *world) {
					w.knows(test.known...)
					// Confirmed is how many, not whose: nobody has listed the repository.
					prune := w.submit(request(job.Prune, `{"keep_daily":7,"all":true,"confirmed":true}`))
					w.ends(w.dryRun(prune), ended(job.Succeeded, result))
					if test.refused {
						w.over(prune.ID, job.Failed, job.Conflict, test.archive, "web2")
						return
					}
					w.expect(prune.ID, job.Running, 1, "")
				})
			})
		}
	}
}

// TestPruneIsLookedAtAgain finds another's archives when the prune could go.
func TestPruneIsLookedAtAgain(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		all := `{"keep_daily":7,"all":true,"confirmed":true}`
		w.does(backup("web1", "web"), ended(job.Succeeded, job.Result{Archive: "a"}))
		busy := w.submit(backup("web2", "web"))
		w.expect(busy.ID, job.Running, 1, "")
		prune := w.submit(request(job.Prune, all))
		w.agents["web2"].tell(first(busy), ended(job.Succeeded, job.Result{Archive: "b"}))
		w.mustDeliver()
		w.hello("web2")
		w.over(prune.ID, job.Failed, job.Conflict, "b of web2")
		_, err := w.dispatch().Retry(context.Background(), fleet.Actor{}, prune.ID)
		if f := job.AsFailure(err); f == nil || f.Code != job.Conflict {
			t.Errorf("retry: %v", err)
		}
	})
}

func TestMountedArchivesAreNotDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		mount, spec string
		refused     bool
	}{
		"by name":                   {mountSpec, `{"archives":["b","a"]}`, true},
		"by glob":                   {mountSpec, `{"glob":"?"}`, true},
		"another one":               {mountSpec, `{"archives":["b"]}`, false},
		"others, by glob":           {mountSpec, `{"glob":"b*"}`, false},
		"all but others, by glob":   {mountSpec, `{"glob":"[!b]"}`, true},
		"all but it, by glob":       {mountSpec, `{"glob":"[!a]"}`, false},
		"only to say which":         {mountSpec, `{"archives":["a"],"dry_run":true}`, false},
		"one of a whole repository": {`{"mount_point":"/var/restore/mnt"}`, `{"archives":["b"]}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				mount := w.submit(request(job.Mount, test.mount))
				elsewhere := request(job.Delete, test.spec)
				elsewhere.Repository = "db"
				w.submit(elsewhere)
				_, err := w.dispatch().Submit(context.Background(), fleet.Actor{}, request(job.Delete, test.spec))
				f := job.AsFailure(err)
				if !test.refused {
					if err != nil {
						t.Errorf("refused: %v", err)
					}
					return
				}
				if f == nil || f.Code != job.Conflict || !strings.Contains(f.Message, string(mount.ID)) ||
					!strings.Contains(f.Hint, "borgfleet archive umount /var/restore/mnt --host web1") {
					t.Errorf("got %v", err)
				}
				w.ends(mount, ended(job.Succeeded, job.Result{}))
				w.submit(request(job.Delete, test.spec))
			})
		})
	}
}

// TestPruneOverARestoration puts a store back that was copied while a prune waited
// for its dry run. Both have ended since.
func TestPruneOverARestoration(t *testing.T) {
	for name, goesOn := range map[string]bool{"after the dry run": false, "after the prune": true} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				prune := w.submit(request(job.Prune, daily))
				dry := w.dryRun(prune)
				copied, at := w.snapshot()
				time.Sleep(time.Second)
				w.agents["web1"].tell(first(dry), shares(5, 1))
				w.mustDeliver()
				w.hello("web1")
				w.expect(prune.ID, job.Running, 1, "")
				if goesOn {
					w.ends(prune, shares(5, 1))
				}
				w.next = 0 // the copy knows of nothing of it
				w.putBack(copied, at)
				w.mustDeliver()
				w.hello("web1")
				w.hello("web1")
				if !goesOn {
					w.ends(prune, shares(5, 1))
				}
				w.expect(dry.ID, job.Succeeded, 1, "")
				w.expect(prune.ID, job.Succeeded, 1, "")
				if n := len(w.agents["web1"].orders); n != 2 {
					t.Errorf("%d orders were carried out", n)
				}
			})
		})
	}
}

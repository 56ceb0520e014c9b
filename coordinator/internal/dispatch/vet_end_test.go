package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestFreezesForItsConfiguration(t *testing.T) {
	for name, seen := range map[string]job.Event{"whose archives are right": lists("a"), "that does not open": failed(job.PassphraseWrong)} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				w.recorded("a")
				w.depot.set(true, nil)
				writer := w.submit(deletes())
				w.ends(w.look(writer), seen)
				w.over(writer.ID, job.Failed, job.RepositoryFrozen, "configuration")
				if w.frozen() == nil {
					t.Error("repository is not frozen")
				}
			})
		})
	}
}

// Who cannot look must not delete, and does not freeze either.
func TestLookThatDoesNotEndWell(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(w *world)
		end     job.Event
		state   job.State
		code    job.Code
	}{
		"it fails":                    {nil, failed(job.PassphraseWrong), job.Failed, job.PassphraseWrong},
		"it says nothing":             {nil, job.Event{Type: job.EventFinished, State: job.Succeeded}, job.Failed, job.Internal},
		"its file cannot be compared": {func(w *world) { w.depot.set(false, errDisk) }, lists("a"), job.Failed, job.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				w.recorded("a")
				if test.prepare != nil {
					test.prepare(w)
				}
				writer := w.submit(deletes())
				look := w.look(writer)
				w.ends(look, test.end)
				w.over(writer.ID, test.state, test.code, string(look.ID))
				if f := w.frozen(); f != nil || w.dispatch().Busy("shared") {
					t.Errorf("frozen is %+v", f)
				}
			})
		})
	}
	t.Run("it is cancelled", func(t *testing.T) {
		keeping(t, func(t *testing.T, w *world) {
			writer := w.submit(deletes())
			look := w.look(writer)
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{}, look.ID); err != nil {
				t.Fatal(err)
			}
			w.ends(look, job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.over(writer.ID, job.Cancelled, job.CodeCancelled)
		})
	})
	t.Run("its job is cancelled", func(t *testing.T) {
		keeping(t, func(t *testing.T, w *world) {
			writer := w.submit(deletes())
			look := w.look(writer)
			if _, err := w.dispatch().Cancel(context.Background(), fleet.Actor{}, writer.ID); err != nil {
				t.Fatal(err)
			}
			if got := w.job(look.ID); !got.CancelRequested {
				t.Errorf("look is %+v", got)
			}
			if w.dispatch().Busy("shared") {
				t.Error("hosts are kept out")
			}
		})
	})
}

// pages lets a look at more archives than one list names come to its end.
func (w *world) pages(writer job.Job, all []job.Archive) {
	w.t.Helper()
	for before := len(all); ; {
		look := w.look(writer)
		spec := look.Spec.(job.ListSpec)
		if before < len(all) && !spec.Before.Equal(all[before].Start.Add(time.Microsecond)) {
			w.t.Fatalf("look goes on before %v", spec.Before)
		}
		end := before
		if before < len(all) {
			end++ // the one that was seen is seen again
		}
		from := max(0, end-job.MaxArchives)
		w.ends(look, ended(job.Succeeded, job.Result{Archives: all[from:end], ArchivesOmitted: from}))
		if before = from; from == 0 {
			return
		}
		w.restart()
		w.hello(fleet.LocalHost)
	}
}

func TestLooksAtMoreArchivesThanAListNames(t *testing.T) {
	names := make([]string, 2500)
	for i := range names {
		names[i] = fmt.Sprintf("x%04d", i)
	}
	for name, test := range map[string]struct {
		change  func(all []job.Archive) []job.Archive
		missing []string
		unknown []string
	}{
		"all are there":          {func(all []job.Archive) []job.Archive { return all }, nil, nil},
		"an old one is missing":  {func(all []job.Archive) []job.Archive { return slices.Delete(all, 7, 8) }, []string{"x0007"}, []string{}},
		"one is another one":     {func(all []job.Archive) []job.Archive { all[1200].ID = "mine"; return all }, []string{"x1200"}, []string{}},
		"an old one is unknown":  {func(all []job.Archive) []job.Archive { all[3].Name = "mine"; return all }, []string{"x0003"}, []string{"mine"}},
		"the newest are missing": {func(all []job.Archive) []job.Archive { return all[:2498] }, []string{"x2498", "x2499"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			keeping(t, func(t *testing.T, w *world) {
				w.recorded(names...)
				writer := w.submit(deletes())
				w.pages(writer, test.change(archives(names...)))
				f := w.frozen()
				if test.missing == nil {
					w.expect(writer.ID, job.Running, 1, "")
					if f != nil {
						t.Errorf("frozen is %+v", f)
					}
					return
				}
				if f == nil || cmp.Diff(test.missing, f.Missing) != "" || cmp.Diff(test.unknown, f.Unknown) != "" {
					t.Errorf("frozen is %+v", f)
				}
			})
		})
	}
	t.Run("that claim to be of one moment", func(t *testing.T) {
		keeping(t, func(t *testing.T, w *world) {
			w.recorded("a")
			writer := w.submit(deletes())
			same := archives(names[:job.MaxArchives]...)
			for i := range same {
				same[i].Name, same[i].Start = same[i].Name+".checkpoint", same[0].Start
			}
			for range 2 {
				w.ends(w.look(writer), ended(job.Succeeded, job.Result{Archives: same, ArchivesOmitted: 1}))
			}
			w.over(writer.ID, job.Failed, job.RepositoryFrozen, "one moment")
		})
	})
}

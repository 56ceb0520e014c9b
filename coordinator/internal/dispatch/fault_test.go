package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestPassphraseThatCannotBeRead(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.registry.setBroken(errors.New("key file is gone"))
		j := w.submit(backup("web1", "web"))
		got := w.job(j.ID)
		if got.State != job.Queued || !strings.Contains(got.Reason, "key file is gone") || len(got.Attempts) != 0 {
			t.Fatalf("job is %+v", got)
		}
		w.registry.setBroken(nil)
		time.Sleep(11 * time.Second)
		w.expect(j.ID, job.Running, 1, "")
	})
}

func TestStoreFaults(t *testing.T) {
	refused := errors.New("disk full")
	tests := map[string]struct {
		stored bool // the failing write is stored all the same
		err    error
	}{
		"refused":               {false, refused},
		"ambiguous, not stored": {false, store.ErrAmbiguous},
		"ambiguous, stored":     {true, store.ErrAmbiguous},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				fail := false
				w.dispatch().WrapApply(func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
					return func(changes ...store.Change) (uint64, error) {
						if !fail {
							return inner(changes...)
						}
						fail = false
						if test.stored {
							if _, err := inner(changes...); err != nil {
								return 0, err
							}
						}
						return 0, test.err
					}
				})
				request := backup("web1", "web")
				request.IdempotencyKey = "once"
				fail = true
				_, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, request)
				if f := job.AsFailure(err); f == nil || f.Code != job.Unavailable {
					t.Fatalf("submit on a broken store: %v", err)
				}
				j := w.submit(request) // the caller tries again
				w.expect(j.ID, job.Running, 1, "")
				watcher := w.feed.Watch()
				defer watcher.Close()
				w.agents["web1"].tell(first(j), job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: "x"}}})
				w.agents["web1"].tell(first(j), succeeded())
				fail = true
				if err := w.deliver(); err == nil {
					t.Fatal("events were acknowledged on a broken store")
				}
				w.mustDeliver()
				w.expect(j.ID, job.Succeeded, 1, "")
				if last := lastJob(t, watcher); last.State != job.Succeeded {
					t.Errorf("watchers were last told that the job is %s", last.State)
				}
				if logs, err := filepath.Glob(filepath.Join(w.dir, "logs", "*", "*.jsonl.zst")); err != nil || len(logs) != 1 {
					t.Errorf("compressed logs: %v, %v", logs, err)
				}
				if page, err := w.dispatch().Jobs(context.Background(), job.Filter{}); err != nil || len(page.Jobs) != 1 {
					t.Errorf("there are %d jobs, %v", len(page.Jobs), err)
				}
			})
		})
	}
}

// lastJob returns a job as watchers were told of it last.
func lastJob(t *testing.T, watcher *feed.Watcher) (last job.Job) {
	t.Helper()
	updates, err := watcher.Next(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, update := range updates {
		if update.Type == feed.JobChanged {
			last = *update.Job
		}
	}
	return last
}

func TestRestartKeepsLeases(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		one := w.submit(backup("web1", "web"))
		synctest.Wait()
		two := w.submit(backup("web2", "web"))
		busy := "repository web is busy with job …" + one.ID.Short() + " (backup of web1)"
		w.expect(two.ID, job.Queued, 0, busy)
		w.restart()
		w.expect(one.ID, job.Running, 1, "")
		w.hello("web2")
		w.expect(two.ID, job.Queued, 0, busy)
		w.hello("web1")
		w.agents["web1"].tell(first(one), succeeded())
		w.mustDeliver()
		w.expect(two.ID, job.Running, 1, "")
	})
}

func TestSlowHostDoesNotBlockOthers(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.link.setFault(func(host string) (error, error) {
			if host == "web1" {
				time.Sleep(4 * time.Second)
			}
			return nil, nil
		})
		slow, quick := w.submit(backup("web1", "web")), w.submit(backup("web2", "db"))
		w.expect(quick.ID, job.Running, 1, "")
		w.expect(slow.ID, job.Sent, 1, "")
		time.Sleep(5 * time.Second)
		w.expect(slow.ID, job.Running, 1, "")
	})
}

func TestFullDiskIsSaidPlainly(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		running := w.submit(backup("web1", "web"))
		w.expect(running.ID, job.Running, 1, "")
		full := true
		w.dispatch().WrapApply(func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
			return func(changes ...store.Change) (uint64, error) {
				if full {
					return 0, fmt.Errorf("%w: %w", store.ErrAmbiguous, &os.PathError{Op: "write", Path: "store.db", Err: syscall.ENOSPC})
				}
				return inner(changes...)
			}
		})
		_, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, backup("web2", "db"))
		if f := job.AsFailure(err); f.Code != job.Unavailable || f.Message != "submit job: no space left on device" || !strings.Contains(f.Hint, "make space") {
			t.Errorf("submit: %v", err)
		}
		w.agents["web1"].tell(first(running), succeeded())
		if w.deliver() == nil {
			t.Error("events were acknowledged on a full disk")
		}
		w.expect(running.ID, job.Running, 1, "")
		full = false
		w.mustDeliver()
		w.expect(running.ID, job.Succeeded, 1, "")
		if page, err := w.dispatch().Jobs(context.Background(), job.Filter{}); err != nil || len(page.Jobs) != 1 {
			t.Errorf("there are %d jobs, %v", len(page.Jobs), err)
		}
	})
}

func TestNoJobIsTakenWhileTheDiskIsFull(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		running := w.submit(backup("web1", "web"))
		w.expect(running.ID, job.Running, 1, "")
		said := job.Fail(job.DiskFull, "it is full")
		w.dispatch().SetFull(func() error { return said })
		asked := backup("web2", "db")
		asked.IdempotencyKey = "once"
		if _, err := w.dispatch().Submit(t.Context(), fleet.Actor{Name: "operator:alice"}, asked); !errors.Is(err, said) {
			t.Errorf("submit: %v", err)
		}
		compact := w.submit(job.Request{Host: "web2", Repository: "web", Kind: job.Compact}) // it frees space, and so is taken
		if _, err := w.dispatch().Cancel(t.Context(), fleet.Actor{Name: "operator:alice"}, compact.ID); err != nil {
			t.Fatal(err)
		}
		w.agents["web1"].tell(first(running), failed(job.HookFailed)) // the database has room in itself
		w.mustDeliver()
		w.expect(running.ID, job.Failed, 1, "")
		if _, err := w.dispatch().Retry(t.Context(), fleet.Actor{Name: "operator:alice"}, running.ID); !errors.Is(err, said) {
			t.Errorf("retry: %v", err)
		}
		w.dispatch().SetFull(func() error { return nil })
		w.expect(w.submit(asked).ID, job.Running, 1, "")
	})
}

func TestFullDiskIsNotHammered(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		next := w.submit(backup("web2", "web"))
		w.job(next.ID)
		var left, refused atomic.Int64 // writes until the disk is full; writes since
		left.Store(1)
		w.dispatch().WrapApply(func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
			return func(changes ...store.Change) (uint64, error) {
				if left.Add(-1) < 0 {
					refused.Add(1)
					return 0, errors.New("disk full")
				}
				return inner(changes...)
			}
		})
		w.agents["web1"].tell(first(j), succeeded())
		w.mustDeliver() // the last write; the next job cannot be stored as sent
		if _, err := w.dispatch().Submit(context.Background(), fleet.Actor{Name: "operator:alice"}, backup("web2", "db")); err == nil {
			t.Error("a job was taken in on a full disk")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := refused.Load(); n < 2 || n > 30 {
			t.Errorf("%d writes were tried within a minute on a full disk", n)
		}
		left.Store(1000)
		time.Sleep(10 * time.Second)
		w.expect(next.ID, job.Running, 1, "")
	})
}

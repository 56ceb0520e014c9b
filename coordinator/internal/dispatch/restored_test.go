package dispatch_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// snapshot copies the store as it is.
func (w *world) snapshot() (path string, at time.Time) {
	w.t.Helper()
	synctest.Wait()
	path = filepath.Join(w.t.TempDir(), "copy.db")
	file, err := os.Create(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer file.Close()
	if _, err := w.store.Snapshot(file); err != nil {
		w.t.Fatal(err)
	}
	return path, time.Now()
}

// putBack is a coordinator that dies, and comes back on an older copy of its
// store, with what the agents still have to tell in the stream.
func (w *world) putBack(path string, taken time.Time) {
	w.t.Helper()
	w.halt()
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "store.db"), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.openStore()
	if _, err := w.store.Apply(store.MarkRestored(store.Restored{SnapshotAt: taken, RestoredAt: time.Now()})); err != nil {
		w.t.Fatal(err)
	}
	w.start()
}

func TestJobsFromAfterTheCopyAreMadeAnew(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		copied, at := w.snapshot()
		time.Sleep(time.Second)
		running, over := w.submit(backup("web1", "web")), w.submit(backup("web2", "db"))
		w.expect(over.ID, job.Running, 1, "")
		w.agents["web2"].tell(first(over), succeeded())
		time.Sleep(time.Second)
		w.putBack(copied, at)
		reply := w.hello("web2")
		for _, v := range reply.Verdicts {
			if v.Action == bus.Forget || v.Stored != 0 {
				t.Errorf("verdict before the result is stored: %+v", v)
			}
		}
		w.hello("web1")
		w.mustDeliver()
		got := w.expect(over.ID, job.Succeeded, 1, "")
		if got.SubmittedBy != "recovered" || got.Result == nil || got.Kind != job.Backup || got.Repository != "db" || got.Host != "web2" ||
			!got.SubmittedAt.Equal(over.SubmittedAt.Truncate(time.Millisecond)) {
			t.Errorf("made anew: %+v", got)
		}
		if spec, ok := got.Spec.(job.BackupSpec); !ok || len(spec.Paths) != 1 {
			t.Errorf("spec %+v", got.Spec)
		}
		w.expect(running.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(running), succeeded())
		w.mustDeliver()
		w.expect(running.ID, job.Succeeded, 1, "")
		for range 2 {
			w.hello("web2")
		}
		if h := w.agents["web2"].hello(); len(h.Attempts) != 0 {
			t.Errorf("web2 still remembers %+v", h.Attempts)
		}
		if page, err := w.store.Audit(fleet.AuditFilter{Action: "borg.", Limit: 100}); err != nil || len(page.Entries) != 4 {
			t.Errorf("audit: %+v, %v", page.Entries, err)
		}
	})
}

// What a host says of a job that nobody knows counts only for a while after a
// restoration.
func TestLongAfterTheCopyNothingIsMadeAnew(t *testing.T) {
	const day = 24 * time.Hour
	for restored, want := range map[time.Duration]bool{29 * day: true, 31 * day: false} {
		scenario(t, func(t *testing.T, w *world) {
			w.halt()
			w.openStore()
			now := time.Now()
			mark := store.Restored{SnapshotAt: now.Add(-40 * day), RestoredAt: now.Add(-restored)}
			if _, err := w.store.Apply(store.MarkRestored(mark)); err != nil {
				t.Fatal(err)
			}
			w.start()
			event := succeeded()
			event.Job, event.Host, event.Attempt, event.Seq, event.At = job.NewID(now.Add(-35*day)), "web1", 1, 2, now
			origin := &bus.Origin{Kind: job.Backup, Repository: "web"}
			err := w.dispatch().HandleEvents(t.Context(), []bus.StreamEvent{{Sequence: 1, Event: bus.Event{Event: event, Origin: origin}}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.dispatch().Job(t.Context(), event.Job); (err == nil) != want {
				t.Errorf("%s after the restoration: %v", restored, err)
			}
		})
	}
}

func TestWhatCannotBeMadeAnewIsForgotten(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		copied, at := w.snapshot()
		time.Sleep(time.Second)
		w.putBack(copied, at)
		position := w.dispatch().StreamPosition()
		for name, test := range map[string]struct {
			id     job.ID
			origin *bus.Origin
		}{
			"before the copy":    {job.NewID(at.Add(-time.Hour)), &bus.Origin{Kind: job.Backup, Repository: "web"}},
			"after it":           {job.NewID(time.Now().Add(time.Hour)), &bus.Origin{Kind: job.Backup, Repository: "web"}},
			"no origin":          {job.NewID(at), nil},
			"no such repository": {job.NewID(at), &bus.Origin{Kind: job.Backup, Repository: "gone"}},
			"no such kind":       {job.NewID(at), &bus.Origin{Kind: "dance", Repository: "web"}},
		} {
			event := succeeded()
			event.Job, event.Host, event.Attempt, event.Seq, event.At = test.id, "web1", 1, 2, time.Now()
			position++
			err := w.dispatch().HandleEvents(context.Background(), []bus.StreamEvent{{Sequence: position, Event: bus.Event{Event: event, Origin: test.origin}}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := w.dispatch().Job(context.Background(), test.id); err == nil {
				t.Errorf("%s: there is a job", name)
			}
			reply, err := w.dispatch().HandleHello(context.Background(), bus.Hello{
				Host: "web1", SealKey: w.agents["web1"].hello().SealKey, JournalDepth: 1,
				Attempts: []bus.HostAttempt{{Job: test.id, Attempt: 1, LastSeq: 2, Finished: true}},
			})
			if err != nil || reply.Verdicts[0].Action != bus.Forget {
				t.Errorf("%s: %+v, %v", name, reply.Verdicts, err)
			}
		}
	})
}

func TestAnAttemptThatALaterLifeOrdered(t *testing.T) {
	for name, tell := range map[string]bool{"by its event": true, "by the hello": false} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				j := w.submit(backup("web1", "web"))
				w.expect(j.ID, job.Running, 1, "")
				w.mustDeliver()
				copied, at := w.snapshot()
				w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
				w.mustDeliver()
				w.hello("web1")
				time.Sleep(11 * time.Second)
				w.expect(j.ID, job.Running, 2, "")
				w.mustDeliver()
				w.hello("web1")
				w.putBack(copied, at)
				if tell {
					w.agents["web1"].tell(key{j.ID, 2}, job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: "x"}}})
					w.mustDeliver()
				} else {
					w.hello("web1")
				}
				w.expect(j.ID, job.Running, 2, "")
				w.restart() // it is in the store, too
				w.hello("web1")
				w.expect(j.ID, job.Running, 2, "")
				w.agents["web1"].tell(key{j.ID, 2}, succeeded())
				w.mustDeliver()
				w.expect(j.ID, job.Succeeded, 2, "")
				if n := len(w.agents["web1"].orders); n != 2 {
					t.Errorf("the host ran %d orders", n)
				}
			})
		})
	}
}

// A queued job whose attempt was run, stored and forgotten is not run again.
func TestAnAttemptThatIsOverIsNotRunAgain(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.agents["web1"].setUp(false)
		w.dispatch().HostDisconnected("web1")
		j := w.submit(backup("web1", "web"))
		copied, at := w.snapshot()
		w.agents["web1"].setUp(true)
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(j), succeeded())
		w.mustDeliver()
		w.hello("web1")
		w.hello("web1")
		w.putBack(copied, at)
		w.hello("web1")
		w.expect(j.ID, job.Succeeded, 1, "")
		if n := len(w.agents["web1"].orders); n != 1 {
			t.Errorf("the host ran %d orders", n)
		}
	})
}

// A running job whose attempt was ended, told and stored since the copy: only its
// host still knows how.
func TestHowAnAttemptEndedIsAsked(t *testing.T) {
	type life struct {
		forgotten bool           // the host keeps no tombstone
		change    func(w *world) // before the host is heard of again
		again     int            // orders that the host has run in the end
		state     job.State      // in the end
		attempt   int            // in the end
	}
	for name, test := range map[string]life{
		"forgotten":         {forgotten: true, state: job.Succeeded, attempt: 1, again: 1},
		"not yet forgotten": {state: job.Succeeded, attempt: 1, again: 1},
		"the answer is lost": {
			forgotten: true, state: job.Succeeded, attempt: 1, again: 1,
			change: func(w *world) { w.link.setFault(func(string) (error, error) { return nil, errLost }) },
		},
		"the coordinator dies meanwhile": {
			forgotten: true, state: job.Succeeded, attempt: 1, again: 1,
			change: func(w *world) {
				w.link.setFault(func(string) (error, error) { return nil, errLost })
				w.hello("web1")
				w.restart()
			},
		},
		"the host has lost its memory": {
			forgotten: true, state: job.Running, attempt: 2, again: 2,
			change: func(w *world) { clear(w.agents["web1"].fences) },
		},
		"the host has another journal": {
			forgotten: true, state: job.Running, attempt: 2, again: 2,
			change: func(w *world) {
				clear(w.agents["web1"].fences)
				w.agents["web1"].journal, w.agents["web1"].revision = "journal-2", 1
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				j := w.submit(backup("web1", "web"))
				w.expect(j.ID, job.Running, 1, "")
				w.mustDeliver()
				copied, at := w.snapshot()
				w.agents["web1"].tell(first(j), succeeded())
				w.mustDeliver()
				w.hello("web1")
				if !test.forgotten { // the events are stored, and the word to forget is lost
					w.agents["web1"].keepTombstone(first(j))
				}
				w.putBack(copied, at)
				if test.change != nil {
					test.change(w)
				}
				w.hello("web1")
				w.link.setFault(nil)
				w.hello("web1")
				time.Sleep(11 * time.Second)
				got := w.expect(j.ID, test.state, test.attempt, "")
				if n := len(w.agents["web1"].orders); n != test.again {
					t.Errorf("the host ran %d orders, want %d", n, test.again)
				}
				if test.state == job.Succeeded && (got.Result == nil || got.Result.Archive != "a") {
					t.Errorf("its result is %+v", got.Result)
				}
			})
		})
	}
}

// What the stream still holds tells more than the host's memory: nothing is asked
// before it is read.
func TestTheStreamIsReadBeforeAnythingIsAsked(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Running, 1, "")
		w.mustDeliver()
		copied, at := w.snapshot()
		from := w.next
		w.agents["web1"].tell(first(j), job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: "x"}}})
		w.agents["web1"].tell(first(j), succeeded())
		w.mustDeliver()
		w.hello("web1")
		w.next, w.behind = from, true
		w.putBack(copied, at)
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		w.mustDeliver()
		w.dispatch().CaughtUp()
		w.expect(j.ID, job.Succeeded, 1, "")
		if log, err := w.dispatch().Log(context.Background(), j.ID, 0); err != nil || len(log.Lines) != 1 {
			t.Errorf("its log is %+v, %v", log, err)
		}
	})
}

// A job that waits for a retry in the copy, of which the host has ended the retry
// since: its end is heard of in one go.
func TestARetryOfALaterLifeThatIsOver(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Running, 1, "")
		w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
		w.mustDeliver()
		if got := w.job(j.ID); got.State != job.Queued {
			t.Fatalf("job is %s, and should wait for a retry", got.State)
		}
		copied, at := w.snapshot()
		time.Sleep(11 * time.Second)
		w.hello("web1")
		w.expect(j.ID, job.Running, 2, "")
		w.agents["web1"].tell(key{j.ID, 2}, succeeded())
		w.putBack(copied, at)
		w.mustDeliver()
		if got := w.expect(j.ID, job.Succeeded, 2, ""); len(got.Attempts) != 2 || got.Attempts[0].Failure.Message != "it broke" {
			t.Errorf("attempts are %+v", got.Attempts)
		}
	})
}

func TestNothingIsOrderedBeforeTheStreamIsRead(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.behind = true
		w.restart()
		w.hello("web1")
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Queued, 0, "")
		w.dispatch().CaughtUp()
		w.expect(j.ID, job.Running, 1, "")
		w.restart() // the bus is away, and nothing is ever read
		w.hello("web2")
		other := w.submit(backup("web2", "db"))
		w.expect(other.ID, job.Queued, 0, "")
		time.Sleep(31 * time.Second)
		w.hello("web2")
		w.expect(other.ID, job.Running, 1, "")
	})
}

// originOf is what an order's events say of it.
func originOf(o bus.Order) *bus.Origin {
	return &bus.Origin{Kind: o.Kind, Repository: o.Repository.Name, Spec: json.RawMessage(o.Spec), Archive: o.Archive, SentAt: o.IssuedAt}
}

package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// scenario runs a test in a bubble of its own time, with two hosts that have
// said hello and two repositories.
func scenario(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []string{"web1", "web2"}, []string{"web", "db"})
		w.hello("web1")
		w.hello("web2")
		test(t, w)
	})
}

func first(j job.Job) key { return key{j.ID, 1} }

func TestJobFromSubmitToEnd(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		watcher := w.feed.Watch()
		defer watcher.Close()
		j := w.submit(backup("web1", "web"))
		if j.State != job.Queued || j.MaxAttempts != 3 || j.SubmittedBy != "operator:alice" {
			t.Errorf("submitted job is %+v", j)
		}
		w.expect(j.ID, job.Running, 1, "")
		a := w.agents["web1"]
		order := a.orders[0]
		if !strings.HasPrefix(order.Archive, "web1-2000-01-01T00:00:00") || order.Baseline != nil || order.Repository.Location != "/srv/web" {
			t.Errorf("order is %+v", order)
		}
		value, err := secret.Open(*order.Passphrase, secret.Purpose{Host: "web1", Repository: "web"}, a.seal)
		if err != nil || !value.Equal(secret.FromString("pass-web")) {
			t.Errorf("sealed passphrase does not open: %v", err)
		}
		time.Sleep(time.Second)
		a.tell(first(j), job.Event{Type: job.EventStarted, PID: 42})
		a.tell(first(j), job.Event{Type: job.EventLog, Lines: []job.LogLine{{Level: job.LevelInfo, Text: "hello"}}})
		w.mustDeliver()
		percent := 42.0
		w.dispatch().HandleProgress("web1", bus.Progress{Job: j.ID, Attempt: 1, Progress: job.Progress{Percent: &percent}})
		running := w.expect(j.ID, job.Running, 1, "")
		if running.Progress == nil || *running.Progress.Percent != 42 || running.StartedAt == nil {
			t.Errorf("running job is %+v", running)
		}
		time.Sleep(time.Minute)
		a.tell(first(j), succeeded())
		w.mustDeliver()
		over := w.expect(j.ID, job.Succeeded, 1, "")
		if over.Progress != nil || over.Result.OriginalSize != 100 || over.Duration(time.Now()) != time.Minute {
			t.Errorf("finished job is %+v", over)
		}
		log, err := w.dispatch().Log(context.Background(), j.ID, 0)
		if err != nil || len(log.Lines) != 1 || log.Lines[0].Text != "hello" || !log.Complete {
			t.Errorf("log is %+v, %v", log, err)
		}
		checkStored(t, w, j)
		want := []job.EventType{job.EventQueued, job.EventSent, job.EventAccepted, job.EventStarted, job.EventLog, job.EventFinished}
		if diff := cmp.Diff(want, eventTypes(t, watcher)); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		next := w.submit(backup("web1", "web"))
		w.expect(next.ID, job.Running, 1, "")
		if got := a.orders[1].Baseline; got == nil || got.OriginalSize != 100 || got.NFiles != 3 {
			t.Errorf("baseline of the next backup is %+v", got)
		}
	})
}

// checkStored checks what the end of a backup leaves behind.
func checkStored(t *testing.T, w *world, j job.Job) {
	t.Helper()
	if states, err := w.store.AttemptStates(); err != nil || len(states) != 0 {
		t.Errorf("attempt states left: %v, %v", states, err)
	}
	summary, found, err := w.store.BackupSummary("web1", "web")
	if err != nil || !found || summary.Job != j.ID {
		t.Errorf("summary is %+v, %v, %v", summary, found, err)
	}
	if runs, err := w.store.Runs("web1"); err != nil || len(runs) != 1 || runs[0] != job.Succeeded {
		t.Errorf("runs are %v, %v", runs, err)
	}
	reply := w.hello("web1")
	want := []bus.Verdict{{Job: j.ID, Attempt: 1, Action: bus.Forget, Stored: 4}}
	if diff := cmp.Diff(want, reply.Verdicts); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func eventTypes(t *testing.T, watcher *feed.Watcher) []job.EventType {
	t.Helper()
	updates, err := watcher.Next(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var types []job.EventType
	for _, update := range updates {
		if update.Type == feed.JobEvent {
			types = append(types, update.Event.Type)
		}
	}
	return types
}

func TestSecondJobSaysWhatItWaitsFor(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		one := w.submit(backup("web1", "web"))
		w.expect(one.ID, job.Running, 1, "")
		two := w.submit(backup("web2", "web"))
		w.expect(two.ID, job.Queued, 0, "repository web is busy with job …"+one.ID.Short()+" (backup of web1)")
		w.agents["web1"].tell(first(one), succeeded())
		w.mustDeliver()
		w.expect(one.ID, job.Succeeded, 1, "")
		w.expect(two.ID, job.Running, 1, "")
	})
}

func TestPriorityGoesFirst(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		busy := w.submit(backup("web1", "web"))
		synctest.Wait()
		low := w.submit(backup("web2", "web"))
		request := backup("web2", "web")
		request.Priority = 10
		high := w.submit(request)
		synctest.Wait()
		w.agents["web1"].tell(first(busy), succeeded())
		w.mustDeliver()
		w.expect(high.ID, job.Running, 1, "")
		w.expect(low.ID, job.Queued, 0, "repository web is busy with job …"+high.ID.Short()+" (backup of web2)")
	})
}

func TestRetryRule(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		watcher := w.feed.Watch()
		defer watcher.Close()
		j := w.submit(backup("web1", "web"))
		for attempt := 1; attempt <= 3; attempt++ {
			w.expect(j.ID, job.Running, attempt, "")
			w.agents["web1"].tell(key{j.ID, attempt}, failed(job.ConnectionLost))
			w.mustDeliver()
			if attempt < 3 {
				waiting := w.job(j.ID)
				if waiting.State != job.Queued || !strings.HasPrefix(waiting.Reason, "retry ") || waiting.RetryAt == nil {
					t.Fatalf("after attempt %d: %+v", attempt, waiting)
				}
				time.Sleep(21 * time.Second)
			}
		}
		over := w.expect(j.ID, job.Failed, 3, "")
		if over.Failure.Code != job.ConnectionLost || len(over.Attempts) != 3 || over.Attempts[0].State != job.Failed {
			t.Errorf("job is %+v", over)
		}
		finished := 0
		for _, e := range eventTypes(t, watcher) {
			if e == job.EventFinished {
				finished++
			}
		}
		if finished != 1 {
			t.Errorf("finished was told %d times", finished)
		}
	})
}

func TestFailureThatWillNotGoAwayIsNotRetried(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.agents["web1"].tell(first(j), failed(job.PassphraseWrong))
		w.mustDeliver()
		w.expect(j.ID, job.Failed, 1, "")
	})
}

func TestRefusedOrder(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.agents["web1"].refuse = job.Fail(job.RefusedByHost, "kind backup is not allowed here")
		j := w.submit(backup("web1", "web"))
		over := w.expect(j.ID, job.Failed, 1, "")
		if over.Failure.Code != job.RefusedByHost {
			t.Errorf("failure is %+v", over.Failure)
		}
		w.mustDeliver() // the host tells it once more
		w.expect(j.ID, job.Failed, 1, "")
	})
}

func TestArchiveNamesOfOneSecond(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		want := []string{"web1-2000-01-01T00:00:00", "web1-2000-01-01T00:00:00-2", "web2-2000-01-01T00:00:00", "web1-2000-01-01T00:00:00-3"}
		var got []string
		for _, host := range []string{"web1", "web1", "web2", "web1"} {
			j := w.submit(backup(host, "web"))
			synctest.Wait()
			w.agents[host].tell(first(j), succeeded())
			w.mustDeliver()
			orders := w.agents[host].orders
			got = append(got, orders[len(orders)-1].Archive)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("archives (-want +got):\n%s", diff)
		}
	})
}

// TestHistoryOutlivesAClockThatJumps: what is old is said by what came after it.
func TestHistoryOutlivesAClockThatJumps(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.history = dispatch.History{Keep: 24 * time.Hour}
		run := func() job.ID {
			w.hello("web1")
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.agents["web1"].tell(first(j), succeeded())
			w.mustDeliver()
			return j.ID
		}
		old := run()
		time.Sleep(23 * time.Hour)
		last := run()
		w.halt()
		time.Sleep(10 * 365 * 24 * time.Hour) // for the coordinator, as if its clock had jumped
		w.openStore()
		w.start()
		w.expect(old, job.Succeeded, 1, "")
		run()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		for _, id := range []job.ID{old, last} {
			if _, err := w.dispatch().Job(context.Background(), id); err == nil {
				t.Errorf("%s is still there", id)
			}
		}
	})
}

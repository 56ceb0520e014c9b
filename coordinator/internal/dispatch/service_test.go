package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
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

func TestHostAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []string{"web1"}, []string{"web"})
		j := w.submit(backup("web1", "web"))
		w.expect(j.ID, job.Queued, 0, "host web1 has never connected")
		w.dispatch().HostConnected("web1")
		w.expect(j.ID, job.Queued, 0, "host web1 has just connected and not said hello yet")
		w.agents["web1"].setUp(false)
		w.hello("web1") // said just before it went
		back := w.expect(j.ID, job.Queued, 0, "host web1 offline since 00:00:00 UTC")
		if len(back.Attempts) != 0 {
			t.Errorf("attempts of an order that was not delivered: %+v", back.Attempts)
		}
		w.agents["web1"].setUp(true)
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		time.Sleep(time.Second)
		w.dispatch().HostDisconnected("web1")
		w.expect(j.ID, job.Running, 1, "host web1 offline since 00:00:01 UTC")
		w.hello("web1")
		w.expect(j.ID, job.Running, 1, "")
		time.Sleep(2 * time.Minute) // silence
		w.expect(j.ID, job.Running, 1, "host web1 offline since 00:01:31 UTC")
	})
}

func TestAmbiguousOrderIsSentAgain(t *testing.T) {
	for name, fault := range map[string][2]error{
		"request lost": {errLost, nil}, "reply lost": {nil, errLost},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				w.link.setFault(func(string) (error, error) { return fault[0], fault[1] })
				j := w.submit(backup("web1", "web"))
				w.expect(j.ID, job.Sent, 1, "host web1 has not answered the order; its next hello settles it")
				w.link.setFault(nil)
				w.hello("web1")
				w.expect(j.ID, job.Running, 1, "")
				a := w.agents["web1"]
				if len(a.orders) != 1 {
					t.Fatalf("the host ran %d orders", len(a.orders))
				}
				a.tell(first(j), succeeded())
				w.mustDeliver()
				w.expect(j.ID, job.Succeeded, 1, "")
			})
		})
	}
}

func TestSentOrderToHostThatGoesAwayStaysSent(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		w.link.setFault(func(string) (error, error) { return nil, errLost })
		j := w.submit(backup("web1", "web"))
		w.job(j.ID)
		w.link.setFault(func(string) (error, error) { return fleet.ErrHostAway, nil })
		// A hello from before the order: the host does not know it yet.
		old := w.agents["web1"].hello()
		old.Attempts, old.Stamp.Revision = nil, 0
		if _, err := w.dispatch().HandleHello(context.Background(), old); err != nil {
			t.Fatal(err)
		}
		w.expect(j.ID, job.Sent, 1, "host web1 offline since 00:00:00 UTC")
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

func TestLostAttempt(t *testing.T) {
	tests := map[string]struct {
		change func(a *agent)
		state  job.State
	}{
		"another journal":         {func(a *agent) { a.journal, a.revision = "journal-2", 1 }, job.Queued},
		"the journal has gone on": {func(a *agent) { a.revision++ }, job.Queued},
		"an older hello":          {func(a *agent) { a.revision = 0 }, job.Running},
		"no stamp":                {func(a *agent) { a.journal = "" }, job.Running},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			scenario(t, func(t *testing.T, w *world) {
				j := w.submit(backup("web1", "web"))
				w.expect(j.ID, job.Running, 1, "")
				a := w.agents["web1"]
				a.attempts = map[key]*record{}
				test.change(a)
				w.hello("web1")
				got := w.job(j.ID)
				if got.State != test.state {
					t.Fatalf("job is %s (%s), want %s", got.State, got.Reason, test.state)
				}
				if got.State == job.Queued {
					if f := got.Attempts[0].Failure; f == nil || f.Code != job.Interrupted {
						t.Errorf("first attempt failed with %+v", f)
					}
					time.Sleep(11 * time.Second)
					w.expect(j.ID, job.Running, 2, "")
				}
			})
		})
	}
}

func TestFencedAttempt(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		a := w.agents["web1"]
		kept := a.attempts
		a.attempts, a.journal = map[key]*record{}, "journal-2"
		w.hello("web1")
		time.Sleep(11 * time.Second)
		w.expect(j.ID, job.Running, 2, "")
		a.attempts[first(j)] = kept[first(j)] // the old journal is found again
		reply := w.hello("web1")
		for _, v := range reply.Verdicts {
			if v.Attempt == 1 && v.Action != bus.Stop {
				t.Errorf("verdict on the old attempt is %+v", v)
			}
		}
		a.tell(first(j), succeeded())
		w.mustDeliver()
		w.expect(j.ID, job.Running, 2, "")
		a.tell(key{j.ID, 2}, succeeded())
		w.mustDeliver()
		w.expect(j.ID, job.Succeeded, 2, "")
	})
}

func TestCancel(t *testing.T) {
	ctx := context.Background()
	t.Run("queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, []string{"web1"}, []string{"web"})
			j := w.submit(backup("web1", "web"))
			for range 2 { // the second changes nothing
				if got, err := w.dispatch().Cancel(ctx, "operator:bob", j.ID); err != nil || got.State != job.Cancelled {
					t.Fatalf("cancel: %+v, %v", got, err)
				}
			}
			w.hello("web1")
			w.expect(j.ID, job.Cancelled, 0, "")
		})
	})
	t.Run("running", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			if _, err := w.dispatch().Cancel(ctx, "operator:bob", j.ID); err != nil {
				t.Fatal(err)
			}
			got := w.expect(j.ID, job.Running, 1, "")
			a := w.agents["web1"]
			if !got.CancelRequested || a.of(first(j)).cancelled {
				t.Fatal("the wish is not stored, or was told by a broken link")
			}
			w.restart()
			w.link.setFault(nil)
			w.hello("web1")
			if !a.of(first(j)).cancelled {
				t.Fatal("the wish was not repeated in the hello's reply")
			}
			w.expect(j.ID, job.Running, 1, "")
			a.tell(first(j), job.Event{Type: job.EventFinished, State: job.Cancelled})
			w.mustDeliver()
			w.expect(j.ID, job.Cancelled, 1, "")
			if _, err := w.dispatch().Cancel(ctx, "operator:bob", j.ID); err != nil {
				t.Errorf("cancelling again: %v", err)
			}
		})
	})
	t.Run("sent, and the host has never seen it", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			w.link.setFault(func(string) (error, error) { return errLost, nil })
			j := w.submit(backup("web1", "web"))
			w.job(j.ID)
			if _, err := w.dispatch().Cancel(ctx, "operator:bob", j.ID); err != nil {
				t.Fatal(err)
			}
			w.link.setFault(nil)
			w.hello("web1")
			w.mustDeliver()
			w.expect(j.ID, job.Cancelled, 1, "")
			if n := len(w.agents["web1"].orders); n != 0 {
				t.Errorf("the host ran %d orders", n)
			}
		})
	})
	t.Run("retry waits", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.agents["web1"].tell(first(j), failed(job.ConnectionLost))
			w.mustDeliver()
			if _, err := w.dispatch().Cancel(ctx, "operator:bob", j.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.expect(j.ID, job.Cancelled, 1, "")
		})
	})
	t.Run("over", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.agents["web1"].tell(first(j), succeeded())
			w.mustDeliver()
			_, err := w.dispatch().Cancel(ctx, "operator:bob", j.ID)
			if f := job.AsFailure(err); f == nil || f.Code != job.Conflict {
				t.Errorf("cancel: %v", err)
			}
		})
	})
	t.Run("unknown", func(t *testing.T) {
		scenario(t, func(t *testing.T, w *world) {
			_, err := w.dispatch().Cancel(ctx, "operator:bob", job.NewID(time.Now()))
			if f := job.AsFailure(err); f == nil || f.Code != job.UnknownJob {
				t.Errorf("cancel: %v", err)
			}
		})
	})
}

func TestRetryMakesANewJob(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		if _, err := w.dispatch().Retry(context.Background(), "operator:bob", j.ID); job.AsFailure(err).Code != job.Conflict {
			t.Errorf("retry of an open job: %v", err)
		}
		synctest.Wait()
		w.agents["web1"].tell(first(j), failed(job.DiskFull))
		w.mustDeliver()
		again, err := w.dispatch().Retry(context.Background(), "operator:bob", j.ID)
		if err != nil || again.ID == j.ID || again.SubmittedBy != "operator:bob" {
			t.Fatalf("retry: %+v, %v", again, err)
		}
		w.expect(again.ID, job.Running, 1, "")
		w.expect(j.ID, job.Failed, 1, "")
	})
}

func TestSubmitRefuses(t *testing.T) {
	big := `{"paths":["/` + strings.Repeat("x", job.MaxSpecBytes) + `"]}`
	tests := map[string]struct {
		change func(r *job.Request)
		code   job.Code
		word   string
	}{
		"a plan":             {func(r *job.Request) { r.Plan = "web1-daily" }, job.InvalidRequest, "plan"},
		"no kind":            {func(r *job.Request) { r.Kind = "" }, job.InvalidRequest, "kind"},
		"an unknown kind":    {func(r *job.Request) { r.Kind = "defrag" }, job.UnknownKind, "defrag"},
		"a kind of later":    {func(r *job.Request) { r.Kind = job.Mount }, job.UnknownKind, "mount"},
		"no host":            {func(r *job.Request) { r.Host = "" }, job.InvalidRequest, "host"},
		"an unknown host":    {func(r *job.Request) { r.Host = "web9" }, job.UnknownHost, "web9"},
		"no repository":      {func(r *job.Request) { r.Repository = "" }, job.InvalidRequest, "repository"},
		"unknown repository": {func(r *job.Request) { r.Repository = "nope" }, job.UnknownRepository, "nope"},
		"an empty spec":      {func(r *job.Request) { r.Spec = nil }, job.InvalidSpec, "paths"},
		"two bad fields":     {func(r *job.Request) { r.Spec = json.RawMessage(`{"paths":["etc"],"compression":"rar"}`) }, job.InvalidSpec, "rar"},
		"an unknown field":   {func(r *job.Request) { r.Spec = json.RawMessage(`{"path":["/etc"]}`) }, job.InvalidSpec, "path"},
		"a huge spec":        {func(r *job.Request) { r.Spec = json.RawMessage(big) }, job.TooLarge, "spec"},
		"too many attempts":  {func(r *job.Request) { r.MaxAttempts = 11 }, job.InvalidRequest, "max_attempts"},
		"negative attempts":  {func(r *job.Request) { r.MaxAttempts = -1 }, job.InvalidRequest, "max_attempts"},
		"an absurd priority": {func(r *job.Request) { r.Priority = 101 }, job.InvalidRequest, "priority"},
		"a long key":         {func(r *job.Request) { r.IdempotencyKey = strings.Repeat("k", 201) }, job.InvalidRequest, "idempotency_key"},
	}
	scenario(t, func(t *testing.T, w *world) {
		for name, test := range tests {
			request := backup("web1", "web")
			test.change(&request)
			_, err := w.dispatch().Submit(context.Background(), "operator:alice", request)
			var f *job.Failure
			if !errors.As(err, &f) || f.Code != test.code || !strings.Contains(f.Message, test.word) {
				t.Errorf("%s: got %v, want code %s and the word %q", name, err, test.code, test.word)
			}
		}
		if page, err := w.dispatch().Jobs(context.Background(), job.Filter{}); err != nil || len(page.Jobs) != 0 {
			t.Errorf("refused requests left %d jobs, %v", len(page.Jobs), err)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		request := backup("web1", "web")
		request.IdempotencyKey = "nightly-1"
		one, two := w.submit(request), w.submit(request)
		if one.ID != two.ID {
			t.Errorf("the same key made jobs %s and %s", one.ID, two.ID)
		}
		w.restart()
		if three := w.submit(request); three.ID != one.ID {
			t.Errorf("after a restart the same key made job %s", three.ID)
		}
		request.Host = "web2"
		_, err := w.dispatch().Submit(context.Background(), "operator:alice", request)
		if f := job.AsFailure(err); f == nil || f.Code != job.Conflict {
			t.Errorf("the same key with another request: %v", err)
		}
	})
}

func TestTooManyOpenJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, []string{"web1"}, []string{"web"})
		w.halt()
		w.limits.Open = 2
		w.openStore()
		w.start()
		w.submit(backup("web1", "web"))
		w.submit(backup("web1", "web"))
		_, err := w.dispatch().Submit(context.Background(), "operator:alice", backup("web1", "web"))
		if f := job.AsFailure(err); f == nil || f.Code != job.Unavailable || f.Hint == "" {
			t.Errorf("third job: %v", err)
		}
	})
}

func TestHostileEvents(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.mustDeliver()
		before := w.expect(j.ID, job.Running, 1, "")
		for name, e := range map[string]job.Event{
			"another host's":     {Job: j.ID, Host: "web2", Attempt: 1, Seq: 2, Type: job.EventFinished, State: job.Succeeded},
			"unknown job":        {Job: job.NewID(time.Now()), Host: "web1", Attempt: 1, Seq: 1, Type: job.EventFinished, State: job.Failed},
			"not a job id":       {Job: "../../etc/passwd", Host: "web1", Attempt: 1, Seq: 1, Type: job.EventLog},
			"a later attempt":    {Job: j.ID, Host: "web1", Attempt: 2, Seq: 1, Type: job.EventFinished, State: job.Failed},
			"a negative attempt": {Job: j.ID, Host: "web1", Attempt: -1, Seq: 1, Type: job.EventFinished, State: job.Failed},
			"no number":          {Job: j.ID, Host: "web1", Attempt: 1, Seq: 0, Type: job.EventFinished, State: job.Failed},
			"not a host's type":  {Job: j.ID, Host: "web1", Attempt: 1, Seq: 9, Type: job.EventRetried},
			"an unknown type":    {Job: j.ID, Host: "web1", Attempt: 1, Seq: 9, Type: "boom"},
			"a repeat":           {Job: j.ID, Host: "web1", Attempt: 1, Seq: 1, Type: job.EventAccepted},
		} {
			position := w.dispatch().StreamPosition()
			err := w.dispatch().HandleEvents(context.Background(), []bus.StreamEvent{{Sequence: position + 1, Event: bus.Event{Event: e}}})
			if err != nil || w.dispatch().StreamPosition() != position+1 {
				t.Errorf("%s: %v, position %d", name, err, w.dispatch().StreamPosition())
			}
			if diff := cmp.Diff(before, w.job(j.ID)); diff != "" {
				t.Errorf("%s changed the job:\n%s", name, diff)
			}
		}
		if counts, err := w.dispatch().Counts(); err != nil || counts.EventsDropped != 9 || counts.EventsApplied != 1 {
			t.Errorf("counts are %+v, %v", counts, err)
		}
		w.agents["web1"].tell(first(j), job.Event{Type: job.EventFinished, State: "exploded"})
		w.mustDeliver()
		if over := w.expect(j.ID, job.Failed, 1, ""); over.Failure == nil || over.Failure.Code != job.Internal {
			t.Errorf("a senseless end made %+v", over.Failure)
		}
	})
}

func TestHelloOfHostileHost(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.mustDeliver()
		reply, err := w.dispatch().HandleHello(context.Background(), bus.Hello{
			Host: "web2", Stamp: bus.Stamp{Journal: "x", Revision: 9}, SealKey: "X", Attempts: []bus.HostAttempt{
				{Job: j.ID, Attempt: 1, LastSeq: 9}, {Job: "../x", Attempt: 1, LastSeq: 2, Finished: true},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := []bus.Verdict{
			{Job: j.ID, Attempt: 1, Action: bus.Keep, Stored: 9}, {Job: "../x", Attempt: 1, Action: bus.Forget, Stored: 2},
		}
		if diff := cmp.Diff(want, reply.Verdicts); diff != "" {
			t.Errorf("verdicts (-want +got):\n%s", diff)
		}
		w.expect(j.ID, job.Running, 1, "")
		if _, err := w.dispatch().HandleHello(context.Background(), bus.Hello{Host: "web9"}); job.AsFailure(err).Code != job.UnknownHost {
			t.Errorf("hello of an unknown host: %v", err)
		}
	})
}

func TestLogThatCannotBeWrittenDoesNotLoseTheEnd(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		spoilLogs(t, w.dir)
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.agents["web1"].tell(first(j), job.Event{Type: job.EventLog, Lines: []job.LogLine{{Text: "lost"}}})
		w.agents["web1"].tell(first(j), succeeded())
		w.mustDeliver()
		w.expect(j.ID, job.Succeeded, 1, "")
		if counts, err := w.dispatch().Counts(); err != nil || counts.LogFaults == 0 {
			t.Errorf("counts are %+v, %v", counts, err)
		}
	})
}

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
				_, err := w.dispatch().Submit(context.Background(), "operator:alice", request)
				if f := job.AsFailure(err); f == nil || f.Code != job.Unavailable {
					t.Fatalf("submit on a broken store: %v", err)
				}
				j := w.submit(request) // the caller tries again
				w.expect(j.ID, job.Running, 1, "")
				w.agents["web1"].tell(first(j), succeeded())
				fail = true
				if err := w.deliver(); err == nil {
					t.Fatal("events were acknowledged on a broken store")
				}
				w.mustDeliver()
				w.expect(j.ID, job.Succeeded, 1, "")
				if page, err := w.dispatch().Jobs(context.Background(), job.Filter{}); err != nil || len(page.Jobs) != 1 {
					t.Errorf("there are %d jobs, %v", len(page.Jobs), err)
				}
			})
		})
	}
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

func TestArchiveNamesOfOneSecond(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		want := []string{"web1-2000-01-01T00:00:00", "web1-2000-01-01T00:00:00-2", "web1-2000-01-01T00:00:00-3"}
		for range want {
			j := w.submit(backup("web1", "web"))
			synctest.Wait()
			w.agents["web1"].tell(first(j), succeeded())
			w.mustDeliver()
		}
		var got []string
		for _, order := range w.agents["web1"].orders {
			got = append(got, order.Archive)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("archives (-want +got):\n%s", diff)
		}
	})
}

func TestStatus(t *testing.T) {
	ctx := context.Background()
	status := func(t *testing.T, w *world) fleet.Status {
		t.Helper()
		synctest.Wait()
		s, err := w.dispatch().Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	end := func(w *world, event job.Event) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.agents["web1"].tell(first(j), event)
		w.mustDeliver()
	}
	scenario(t, func(t *testing.T, w *world) {
		if s := status(t, w); s.Summary != "No backups yet" || s.HostsOnline != 2 || len(s.Attention) != 0 {
			t.Errorf("fresh: %q %+v", s.Summary, s.Attention)
		}
		end(w, failed(job.DiskFull))
		if s := status(t, w); s.Summary != "1 of 1 backup needs attention" || len(s.Attention) != 1 || s.Attention[0].Kind != "failed" || s.Jobs[job.Failed] != 1 {
			t.Errorf("failed: %q %+v", s.Summary, s.Attention)
		}
		w.restart()
		w.hello("web1")
		w.hello("web2")
		if s := status(t, w); len(s.Attention) != 1 {
			t.Errorf("after a restart: %q %+v", s.Summary, s.Attention)
		}
		end(w, job.Event{Type: job.EventFinished, State: job.Warning, Result: &job.Result{Warnings: []string{"/x: changed", "/y: changed"}}})
		if s := status(t, w); len(s.Attention) != 1 || s.Attention[0].Kind != "warning" || !strings.HasSuffix(s.Attention[0].Message, "/x: changed and 1 more") {
			t.Errorf("warning: %q %+v", s.Summary, s.Attention)
		}
		end(w, succeeded())
		if s := status(t, w); s.Summary != "The one backup is fine" || len(s.Attention) != 0 || len(s.Recent) != 3 {
			t.Errorf("succeeded: %q %+v", s.Summary, s.Attention)
		}
		w.dispatch().HostDisconnected("web2")
		if s := status(t, w); len(s.Attention) != 0 || s.HostsOnline != 1 {
			t.Errorf("an idle host went: %+v", s.Attention)
		}
		w.submit(backup("web2", "db"))
		if s := status(t, w); len(s.Attention) != 1 || s.Attention[0].Kind != "offline" || s.Summary != "1 thing needs attention" || len(s.Queued) != 1 {
			t.Errorf("a job waits for a host that is away: %q %+v", s.Summary, s.Attention)
		}
	})
}

func TestRepositoryFactsFromJobs(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		run := func(kind job.Kind, spec string, result job.Result) {
			j := w.submit(job.Request{Host: "web1", Repository: "web", Kind: kind, Spec: json.RawMessage(spec)})
			synctest.Wait()
			w.agents["web1"].tell(first(j), job.Event{Type: job.EventFinished, State: job.Succeeded, Result: &result})
			w.mustDeliver()
		}
		run(job.Info, `{}`, job.Result{Repository: &job.RepositoryInfo{ID: "abc"}})
		run(job.Prune, `{"keep_daily":7,"dry_run":true}`, job.Result{})
		record, err := w.store.RepositoryRecord("web")
		if err != nil || record.Info == nil || record.Info.ID != "abc" || record.LastPrune != nil {
			t.Errorf("record is %+v, %v", record, err)
		}
		run(job.Prune, `{"keep_daily":7}`, job.Result{})
		run(job.Check, `{}`, job.Result{})
		run(job.Compact, `{}`, job.Result{})
		record, err = w.store.RepositoryRecord("web")
		if err != nil || record.LastPrune == nil || record.LastCheck == nil || record.LastCompact == nil || record.Info == nil {
			t.Errorf("record is %+v, %v", record, err)
		}
	})
}

package dispatch_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestHostileEvents(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		j := w.submit(backup("web1", "web"))
		synctest.Wait()
		w.mustDeliver()
		before := w.expect(j.ID, job.Running, 1, "")
		for name, e := range map[string]job.Event{
			"another host's":      {Job: j.ID, Host: "web2", Attempt: 1, Seq: 2, Type: job.EventFinished, State: job.Succeeded},
			"unknown job":         {Job: job.NewID(time.Now()), Host: "web1", Attempt: 1, Seq: 1, Type: job.EventFinished, State: job.Failed},
			"not a job id":        {Job: "../../etc/passwd", Host: "web1", Attempt: 1, Seq: 1, Type: job.EventLog},
			"too late an attempt": {Job: j.ID, Host: "web1", Attempt: 4, Seq: 1, Type: job.EventFinished, State: job.Failed},
			"a negative attempt":  {Job: j.ID, Host: "web1", Attempt: -1, Seq: 1, Type: job.EventFinished, State: job.Failed},
			"no number":           {Job: j.ID, Host: "web1", Attempt: 1, Seq: 0, Type: job.EventFinished, State: job.Failed},
			"not a host's type":   {Job: j.ID, Host: "web1", Attempt: 1, Seq: 9, Type: job.EventRetried},
			"an unknown type":     {Job: j.ID, Host: "web1", Attempt: 1, Seq: 9, Type: "boom"},
			"a repeat":            {Job: j.ID, Host: "web1", Attempt: 1, Seq: 1, Type: job.EventAccepted},
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

// TestProgressEndsWithItsAttempt has progress come in while the end is stored.
func TestProgressEndsWithItsAttempt(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		for range 25 {
			j := w.submit(backup("web1", "web"))
			w.expect(j.ID, job.Running, 1, "")
			w.agents["web1"].tell(first(j), succeeded())
			var over atomic.Bool
			var tellers sync.WaitGroup
			for range 4 {
				tellers.Go(func() {
					for !over.Load() {
						w.dispatch().HandleProgress("web1", bus.Progress{Job: j.ID, Attempt: 1})
					}
				})
			}
			err := w.deliver()
			over.Store(true)
			tellers.Wait()
			if n := w.dispatch().LiveProgress(); n != 0 || err != nil {
				t.Fatalf("progress of %d jobs is remembered, and none runs (%v)", n, err)
			}
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
		run(job.Prune, `{"keep_daily":7,"confirmed":true}`, job.Result{})
		run(job.Check, `{}`, job.Result{})
		run(job.Compact, `{}`, job.Result{})
		record, err = w.store.RepositoryRecord("web")
		if err != nil || record.LastPrune == nil || record.LastCheck == nil || record.LastCompact == nil || record.Info == nil {
			t.Errorf("record is %+v, %v", record, err)
		}
	})
}

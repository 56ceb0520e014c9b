package journal_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
)

// clocked returns a journal, and the time that it goes by.
func clocked(t *testing.T) (*journal.Journal, *time.Time) {
	t.Helper()
	now := noon
	j, err := journal.Open(journal.Options{
		Path: filepath.Join(t.TempDir(), "journal.db"), Logger: hclog.NewNullLogger(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, &now
}

// over takes an attempt through its life until it is forgotten.
func over(t *testing.T, j *journal.Journal, o bus.Order, end job.Event) {
	t.Helper()
	accept(t, j, o)
	record(t, j, o, end)
	if settled := settle(t, j, o, bus.Forget, 2); len(settled.Forgotten) != 1 {
		t.Fatalf("forgotten %v", settled.Forgotten)
	}
}

func answer(t *testing.T, j *journal.Journal, o bus.Order) (bus.OrderReply, bool) {
	t.Helper()
	reply, known, err := j.Answer(attempt.KeyOf(o))
	if err != nil {
		t.Fatal(err)
	}
	return reply, known
}

func TestForgottenAttemptIsAnsweredWithItsOutcome(t *testing.T) {
	j, now := clocked(t)
	o := order(1)
	accept(t, j, o)
	if settled := settle(t, j, o, bus.Forget, 1); len(settled.Forgotten) != 0 {
		t.Errorf("an open attempt was forgotten")
	}
	end := event(job.EventFinished, job.Warning)
	end.Result = &job.Result{
		Archive: "a", NFiles: 7, Archives: make([]job.Archive, 3), Kept: []string{"x"}, Pruned: []string{"y"}, KeyExport: "secret",
	}
	for i := range 12 {
		end.Result.Warnings = append(end.Result.Warnings, fmt.Sprint(i, strings.Repeat("ü", 500)))
	}
	record(t, j, o, end)
	for stored, told := range []bool{false, false, true} { // its events are gone before it is forgotten
		settle(t, j, o, bus.Keep, stored)
		if reply, known := answer(t, j, o); !known || !reply.Accepted || (reply.Over != nil) != told {
			t.Errorf("with %d of 2 events stored: known %v, reply %+v", stored, known, reply)
		}
	}
	settled := settle(t, j, o, bus.Forget, 2)
	if diff := cmp.Diff([]attempt.Key{attempt.KeyOf(o)}, settled.Forgotten); diff != "" {
		t.Fatalf("forgotten (-want +got):\n%s", diff)
	}
	if s := snapshot(t, j); len(s.Records) != 0 || s.Depth != 0 {
		t.Errorf("after forget the journal still has %+v", s)
	}
	before := snapshot(t, j).Stamp
	*now = noon.Add(29 * 24 * time.Hour)
	reply, isNew, err := j.Accept(o, nil, event(job.EventAccepted, job.Running))
	if err != nil || isNew || !reply.Accepted || reply.Over == nil {
		t.Fatalf("late repeat: reply %+v, new %v, error %v; want its outcome", reply, isNew, err)
	}
	want := job.Event{
		Job: o.Job, Host: "web1", Attempt: 1, Seq: 2, Type: job.EventFinished, At: noon, State: job.Warning,
		Result: &job.Result{Archive: "a", NFiles: 7, ArchivesOmitted: 3, KeptOmitted: 1, PrunedOmitted: 1, WarningsOmitted: 2, Warnings: reply.Over.Result.Warnings},
	}
	if diff := cmp.Diff(&want, reply.Over); diff != "" || len(reply.Over.Result.Warnings) != 10 {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
	if len(end.Result.Archives) != 3 || len(end.Result.Warnings) != 12 {
		t.Error("the event itself was shortened")
	}
	if _, open, err := j.Cancel(attempt.KeyOf(o), event(job.EventFinished, job.Cancelled)); err != nil || open {
		t.Errorf("late cancellation: open %v, error %v", open, err)
	}
	if s := snapshot(t, j); len(s.Records) != 0 || s.Stamp.Revision > before.Revision+1 {
		t.Errorf("repeat and cancellation brought back %+v", s)
	}
}

func TestForgottenRefusalIsAnsweredAsBefore(t *testing.T) {
	j, o := fresh(t), order(1)
	refusal := job.Fail(job.RefusedByHost, "not here")
	end := event(job.EventFinished, job.Failed)
	end.Failure = refusal
	if _, _, err := j.Accept(o, refusal, end); err != nil {
		t.Fatal(err)
	}
	settle(t, j, o, bus.Forget, 1)
	reply, known := answer(t, j, o)
	if !known || reply.Accepted || reply.Over == nil {
		t.Fatalf("known %v, %+v", known, reply)
	}
	if diff := cmp.Diff(refusal, reply.Failure); diff != "" {
		t.Errorf("failure (-want +got):\n%s", diff)
	}
}

func TestOutcomesAreForgottenInTheEnd(t *testing.T) {
	t.Run("by age", func(t *testing.T) {
		j, now := clocked(t)
		first, second := order(1), order(1)
		over(t, j, first, event(job.EventFinished, job.Succeeded))
		*now = noon.Add(20 * 24 * time.Hour)
		over(t, j, second, event(job.EventFinished, job.Succeeded))
		*now = noon.Add(31 * 24 * time.Hour)
		over(t, j, order(1), event(job.EventFinished, job.Succeeded))
		if _, known := answer(t, j, first); known {
			t.Error("the one of 31 days is still known")
		}
		if _, known := answer(t, j, second); !known {
			t.Error("the one of 11 days is not known any more")
		}
	})
	t.Run("by number", func(t *testing.T) {
		j := fresh(t)
		j.LimitOutcomes(5)
		var all []bus.Order
		for range 12 {
			o := order(1)
			all = append(all, o)
			over(t, j, o, event(job.EventFinished, job.Succeeded))
		}
		for i, o := range all {
			if _, known := answer(t, j, o); known != (i >= 7) {
				t.Errorf("number %d of 12 is known: %v; want the last five", i+1, known)
			}
		}
	})
	t.Run("a clock that jumps far drops few at once", func(t *testing.T) {
		j, now := clocked(t)
		var verdicts []bus.Verdict
		var all []bus.Order
		for range 100 {
			o := order(1)
			all = append(all, o)
			accept(t, j, o)
			record(t, j, o, event(job.EventFinished, job.Succeeded))
			verdicts = append(verdicts, bus.Verdict{Job: o.Job, Attempt: 1, Action: bus.Forget, Stored: 2})
		}
		if _, err := j.Settle(verdicts); err != nil {
			t.Fatal(err)
		}
		*now = noon.Add(365 * 24 * time.Hour)
		over(t, j, order(1), event(job.EventFinished, job.Succeeded))
		*now = noon
		if _, known := answer(t, j, all[99]); !known {
			t.Error("the newest is gone")
		}
	})
}

func TestOriginIsTold(t *testing.T) {
	small, large := json.RawMessage(`{"paths":["/etc"]}`), json.RawMessage(`{"paths":["/`+strings.Repeat("a", 20<<10)+`"]}`)
	escaped := json.RawMessage(`{"paths":["/` + strings.Repeat("<", 250<<10) + `"]}`)
	for name, test := range map[string]struct{ spec, accepted, finished json.RawMessage }{
		"small":                    {small, small, small},
		"large":                    {large, large, nil},
		"longer on the bus by far": {escaped, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			j, o := fresh(t), order(1)
			o.Spec, o.Archive = test.spec, "web1-now"
			accept(t, j, o)
			record(t, j, o, event(job.EventStarted, job.Running))
			record(t, j, o, event(job.EventFinished, job.Succeeded))
			list := events(t, j, o, 0)
			want := bus.Origin{Kind: job.Backup, Repository: "main", Archive: "web1-now", SentAt: noon}
			for i, spec := range []json.RawMessage{test.accepted, nil, test.finished} {
				if i == 1 {
					if list[i].Origin != nil {
						t.Errorf("%s has an origin", list[i].Type)
					}
					continue
				}
				want.Spec = spec
				if diff := cmp.Diff(&want, list[i].Origin); diff != "" {
					t.Errorf("%s (-want +got):\n%.500s", list[i].Type, diff)
				}
				if data, err := json.Marshal(list[i]); err != nil || len(data) > bus.MaxMessageBytes {
					t.Errorf("%s has %d bytes, error %v", list[i].Type, len(data), err)
				}
			}
		})
	}
	t.Run("never ordered", func(t *testing.T) {
		j, o := fresh(t), order(1)
		if _, _, err := j.Cancel(attempt.KeyOf(o), event(job.EventFinished, job.Cancelled)); err != nil {
			t.Fatal(err)
		}
		if list := events(t, j, o, 0); len(list) != 1 || list[0].Origin != nil {
			t.Errorf("events %+v", list)
		}
	})
}

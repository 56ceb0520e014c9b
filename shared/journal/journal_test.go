package journal_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Path: path, Logger: hclog.NewNullLogger(), Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatalf("open journal: %v", err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func fresh(t *testing.T) *journal.Journal {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "journal.db"))
}

func order(number int) bus.Order {
	return bus.Order{
		Host: "web1", Job: job.NewID(noon), Attempt: number, IssuedAt: noon, ExpiresAt: noon.Add(bus.OrderLifetime),
		Kind: job.Backup, Spec: json.RawMessage(`{"paths":["/etc"]}`),
		Repository: job.Repository{Name: "main", Location: "/srv/repo", Encryption: job.Repokey},
		Passphrase: &secret.Sealed{Sender: "X", Ciphertext: []byte("sealed")},
	}
}

func event(kind job.EventType, state job.State) job.Event {
	return job.Event{Host: "web1", Type: kind, State: state, At: noon}
}

// accept takes an order in and fails the test unless that works.
func accept(t *testing.T, j *journal.Journal, o bus.Order) bus.OrderReply {
	t.Helper()
	reply, _, err := j.Accept(o, nil, event(job.EventAccepted, job.Running))
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	return reply
}

func record(t *testing.T, j *journal.Journal, o bus.Order, e job.Event) {
	t.Helper()
	if err := j.Record(attempt.KeyOf(o), attempt.Mark{}, e); err != nil {
		t.Fatalf("record: %v", err)
	}
}

func snapshot(t *testing.T, j *journal.Journal) attempt.Snapshot {
	t.Helper()
	s, err := j.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return s
}

func settle(t *testing.T, j *journal.Journal, o bus.Order, action bus.Action, stored int) attempt.Settled {
	t.Helper()
	settled, err := j.Settle([]bus.Verdict{{Job: o.Job, Attempt: o.Attempt, Action: action, Stored: stored}})
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
	return settled
}

func events(t *testing.T, j *journal.Journal, o bus.Order, after int) []bus.Event {
	t.Helper()
	list, err := j.Events(attempt.KeyOf(o), after, 100)
	if err != nil {
		t.Fatalf("events: %v", err)
	}
	return list
}

func TestAcceptedOrderSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	o := order(1)
	reply := accept(t, j, o)
	mark := attempt.Mark{Stdout: 3, Stderr: 70, LogLines: 2, StartedTold: true}
	if err := j.Record(attempt.KeyOf(o), mark, event(job.EventStarted, job.Running)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = open(t, path)
	unfinished, err := j.Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	want := []attempt.Record{{Key: attempt.KeyOf(o), Order: &o, Mark: mark, LastSeq: 2}}
	if diff := cmp.Diff(want, unfinished); diff != "" {
		t.Errorf("open attempts after reopening (-want +got):\n%s", diff)
	}
	if got := snapshot(t, j).Stamp; got.Journal != reply.Stamp.Journal || got.Revision != reply.Stamp.Revision+1 {
		t.Errorf("stamp after reopening %+v; the order was answered at %+v and one event followed", got, reply.Stamp)
	}
	list := events(t, j, o, 0)
	if len(list) != 2 || list[0].Seq != 1 || list[1].Seq != 2 || list[1].Type != job.EventStarted || list[1].Job != o.Job {
		t.Errorf("events after reopening: %+v", list)
	}
	if list[0].Stamp.Revision >= list[1].Stamp.Revision {
		t.Errorf("stamps of events do not grow: %+v, %+v", list[0].Stamp, list[1].Stamp)
	}
}

func TestRepeatedOrderGetsTheSameAnswer(t *testing.T) {
	refusal := job.Fail(job.RefusedByHost, "not here")
	tests := map[string]struct {
		refusal *job.Failure
		first   job.Event
	}{
		"accepted": {nil, event(job.EventAccepted, job.Running)},
		"refused":  {refusal, event(job.EventFinished, job.Failed)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			j, o := fresh(t), order(1)
			first, isNew, err := j.Accept(o, test.refusal, test.first)
			if err != nil || !isNew {
				t.Fatalf("first answer: new %v, error %v", isNew, err)
			}
			before := snapshot(t, j)
			again, isNew, err := j.Accept(o, nil, event(job.EventAccepted, job.Running))
			if err != nil || isNew {
				t.Fatalf("repeated answer: new %v, error %v", isNew, err)
			}
			if diff := cmp.Diff(first, again); diff != "" {
				t.Errorf("answers differ (-first +again):\n%s", diff)
			}
			if diff := cmp.Diff(before, snapshot(t, j)); diff != "" {
				t.Errorf("a repeat changed the journal:\n%s", diff)
			}
		})
	}
}

func TestRefusedOrderIsOverAtOnce(t *testing.T) {
	j, o := fresh(t), order(1)
	_, _, err := j.Accept(o, job.Fail(job.RefusedByHost, "no"), event(job.EventFinished, job.Failed))
	if err != nil {
		t.Fatal(err)
	}
	if open, err := j.Unfinished(); err != nil || len(open) != 0 {
		t.Errorf("open attempts %v, error %v; want none", open, err)
	}
	if s := snapshot(t, j); s.Depth != 1 || !s.Records[0].Finished {
		t.Errorf("snapshot %+v; want one finished record with one event", s)
	}
}

func TestRecordNeedsAnOpenAttempt(t *testing.T) {
	j, o := fresh(t), order(1)
	if err := j.Record(attempt.KeyOf(o), attempt.Mark{}, event(job.EventStarted, job.Running)); !errors.Is(err, attempt.ErrUnknown) {
		t.Errorf("unknown attempt: error %v, want ErrUnknown", err)
	}
	accept(t, j, o)
	record(t, j, o, event(job.EventFinished, job.Succeeded))
	before := snapshot(t, j)
	if err := j.Record(attempt.KeyOf(o), attempt.Mark{}, event(job.EventFinished, job.Failed)); !errors.Is(err, attempt.ErrFinished) {
		t.Errorf("finished attempt: error %v, want ErrFinished", err)
	}
	if diff := cmp.Diff(before, snapshot(t, j)); diff != "" {
		t.Errorf("a failed record changed the journal:\n%s", diff)
	}
}

func TestEventsStayUntilStored(t *testing.T) {
	j, o, other := fresh(t), order(1), order(1)
	accept(t, j, o)
	accept(t, j, other)
	record(t, j, o, event(job.EventStarted, job.Running))
	record(t, j, o, event(job.EventFinished, job.Succeeded))

	settle(t, j, o, bus.Keep, 2)
	if list := events(t, j, o, 0); len(list) != 1 || list[0].Seq != 3 {
		t.Errorf("events after two were stored: %+v; want only the third", list)
	}
	settle(t, j, o, bus.Keep, 1) // an older verdict comes late
	settle(t, j, o, bus.Keep, 9) // more than there are
	if s := snapshot(t, j); s.Depth != 1 {
		t.Errorf("depth %d; want 1, the other attempt's", s.Depth)
	}
	if list := events(t, j, other, 0); len(list) != 1 {
		t.Errorf("the other attempt's events: %+v; want its one", list)
	}
	before := snapshot(t, j).Stamp
	settle(t, j, o, bus.Keep, 3)
	if after := snapshot(t, j).Stamp; after != before {
		t.Errorf("a verdict that says nothing new moved the stamp from %+v to %+v", before, after)
	}
}

func TestCancel(t *testing.T) {
	over := event(job.EventFinished, job.Cancelled)
	t.Run("before the order", func(t *testing.T) {
		j, o := fresh(t), order(1)
		if _, open, err := j.Cancel(attempt.KeyOf(o), over); err != nil || open {
			t.Fatalf("open %v, error %v", open, err)
		}
		reply, isNew, err := j.Accept(o, nil, event(job.EventAccepted, job.Running))
		if err != nil || isNew || !reply.Accepted {
			t.Errorf("order after its cancellation: %+v, new %v, error %v", reply, isNew, err)
		}
		list := events(t, j, o, 0)
		if len(list) != 1 || list[0].State != job.Cancelled || list[0].Seq != 1 {
			t.Errorf("events %+v; want one cancelled end", list)
		}
	})
	t.Run("of an open attempt", func(t *testing.T) {
		j, o := fresh(t), order(1)
		accept(t, j, o)
		stamp, open, err := j.Cancel(attempt.KeyOf(o), over)
		if err != nil || !open || stamp.Revision != 2 {
			t.Errorf("stamp %+v, open %v, error %v", stamp, open, err)
		}
		records, err := j.Unfinished()
		if err != nil || len(records) != 1 || !records[0].Cancelled {
			t.Errorf("open attempts %+v, error %v; want one, cancelled", records, err)
		}
	})
	t.Run("by a verdict", func(t *testing.T) {
		j, o := fresh(t), order(1)
		accept(t, j, o)
		if settled := settle(t, j, o, bus.Stop, 0); len(settled.Cancelled) != 1 {
			t.Errorf("settled %+v; want the attempt cancelled", settled)
		}
	})
	t.Run("of a finished attempt", func(t *testing.T) {
		j, o := fresh(t), order(1)
		accept(t, j, o)
		record(t, j, o, event(job.EventFinished, job.Succeeded))
		if _, open, err := j.Cancel(attempt.KeyOf(o), over); err != nil || open {
			t.Errorf("open %v, error %v", open, err)
		}
		if list := events(t, j, o, 0); list[len(list)-1].State != job.Succeeded {
			t.Errorf("the end became %+v", list[len(list)-1])
		}
	})
}

func TestFinishedAttemptKeepsNoSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j, o := open(t, path), order(1)
	accept(t, j, o)
	record(t, j, o, event(job.EventFinished, job.Succeeded))
	if open, err := j.Unfinished(); err != nil || len(open) != 0 {
		t.Fatalf("open attempts %v, error %v", open, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("journal's mode %v, error %v; want 0600", info.Mode(), err)
	}
}

func TestOpenFailsClearly(t *testing.T) {
	tests := map[string]struct {
		prepare func(t *testing.T, path string)
		code    job.Code
		message string
	}{
		"in use": {func(t *testing.T, path string) { open(t, path) }, job.Conflict, "already in use by another agent"},
		"of a newer version": {func(t *testing.T, path string) {
			edit(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("schema"), []byte{0, 0, 0, 0, 0, 0, 0, 9})
			})
		}, job.Unavailable, "newer version"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal.db")
			test.prepare(t, path)
			_, err := journal.Open(journal.Options{Path: path, Logger: hclog.NewNullLogger()})
			failure, ok := errors.AsType[*job.Failure](err)
			if !ok {
				t.Fatalf("error %v; want a failure", err)
			}
			if failure.Code != test.code || !strings.Contains(failure.Message, test.message) || failure.Hint == "" {
				t.Errorf("failure %+v; want code %s, %q in the message, and a hint", failure, test.code, test.message)
			}
			if aside := journal.Damaged(path); len(aside) > 0 {
				t.Errorf("it was set aside as %v", aside)
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit changes a journal's file behind its back.
func edit(t *testing.T, path string, f func(*bolt.Tx) error) {
	t.Helper()
	j := open(t, path)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

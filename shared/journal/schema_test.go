package journal_test

import (
	"encoding/binary"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/journal"
)

// writeSchema1 writes a journal as the version before this one did: an open
// attempt, a finished one, and one that was forgotten and is fenced.
func writeSchema1(t *testing.T, path string, running, finished, fenced bus.Order) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := func(o bus.Order, seq ...int) []byte {
		k := binary.BigEndian.AppendUint32([]byte(o.Job), uint32(o.Attempt))
		for _, n := range seq {
			k = binary.BigEndian.AppendUint32(k, uint32(n))
		}
		return k
	}
	told := func(o bus.Order, seq int, kind job.EventType, state job.State) bus.Event {
		e := event(kind, state)
		e.Job, e.Attempt, e.Seq = o.Job, o.Attempt, seq
		return bus.Event{Event: e, Stamp: bus.Stamp{Journal: "OLD", Revision: uint64(seq)}}
	}
	err = db.Update(func(tx *bolt.Tx) error {
		put := func(bucket string, k []byte, value any) {
			t.Helper()
			raw, ok := value.([]byte)
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err == nil && !ok {
				raw, err = json.Marshal(value)
			}
			if err == nil {
				err = b.Put(k, raw)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		put("meta", []byte("schema"), binary.BigEndian.AppendUint64(nil, 1))
		put("meta", []byte("id"), []byte("OLD"))
		put("meta", []byte("revision"), binary.BigEndian.AppendUint64(nil, 41))
		put("attempts", key(running), map[string]any{"mark": attempt.Mark{Stdout: 3, StartedTold: true}, "last_seq": 2, "expires_at": noon})
		put("attempts", key(finished), map[string]any{"last_seq": 2, "stored": 1, "finished": true, "expires_at": noon})
		put("orders", key(running), running)
		put("events", key(running, 1), told(running, 1, job.EventAccepted, job.Running))
		put("events", key(running, 2), told(running, 2, job.EventStarted, job.Running))
		put("events", key(finished, 2), told(finished, 2, job.EventFinished, job.Succeeded))
		put("fences", key(fenced), map[string]any{"failure": job.Fail(job.RefusedByHost, "not here"), "until": noon})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSchema1IsTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	running, finished, fenced := order(2), order(1), order(1)
	writeSchema1(t, path, running, finished, fenced)
	for range 2 { // it is done once
		j := open(t, path)
		if stamp := snapshot(t, j).Stamp; stamp.Journal != "OLD" || stamp.Revision != 41 {
			t.Errorf("stamp %+v; want that of before", stamp)
		}
		unfinished, err := j.Unfinished()
		want := []attempt.Record{{Key: attempt.KeyOf(running), Order: &running, Mark: attempt.Mark{Stdout: 3, StartedTold: true}, LastSeq: 2}}
		if diff := cmp.Diff(want, unfinished); diff != "" || err != nil {
			t.Errorf("open attempts (-want +got), error %v:\n%s", err, diff)
		}
		if list := events(t, j, running, 0); len(list) != 2 {
			t.Errorf("events %+v", list)
		}
		if reply, known := answer(t, j, fenced); !known || reply.Accepted || reply.Failure.Code != job.RefusedByHost || reply.Over != nil {
			t.Errorf("what was fenced: known %v, %+v", known, reply)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, path)
	settle(t, j, finished, bus.Forget, 2)
	if reply, known := answer(t, j, finished); !known || reply.Over == nil || reply.Over.State != job.Succeeded {
		t.Errorf("what had finished: known %v, %+v", known, reply)
	}
	if aside := journal.Damaged(path); len(aside) > 0 {
		t.Errorf("it was set aside as %v", aside)
	}
}

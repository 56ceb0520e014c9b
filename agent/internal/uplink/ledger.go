package uplink

import (
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
)

// ledger remembers which events the stream has acknowledged in this session,
// so that they are not published again while the coordinator is storing them.
type ledger struct {
	mu    sync.Mutex
	acked map[attempt.Key]ack
}

type ack struct {
	seq int
	at  time.Time // of the last acknowledgement
}

func newLedger() *ledger { return &ledger{acked: map[attempt.Key]ack{}} }

// upTo returns the number of the last acknowledged event.
func (l *ledger) upTo(key attempt.Key) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked[key].seq
}

func (l *ledger) ack(key attempt.Key, seq int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[key] = ack{seq: seq, at: at}
}

// overdue takes back what was acknowledged before the given moment and is not
// stored yet, and reports whether there was anything. It is told again then: a
// stream may lose what it acknowledged.
func (l *ledger) overdue(records []attempt.Record, before time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := false
	for _, r := range records {
		if a := l.acked[r.Key]; a.seq > r.Stored && a.at.Before(before) {
			delete(l.acked, r.Key)
			found = true
		}
	}
	return found
}

// reset takes back all acknowledgements. What the stream has all the same it
// recognises as a repeat.
func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.acked)
}

// retain drops what is not in the journal any more.
func (l *ledger) retain(records []attempt.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := make(map[attempt.Key]ack, len(records))
	for _, r := range records {
		if a, ok := l.acked[r.Key]; ok {
			known[r.Key] = a
		}
	}
	l.acked = known
}

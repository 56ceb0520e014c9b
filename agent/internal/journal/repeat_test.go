package journal_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/agent/internal/journal"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestAnOrderThatCameAgainStaysKnownUntilItsLastCopyHasExpired: the coordinator
// sends an order again with later times when it got no answer.
func TestAnOrderThatCameAgainStaysKnownUntilItsLastCopyHasExpired(t *testing.T) {
	for name, afterForget := range map[string]bool{"while it is open": false, "after it was forgotten": true} {
		t.Run(name, func(t *testing.T) {
			now := noon
			j, err := journal.Open(journal.Options{
				Path: filepath.Join(t.TempDir(), "journal.db"), Logger: hclog.NewNullLogger(), Now: func() time.Time { return now }})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			first := order(1)
			accept(t, j, first)
			again := first
			again.ExpiresAt = first.ExpiresAt.Add(bus.OrderLifetime)
			repeat := func() {
				t.Helper()
				if reply, isNew, err := j.Accept(again, nil, event(job.EventAccepted, job.Running)); err != nil || isNew || !reply.Accepted {
					t.Fatalf("repeat: reply %+v, new %v, error %v; want the old answer", reply, isNew, err)
				}
			}
			if !afterForget {
				repeat()
			}
			record(t, j, first, event(job.EventFinished, job.Succeeded))
			settle(t, j, first, bus.Forget, 2)
			if afterForget {
				repeat()
			}
			now = first.ExpiresAt.Add(time.Second)
			other := order(1)
			accept(t, j, other)
			record(t, j, other, event(job.EventFinished, job.Succeeded))
			settle(t, j, other, bus.Forget, 2) // drops what is over
			repeat()
		})
	}
}

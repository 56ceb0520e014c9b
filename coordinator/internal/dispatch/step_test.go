package dispatch

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// No event leads to a step that the state table has not, as far as we know. If one
// does, it is passed over, and nothing else is.
func TestAnIllegalStepIsPassedOver(t *testing.T) {
	running := entry{
		job:     job.Job{ID: numbered(1), Host: "web1", State: job.Running, Attempt: 1},
		attempt: store.AttemptState{Job: numbered(1), Attempt: 1, LastSeq: 3},
	}
	s := &Service{index: newIndex()}
	s.index.set(&running)
	b := &batch{s: s, entries: map[job.ID]*entry{}, put: map[job.ID]bool{}}
	event := bus.Event{Event: job.Event{Job: numbered(1), Attempt: 1, Seq: 4, Type: job.EventFinished, Host: "web1"}}
	for _, state := range []job.State{job.Sent, job.Expired} {
		from, to := running, running
		to.job.State = state
		if why := b.step(&from, &to, event); why != dropIllegal {
			t.Fatalf("from running to %s: dropped as %q", state, why)
		}
		kept := b.get(numbered(1))
		if kept.job.State != job.Running || kept.attempt.LastSeq != 4 || b.put[numbered(1)] {
			t.Errorf("from running to %s: it is %s at event %d, written %v", state, kept.job.State, kept.attempt.LastSeq, b.put[numbered(1)])
		}
		if why := kept.judge(event.Event); why != dropRepeat {
			t.Errorf("from running to %s: told again it is dropped as %q", state, why)
		}
	}
	from, to := running, running
	to.job.State = job.Succeeded
	if why := b.step(&from, &to, event); why != "" || !b.get(numbered(1)).job.State.Terminal() {
		t.Errorf("from running to succeeded: dropped as %q", why)
	}
}

package notify

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/fault"
)

const (
	// maxQueue is how many messages wait for one target. The oldest over that are
	// left out.
	maxQueue     = 1000
	firstBackoff = 10 * time.Second
	maxBackoff   = time.Hour
	giveUpAfter  = 24 * time.Hour
	// keepDeliveries is how many are remembered that are over.
	keepDeliveries = 10_000
)

// target is a target with what waits for it. Its fields are guarded by the
// service's mu, but for the channels and hanging.
type target struct {
	record   store.Target
	pending  []store.Delivery // oldest first
	failures int              // since one went well
	next     time.Time        // no try before
	telling  int              // how many messages were left out, as the present try says
	wake     chan struct{}
	gone     chan struct{} // closed when the target is removed
	working  bool          // it has its goroutine
	hanging  atomic.Int32  // tries that have not ended, though their time is over
}

func newTarget(record store.Target) *target {
	return &target{record: record, wake: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (t *target) prod() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// note notes how a try went. The caller holds mu.
func (t *target) note(err error, now time.Time) {
	if err == nil {
		t.failures, t.next = 0, time.Time{}
		t.record.Trouble, t.record.TroubleSince, t.record.GaveUpAt = "", nil, nil
		return
	}
	t.failures++
	t.next = now.Add(backoff(t.failures))
	t.record.Trouble = err.Error()
	if t.record.TroubleSince == nil {
		t.record.TroubleSince = &now
	}
}

// backoff returns how long to wait after so many failures in a row, give or take
// a fifth.
func backoff(failures int) time.Duration {
	wait := maxBackoff
	if failures < 10 {
		wait = min(maxBackoff, firstBackoff<<(failures-1))
	}
	return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
}

// put stores a round, and lets the targets' goroutines know. The caller holds mu.
func (s *Service) put(r *round) error {
	changes, dropped := r.changes, map[*target]int{}
	waiting := map[*target][]store.Delivery{}
	for _, d := range r.deliveries {
		t := s.targets[d.Target]
		if _, begun := waiting[t]; !begun {
			waiting[t] = slices.Clone(t.pending)
		}
		waiting[t] = append(waiting[t], d)
		changes = append(changes, store.PutDelivery(d))
	}
	for t, list := range waiting {
		for ; len(list) > maxQueue; list = list[1:] {
			old := list[0]
			old.GivenUp, old.Error = true, fmt.Sprintf("left out, as more than %d messages waited", maxQueue)
			changes = append(changes, store.PutDelivery(old))
			dropped[t]++
		}
		waiting[t] = list
		if dropped[t] > 0 {
			record := t.record
			record.LeftOut += dropped[t]
			changes = append(changes, store.PutTarget(record))
		}
	}
	if len(r.deliveries) > 0 {
		fault.Point(fault.MessageDue)
	}
	if len(changes) > 0 {
		if _, err := s.store.Apply(changes...); err != nil {
			return err
		}
	}
	for t, list := range waiting {
		t.pending, t.record.LeftOut = list, t.record.LeftOut+dropped[t]
		t.prod()
	}
	s.remember(r)
	return nil
}

// remember makes memory what a round has stored. The caller holds mu.
func (s *Service) remember(r *round) {
	s.runs, s.passed = slices.Clone(s.runs[r.runs:]), slices.Clone(s.passed[r.passed:])
	for id, marks := range r.marks {
		alert := *s.alerts[id]
		all := maps.Clone(marks)
		for key, mark := range alert.Marks {
			if _, newer := all[key]; !newer {
				all[key] = mark
			}
		}
		alert.Marks = all
		s.alerts[id] = &alert
	}
	for id, alert := range s.alerts {
		if !s.outstanding(alert) {
			delete(s.alerts, id)
		}
	}
}

// Conditions returns what is wrong with targets, for alerts: those to which
// messages were given up.
func (s *Service) Conditions() []fleet.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []fleet.Condition
	for name, t := range s.targets {
		if r := t.record; r.GaveUpAt != nil && r.TroubleSince != nil && !r.Disabled {
			found = append(found, fleet.Condition{
				Kind: "target_failing", Severity: fleet.SeverityWarning, Target: name, Since: *r.TroubleSince,
				Message: fmt.Sprintf("nothing reaches the target %s any more: %s", name, r.Trouble),
				Hint:    "mend it, then: borgfleet notify target test " + name,
			})
		}
	}
	return found
}

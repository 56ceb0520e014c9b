package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/fault"
)

// work sends what waits for a target, one after the other, until the target is
// gone or the context ends.
func (s *Service) work(ctx context.Context, t *target) {
	for {
		d, wait, some := s.next(t)
		if some && wait <= 0 {
			s.attempt(ctx, t, d)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if !some {
			wait = maxBackoff
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.gone:
		case <-t.wake:
			timer.Stop()
			continue
		case <-timer.C:
			continue
		}
		timer.Stop()
		return
	}
}

// next returns the oldest message that waits for a target, and how long it has to.
func (s *Service) next(t *target) (d store.Delivery, wait time.Duration, some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(t.pending) == 0 || s.targets[t.record.Name] != t {
		return d, 0, false
	}
	return t.pending[0], t.next.Sub(s.options.Now()), true
}

// attempt tries a message once, and stores how that went.
func (s *Service) attempt(ctx context.Context, t *target, d store.Delivery) {
	var m Message
	err := json.Unmarshal(d.Message, &m)
	s.mu.Lock()
	disabled, leftOut := t.record.Disabled, t.record.LeftOut
	t.telling = leftOut
	s.mu.Unlock()
	switch {
	case err != nil:
		err = fmt.Errorf("the message is damaged: %w", err)
	case !disabled:
		err = s.send(ctx, t, d, after(m, leftOut))
	}
	if err == nil {
		fault.Point(fault.MessageSent)
	}
	if ctx.Err() != nil {
		return // it is sent again after the next start
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.targets[t.record.Name] != t {
		return // the target was removed meanwhile, with what waited for it
	}
	now := s.options.Now().UTC()
	d.Tries++
	if disabled {
		d.GivenUp, d.Error = true, "the target was switched off"
	} else {
		t.note(err, now)
	}
	s.settle(t, d, err, now)
}

// settle stores the outcome of a try. The caller holds mu.
func (s *Service) settle(t *target, d store.Delivery, err error, now time.Time) {
	over, record := []store.Delivery{d}, t.record
	var changes []store.Change
	switch {
	case d.GivenUp:
	case err == nil:
		over[0].SentAt, over[0].Error, record.LeftOut = &now, "", max(0, record.LeftOut-t.telling)
		for _, id := range d.Alerts {
			changes = append(changes, store.NoteTold(id, record.Name, now))
		}
	default:
		over[0].Error = err.Error()
		over = giveUp(over[0], t.pending, now)
		if over[0].GivenUp {
			record.GaveUpAt = &now
		}
		s.logger.Warn("notification was not delivered", "target", record.Name, "tries", over[0].Tries, "given_up", over[0].GivenUp, "err", err)
	}
	for _, one := range over {
		changes = append(changes, store.PutDelivery(one))
	}
	if _, failed := s.store.Apply(append(changes, store.PutTarget(record))...); failed != nil {
		s.logger.Error("the outcome of a notification could not be stored; it may be sent again", "target", record.Name, "err", failed)
		t.next = now.Add(firstBackoff)
		return
	}
	t.record = record
	t.pending = dropOver(t.pending, over)
}

// giveUp returns a delivery as it is after a try that failed; when it has been
// tried for too long, given up with all others that have waited as long.
func giveUp(d store.Delivery, pending []store.Delivery, now time.Time) []store.Delivery {
	if now.Sub(d.At) < giveUpAfter {
		return []store.Delivery{d}
	}
	d.GivenUp = true
	over := []store.Delivery{d}
	for _, other := range pending {
		if other.ID != d.ID && now.Sub(other.At) >= giveUpAfter {
			other.GivenUp, other.Error = true, d.Error
			over = append(over, other)
		}
	}
	return over
}

// dropOver returns what still waits, with what is known of it now.
func dropOver(pending, changed []store.Delivery) []store.Delivery {
	byID := map[string]store.Delivery{}
	for _, d := range changed {
		byID[d.ID] = d
	}
	var left []store.Delivery
	for _, d := range pending {
		if now, found := byID[d.ID]; found {
			d = now
		}
		if d.SentAt == nil && !d.GivenUp {
			left = append(left, d)
		}
	}
	return left
}

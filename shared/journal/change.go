package journal

import (
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Answer returns what was answered to the attempt's order, if it is known; with
// its outcome, once its events have left the journal.
func (j *Journal) Answer(key attempt.Key) (reply bus.OrderReply, known bool, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		reply, known, err = answer(tx, key)
		reply.Stamp = j.stamp(tx)
		return err
	})
	if err != nil {
		return reply, known, fmt.Errorf("look up %s: %w", key, err)
	}
	return reply, known, nil
}

// answer tells how an attempt ended as soon as no event in the journal does.
func answer(tx *bolt.Tx, key attempt.Key) (bus.OrderReply, bool, error) {
	if r, known, err := record(tx, key); known || err != nil {
		reply := bus.OrderReply{Accepted: r.Failure == nil, Failure: r.Failure}
		if r.Finished && r.Stored >= r.LastSeq {
			reply.Over = r.Over
		}
		return reply, known, err
	}
	o, known, err := outcomeOf(tx, key)
	return bus.OrderReply{Accepted: known && o.Failure == nil, Failure: o.Failure, Over: o.Over}, known, err
}

// Accept takes an order in, or its refusal, together with its first event, in
// one transaction. A refused order's first event must be its finished event.
// An order that is known already gets the answer that it got before, with the
// outcome once its events have left the journal, and changes nothing; fresh is
// false then.
func (j *Journal) Accept(o bus.Order, refusal *job.Failure, first job.Event) (reply bus.OrderReply, fresh bool, err error) {
	key := attempt.KeyOf(o)
	if reply, known, err := j.Answer(key); known || err != nil {
		return reply, false, err
	}
	stamp, err := j.update(func(c change) error {
		known := false
		if reply, known, err = answer(c.tx, key); known || err != nil {
			return err
		}
		fresh, reply = true, bus.OrderReply{Accepted: refusal == nil, Failure: refusal}
		if err := put(c.tx.Bucket(bucketOrders), attemptKey(key), o); err != nil {
			return err
		}
		return c.add(attempt.Record{Key: key, Failure: refusal}, first)
	})
	if err != nil {
		return bus.OrderReply{}, false, fmt.Errorf("record order %s: %w", key, err)
	}
	reply.Stamp = stamp
	return reply, fresh, nil
}

// Record numbers events of an open attempt, and keeps them and the mark, all
// or none. It fails with [attempt.ErrUnknown] or [attempt.ErrFinished] when the attempt is not
// open. A finished event must be the last one.
func (j *Journal) Record(key attempt.Key, mark attempt.Mark, events ...job.Event) error {
	_, err := j.update(func(c change) error {
		r, known, err := record(c.tx, key)
		switch {
		case err != nil:
			return err
		case !known:
			return attempt.ErrUnknown
		case r.Finished:
			return attempt.ErrFinished
		}
		r.Mark = mark
		for _, event := range events {
			if r, err = c.append(r, event); err != nil {
				return err
			}
		}
		return c.store(r)
	})
	if err != nil {
		return fmt.Errorf("record events of %s: %w", key, err)
	}
	return nil
}

// add appends an event to the attempt of r, and stores r.
func (c change) add(r attempt.Record, event job.Event) error {
	r, err := c.append(r, event)
	if err != nil {
		return err
	}
	return c.store(r)
}

// append stores the next event of r and returns r with it counted.
func (c change) append(r attempt.Record, event job.Event) (attempt.Record, error) {
	r.LastSeq++
	event.Job, event.Attempt, event.Seq = r.Key.Job, r.Key.Number, r.LastSeq
	told := bus.Event{Event: event, Stamp: c.stamp}
	if event.Type == job.EventAccepted || event.Type == job.EventFinished {
		var err error
		if told.Origin, err = c.origin(r.Key, event.Type); err != nil {
			return r, err
		}
	}
	if err := put(c.tx.Bucket(bucketEvents), eventKey(r.Key, r.LastSeq), told); err != nil {
		return r, err
	}
	if event.Type == job.EventFinished {
		r.Finished, r.Over = true, brief(event)
		return r, c.tx.Bucket(bucketOrders).Delete(attemptKey(r.Key)) // its secret has served
	}
	return r, nil
}

func (c change) store(r attempt.Record) error {
	return put(c.tx.Bucket(bucketAttempts), attemptKey(r.Key), r)
}

// Cancel remembers that an attempt is to end, and reports whether it is open.
// For an attempt that was never seen it keeps a tombstone with over, a finished
// event, as its only one: the order, should it still come, finds it cancelled.
func (j *Journal) Cancel(key attempt.Key, over job.Event) (stamp bus.Stamp, open bool, err error) {
	stamp, err = j.update(func(c change) error {
		r, known, err := record(c.tx, key)
		if err != nil {
			return err
		}
		if known {
			open = !r.Finished
			return c.cancel(r)
		}
		if c.tx.Bucket(bucketOutcomes).Get(attemptKey(key)) != nil {
			return nil // finished, stored and forgotten: nothing is left to cancel
		}
		return c.add(attempt.Record{Key: key, Cancelled: true}, over)
	})
	if err != nil {
		return bus.Stamp{}, false, fmt.Errorf("record cancellation of %s: %w", key, err)
	}
	return stamp, open, nil
}

func (c change) cancel(r attempt.Record) error {
	if r.Finished || r.Cancelled {
		return nil
	}
	r.Cancelled = true
	return c.store(r)
}

// Settle applies the coordinator's verdicts in one transaction. It writes
// nothing when they change nothing.
func (j *Journal) Settle(verdicts []bus.Verdict) (attempt.Settled, error) {
	var settled attempt.Settled
	needed, err := j.changes(verdicts)
	if err != nil || !needed {
		return settled, err
	}
	_, err = j.update(func(c change) error {
		settled = attempt.Settled{}
		for _, v := range verdicts {
			if err := c.settle(v, j.now(), &settled); err != nil {
				return err
			}
		}
		return c.prune(j.now(), j.limit)
	})
	if err != nil {
		return attempt.Settled{}, fmt.Errorf("apply verdicts: %w", err)
	}
	return settled, nil
}

// changes reports whether any verdict differs from what is known.
func (j *Journal) changes(verdicts []bus.Verdict) (needed bool, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		for _, v := range verdicts {
			r, known, err := record(tx, attempt.Key{Job: v.Job, Number: v.Attempt})
			if err != nil {
				return err
			}
			news := min(v.Stored, r.LastSeq) > r.Stored ||
				v.Action == bus.Stop && !r.Finished && !r.Cancelled || v.Action == bus.Forget && r.Finished
			needed = needed || known && news
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("compare verdicts: %w", err)
	}
	return needed, nil
}

func (c change) settle(v bus.Verdict, now time.Time, settled *attempt.Settled) error {
	r, known, err := record(c.tx, attempt.Key{Job: v.Job, Number: v.Attempt})
	if err != nil || !known {
		return err
	}
	if stored := min(v.Stored, r.LastSeq); stored > r.Stored {
		r.Stored = stored
	}
	if v.Action == bus.Forget && r.Finished {
		settled.Forgotten = append(settled.Forgotten, r.Key)
		return c.forget(r, now)
	}
	if v.Action == bus.Stop && !r.Finished {
		r.Cancelled = true
		settled.Cancelled = append(settled.Cancelled, r.Key)
	}
	if err := c.dropEvents(r.Key, r.Stored); err != nil {
		return err
	}
	return c.store(r)
}

// forget replaces a tombstone, and what events it still has, by its outcome.
func (c change) forget(r attempt.Record, now time.Time) error {
	if err := c.dropEvents(r.Key, r.LastSeq); err != nil {
		return err
	}
	k := attemptKey(r.Key)
	if err := c.tx.Bucket(bucketAttempts).Delete(k); err != nil {
		return err
	}
	return c.remember(k, outcome{Failure: r.Failure, Over: r.Over, At: now})
}

func (c change) dropEvents(key attempt.Key, upTo int) error {
	cursor := c.tx.Bucket(bucketEvents).Cursor()
	last := string(eventKey(key, upTo))
	for k, _ := cursor.Seek(eventKey(key, 0)); belongs(k, key) && string(k) <= last; k, _ = cursor.Seek(eventKey(key, 0)) {
		if err := cursor.Delete(); err != nil {
			return err
		}
	}
	return nil
}

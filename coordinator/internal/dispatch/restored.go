package dispatch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file holds how a store that was put back from an older copy catches up
// with what hosts did meanwhile.

// recovered is who asked for a job, as far as a restored store knows.
const recovered = "recovered"

// catchUp is how long nothing new is ordered after the start, unless
// [Service.CaughtUp] is told before.
const catchUp = 30 * time.Second

const (
	askTime     = 24 * time.Hour      // after a restoration, in which a job that waited in the copy does not expire unasked
	recoverTime = 30 * 24 * time.Hour // likewise, in which hosts are believed of jobs that the store does not know
	maxHopeless = 10_000              // jobs that are remembered as not to be made anew
)

// CaughtUp is told when the events are stored that were in the stream at the
// start. Orders begin then: what is about to be ordered may be over already, as
// the stream knows. It may be repeated.
func (s *Service) CaughtUp() {
	if !s.caughtUp.Swap(true) {
		s.stir()
	}
}

// ready reports whether orders may begin.
func (s *Service) ready(now time.Time) bool { return s.caughtUp.Load() || !s.orderAt.After(now) }

// waiting is a queued job in the planner's eyes. What waits for a dry run does so
// until that is over, since the transaction that ends it judges by it. One that
// waited already in the copy from which the store was put back may have been done since: its host is
// asked with an order, which has expired when the job has, before it is ended.
func (s *Service) waiting(e *entry, now time.Time) waiting {
	w := e.waiting()
	if w.Opens = e.opens(now); !w.Opens.IsZero() {
		w.Window = e.hours()
	}
	if e.preview != "" && s.index.get(e.preview) != nil {
		w.Preview = e.preview
	}
	if w.Reserved = e.vet != "" && e.vetting(); w.Reserved && s.index.get(e.vet) != nil {
		w.Vet = e.vet
	}
	if s.restored == nil || w.Expires.IsZero() || e.job.SubmittedAt.After(s.restored.SnapshotAt) {
		return w
	}
	if at := s.restored.RestoredAt.Add(askTime); at.After(w.Expires) {
		w.Expires = at
	}
	return w
}

// inquiry returns the task that asks a host how an attempt ended that it does not
// mention any more: with its order, which expired long ago by every clock, so that
// a host that does not know it either does not begin it.
func (s *Service) inquiry(e *entry) func(context.Context) {
	id, attempt := e.job.ID, e.job.Attempt
	order := bus.Order{Host: e.job.Host, Job: id, Attempt: attempt, Kind: e.job.Kind, IssuedAt: e.current().SentAt, ExpiresAt: time.Time{}}
	return func(ctx context.Context) {
		order.Instance = s.presence.instance(order.Host)
		limited, done := context.WithTimeout(ctx, bus.RequestTimeout)
		defer done()
		reply, err := s.options.Link.Order(limited, order.Host, order)
		switch {
		case ctx.Err() != nil: // stopping: the next life asks again
		case err != nil:
			s.orderUnanswered(id, attempt, err) // the next hello leads here again
		default:
			s.settle(id, attempt, func(b *batch, e *entry) bool {
				if !s.isOverThere(b, e, reply) {
					s.lose(b, e, s.now())
				}
				return true
			})
		}
	}
}

// isOverThere ends an attempt of which its host answers that it is over.
func (s *Service) isOverThere(b *batch, e *entry, reply bus.OrderReply) bool {
	over, now := reply.Over, s.now()
	if over == nil || over.Job != e.job.ID || over.Attempt != e.job.Attempt || over.Type != job.EventFinished {
		return false
	}
	s.logger.Warn("host has run an attempt already that this store does not know of", "job", e.job.ID, "host", e.job.Host, "attempt", over.Attempt)
	b.tell(e.follow(bus.Event{Event: *over, Stamp: reply.Stamp}, now, s.retryAt(e, now)))
	return true
}

// subject returns a copy of the entry that an event is about, as it was when the
// event was told: it may be of an attempt, or of a job, that a later life of this
// store has ordered. It is nil when there is none that the event can change.
func (s *Service) subject(b *batch, event bus.Event) (*entry, error) {
	known := b.get(event.Job)
	if known == nil {
		return s.recover(b, event)
	}
	e := *known
	if event.Attempt > e.job.Attempt && event.Attempt <= e.job.MaxAttempts && event.Host == e.job.Host {
		e.moveOn(event.Attempt, event.Origin, s.now())
	}
	return &e, nil
}

// moveOn makes an open attempt that a host mentions the current one of its job,
// if it is one that a later life of this store has ordered.
func (s *Service) moveOn(b *batch, said bus.HostAttempt, hello greeting) {
	known := b.get(said.Job)
	if known == nil || said.Finished || known.job.Host != hello.Host ||
		said.Attempt <= known.job.Attempt || said.Attempt > known.job.MaxAttempts {
		return
	}
	e := *known
	e.moveOn(said.Attempt, nil, hello.at)
	e.noteStamp(hello.Stamp)
	e.accept()
	s.logger.Warn("host runs an attempt that this store has not ordered yet", "job", said.Job, "host", hello.Host, "attempt", said.Attempt)
	b.set(&e, true)
}

// moveOn begins an attempt that was ordered by a later life of this store. The
// one before was over then.
func (e *entry) moveOn(number int, origin *bus.Origin, now time.Time) {
	e.job.Attempts = slices.Clone(e.job.Attempts)
	if last := e.current(); last != nil && last.FinishedAt == nil {
		last.State, last.FinishedAt = job.Failed, &now
		last.Failure = job.Fail(job.Interrupted, "attempt %d was over before the next one; how it ended is not known any more", last.Number).
			WithHint("the coordinator's database was put back to an older copy")
	}
	begun := job.Attempt{Number: number, State: job.Running, SentAt: now}
	if origin != nil {
		begun.Archive, begun.SentAt = origin.Archive, origin.SentAt
	}
	e.job.Attempt, e.job.Attempts = number, append(e.job.Attempts, begun)
	e.job.State, e.job.Reason, e.job.RetryAt, e.job.StartedAt = job.Sent, "", nil, nil
	e.attempt = store.AttemptState{Job: e.job.ID, Attempt: number, Host: e.job.Host, ExpiresAt: now}
	e.outstanding, e.maybe, e.holdUntil, e.hold = false, true, time.Time{}, ""
}

// mayRecover reports whether a job that is not in the store may be one that was
// asked for after the copy was taken from which the store was put back.
func (s *Service) mayRecover(id job.ID) bool {
	if s.restored == nil || s.hopeless[id] || s.now().Sub(s.restored.RestoredAt) > recoverTime {
		return false
	}
	at := id.Time()
	return !at.Before(s.restored.SnapshotAt.Truncate(time.Millisecond)) && !at.After(s.restored.RestoredAt)
}

// recover makes a job anew of what its host tells: the store that knew it was
// put back to an older copy. It returns nil for any other event.
func (s *Service) recover(b *batch, event bus.Event) (*entry, error) {
	if _, err := job.ParseID(string(event.Job)); err != nil || !s.mayRecover(event.Job) {
		return nil, nil
	}
	if _, found, err := s.options.Store.Job(event.Job); found || err != nil {
		return nil, err // it is over
	}
	if event.Origin == nil && event.Type != job.EventFinished {
		return nil, nil // the finished event says what it is
	}
	if queued, held := s.index.sizes(); queued+held+len(b.created) >= s.options.Limits.Open {
		return nil, nil // its host tells it again, and must not fill the store
	}
	e, err := s.anew(event)
	if err != nil || e == nil || e.judge(event.Event) != "" {
		if len(s.hopeless) < maxHopeless {
			s.hopeless[event.Job] = true
		}
		s.logger.Warn("a job from after the copy of the database cannot be made anew", "job", event.Job, "host", event.Host, "err", err)
		return nil, nil
	}
	s.logger.Warn("job made anew of what its host tells", "job", e.job.ID, "host", e.job.Host, "repo", e.job.Repository, "kind", e.job.Kind)
	b.create(e)
	b.also(auditRequest(fleet.Actor{Name: recovered}, e.job))
	return e, nil
}

// anew returns the entry of a job whose host tells of an attempt at it; an error
// says why that cannot be.
func (s *Service) anew(event bus.Event) (*entry, error) {
	o := event.Origin
	if o == nil {
		return nil, errors.New("its host does not say what it is")
	}
	if err := s.checkHost(event.Host); err != nil {
		return nil, err
	}
	repository, err := s.checkRepository(o.Repository, o.Kind)
	if err != nil {
		return nil, err
	}
	spec := o.Spec
	if len(spec) == 0 { // it was too long to be told
		spec = json.RawMessage("{}")
	}
	data, err := json.Marshal(struct {
		Kind job.Kind        `json:"kind"`
		Spec json.RawMessage `json:"spec"`
	}{o.Kind, spec})
	if err != nil {
		return nil, fmt.Errorf("encode what its host says: %w", err)
	}
	var j job.Job
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("decode what its host says: %w", err)
	}
	j.ID, j.Host, j.Repository = event.Job, event.Host, o.Repository
	j.SubmittedBy, j.SubmittedAt = recovered, event.Job.Time().UTC()
	j.MaxAttempts = max(cmp.Or(o.Kind.DefaultAttempts(), 1), event.Attempt)
	e := newEntry(repository, j)
	e.moveOn(event.Attempt, o, s.now())
	return e, nil
}

package dispatch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// holdTime is how long an order waits that could not be made.
const holdTime = 10 * time.Second

// maxRetryWait bounds the pauses of a job that says itself how long the first is.
const maxRetryWait = time.Hour

// delivery returns the task that hands an attempt's order to its host and
// takes the answer in. With cancelFirst, the host is told first that the
// attempt shall end, so that it refuses an order that it has not seen.
func (s *Service) delivery(id job.ID, attempt int, cancelFirst bool) func(context.Context) {
	return func(ctx context.Context) {
		e := s.index.get(id)
		if e == nil || e.job.Attempt != attempt {
			return
		}
		fault.Point(fault.OrderStored)
		host := e.job.Host
		if s.options.Depot != nil && s.Busy(e.job.Repository) {
			s.options.Depot.Evict(e.job.Repository)
		}
		order, err := s.order(ctx, e)
		if err != nil {
			s.orderNotMade(id, attempt, err)
			return
		}
		if cancelFirst {
			if err := s.tellCancel(ctx, host, id, attempt); err != nil {
				s.orderUnanswered(id, attempt, err)
				return
			}
		}
		limited, done := context.WithTimeout(ctx, bus.RequestTimeout)
		defer done()
		reply, err := s.options.Link.Order(limited, host, order)
		fault.Point(fault.OrderReplied)
		switch {
		case ctx.Err() != nil: // stopping: the next life settles it
		case err != nil:
			s.orderUnanswered(id, attempt, err)
		default:
			s.orderAnswered(id, attempt, reply)
		}
	}
}

// order makes the order of the current attempt; the same attempt has the same
// order, but for its times and its sealing.
func (s *Service) order(ctx context.Context, e *entry) (bus.Order, error) {
	spec, err := json.Marshal(e.job.Spec)
	if err != nil {
		return bus.Order{}, fmt.Errorf("encode spec: %w", err)
	}
	repository, found, err := s.options.Store.Repository(e.job.Repository)
	if err != nil {
		return bus.Order{}, fmt.Errorf("read repository: %w", err)
	}
	if !found && e.job.Repository != "" {
		return bus.Order{}, job.Fail(job.UnknownRepository, "there is no repository %s any more", e.job.Repository)
	}
	now := s.now()
	order := bus.Order{
		Host: e.job.Host, Instance: s.presence.instance(e.job.Host), Job: e.job.ID, Attempt: e.job.Attempt, IssuedAt: now, ExpiresAt: now.Add(bus.OrderLifetime),
		Kind: e.job.Kind, Spec: spec, Repository: repository.Repository, Timeout: e.job.Timeout, For: e.job.For,
		Plan: e.job.Plan, Run: e.job.Run,
	}
	if err := s.direct(&order); err != nil {
		return bus.Order{}, err
	}
	e.limit(&order, now)
	if at := e.job.ExpiresAt; at != nil && e.job.Attempt == 1 && at.Before(order.ExpiresAt) {
		order.ExpiresAt = *at
	}
	if current := e.current(); current != nil {
		order.Archive = current.Archive
	}
	if e.job.Kind == job.Backup {
		baseline, found, err := s.options.Store.Baseline(baselineKey(e.job))
		if err != nil {
			return bus.Order{}, fmt.Errorf("read baseline: %w", err)
		}
		if found {
			order.Baseline = &baseline
		}
	}
	order.Passphrase, err = s.passphrase(ctx, e, repository.Custody)
	return order, err
}

// impossible is an order that cannot be made until a person does something.
type impossible struct{ failure *job.Failure }

func (e impossible) Error() string { return e.failure.Error() }

// sealed returns the passphrase as somebody sealed it to the job's host. That
// the host has another key now does not matter: its agent keeps its older keys,
// and what is sealed to keys of an agent that was replaced is not stored any
// more.
func (s *Service) sealed(j job.Job) (*secret.Sealed, error) {
	stored, found, err := s.options.Store.Sealed(j.Repository, j.Host)
	if err != nil {
		return nil, fmt.Errorf("read passphrase of repository %s for host %s: %w", j.Repository, j.Host, err)
	}
	if !found {
		return nil, impossible{job.Fail(job.KeyMissing, "the passphrase of repository %s is not sealed for host %s", j.Repository, j.Host).
			WithHint("somebody who knows it must run: borgfleet repo seal %s --host %s", j.Repository, j.Host)}
	}
	return &stored.Sealed, nil
}

// seal seals the passphrase, which the coordinator keeps, to the job's host.
func (s *Service) seal(ctx context.Context, j job.Job) (*secret.Sealed, error) {
	passphrase, err := s.options.Registry.Passphrase(ctx, j.Repository)
	if err != nil {
		return nil, fmt.Errorf("read passphrase of repository %s: %w", j.Repository, err)
	}
	if passphrase.Empty() {
		return nil, nil
	}
	purpose := secret.Purpose{Host: j.Host, Repository: j.Repository}
	sealed, err := secret.Seal(passphrase, purpose, s.hostState(j.Host).SealKey)
	if err != nil {
		return nil, fmt.Errorf("seal passphrase for host %s: %w", j.Host, err)
	}
	return &sealed, nil
}

// hearing is what was heard of the order of an attempt that is sent or running.
// Change says whether the store is concerned; it may be called again.
type hearing struct {
	id      job.ID
	attempt int
	change  func(b *batch, e *entry) (stored bool)
}

// settle returns when what was heard of an order is stored. Whoever can write
// first stores what all have heard that wait, in one transaction: when a
// thousand hosts answer at once, nobody waits for a thousand syncs.
func (s *Service) settle(id job.ID, attempt int, change func(b *batch, e *entry) (stored bool)) {
	s.heard.Lock()
	s.heard.waiting = append(s.heard.waiting, hearing{id, attempt, change})
	s.heard.Unlock()
	s.write.Lock()
	defer s.write.Unlock()
	s.heard.Lock()
	all := s.heard.waiting
	s.heard.waiting = nil
	s.heard.Unlock()
	if len(all) == 0 {
		return // somebody has done so
	}
	defer s.stir()
	if err := s.settleAll(all); err != nil && len(all) > 1 { // none is to suffer for another
		for _, one := range all {
			s.settleOne(one)
		}
	} else if err != nil {
		s.unsettled(all[0], err)
	}
}

func (s *Service) settleOne(one hearing) {
	if err := s.settleAll([]hearing{one}); err != nil {
		s.unsettled(one, err)
	}
}

func (s *Service) settleAll(all []hearing) error {
	b, err := s.begin()
	if err != nil {
		return err
	}
	for _, one := range all {
		e := b.get(one.id)
		if e == nil || e.job.Attempt != one.attempt || !e.held() {
			continue
		}
		e.outstanding = false
		switch {
		case one.change(b, e):
			b.set(e, true)
		case b.entries[one.id] == nil:
			s.index.set(e)
		}
	}
	return b.commit()
}

// unsettled leaves it to the host's next hello to settle an attempt.
func (s *Service) unsettled(one hearing, err error) {
	s.logger.Error("answer to an order cannot be stored; the next hello settles it", "job", one.id, "err", err)
	if known := s.index.get(one.id); known != nil && known.job.Attempt == one.attempt {
		e := *known
		e.outstanding, e.maybe = false, true
		s.index.set(&e)
	}
}

func (s *Service) orderAnswered(id job.ID, attempt int, reply bus.OrderReply) {
	s.settle(id, attempt, func(b *batch, e *entry) bool {
		now := s.now()
		if s.isOverThere(b, e, reply) {
			return true
		}
		e.noteStamp(reply.Stamp)
		if e.job.State != job.Sent {
			return false // its events were quicker
		}
		if reply.Accepted && e.overdue(s.now()) {
			e.maybe = true // it may be the fence that it answers for: its events, or the next hello, say which
			return false
		}
		if reply.Accepted {
			e.accept()
			return true
		}
		s.logger.Warn("host refused an order", "job", id, "host", e.job.Host, "err", reply.Failure)
		b.tell(e.concluded(e.refusal(reply.Failure, now), s.own(e, now), s.retryAt(e, now)))
		return true
	})
}

func (s *Service) orderUnanswered(id job.ID, attempt int, cause error) {
	away := errors.Is(cause, fleet.ErrHostAway)
	s.settle(id, attempt, func(b *batch, e *entry) bool {
		if away && s.presence.away(e.job.Host) {
			defer s.hostChanged(e.job.Host)
		}
		if e.job.State != job.Sent {
			return false
		}
		if !away || e.maybe {
			s.logger.Warn("order not answered; the next hello settles it", "job", id, "host", e.job.Host, "err", cause)
			e.maybe = true
			return false
		}
		s.back(b, e)
		return true
	})
}

// orderNotMade puts a job back whose order could not be made, to try again
// soon; one that may have been ordered before waits for the next hello. Where
// only a person can help, the job fails, and the person is told.
func (s *Service) orderNotMade(id job.ID, attempt int, cause error) {
	s.logger.Error("order cannot be made", "job", id, "err", cause)
	s.settle(id, attempt, func(b *batch, e *entry) bool {
		if final, ok := errors.AsType[impossible](cause); ok && e.job.State == job.Sent {
			now := s.now()
			b.tell(e.concluded(e.refusal(final.failure, now), s.own(e, now), now))
			return true
		}
		if e.job.State != job.Sent || e.maybe {
			return false
		}
		s.back(b, e)
		e.holdUntil, e.hold = s.now().Add(holdTime), fmt.Sprintf("its order cannot be made (%s); next try", cause)
		return true
	})
}

// back returns a job to the queue whose order was not delivered, or ends it if
// somebody wanted that meanwhile.
func (s *Service) back(b *batch, e *entry) {
	e.takeBack()
	if e.job.CancelRequested {
		s.cancelQueued(b, e, asked())
	}
}

// own returns the frame of an event that the coordinator makes itself.
func (s *Service) own(e *entry, now time.Time) job.Event {
	return job.Event{Job: e.job.ID, Host: e.job.Host, Attempt: e.job.Attempt, At: now}
}

func (s *Service) retryAt(e *entry, now time.Time) time.Time {
	backoff := s.options.Backoff
	if e.job.RetryWait > 0 {
		backoff.First, backoff.Max = min(time.Duration(e.job.RetryWait)*time.Second, maxRetryWait), maxRetryWait
	}
	return now.Add(backoff.Delay(e.job.Attempt))
}

// archiveTime is what follows in an archive's name after whose it is.
const archiveTime = "2006-01-02T15:04:05"

// line is the archives of a host in a repository whose names begin alike.
type line struct{ host, repository, series string }

// archiveName is the newest name that was given to a line of archives.
type archiveName struct {
	base  string
	count int
}

// archiveName names the archive of a backup's next attempt: as the spec says,
// as the attempt before, else by its series and the time, counted within one second. One
// name for all attempts lets borg refuse a second archive, should an attempt
// have made it without being able to say so. It must be called under the write
// lock.
func (s *Service) archiveName(j job.Job, now time.Time) string {
	spec, ok := j.Spec.(job.BackupSpec)
	if !ok {
		return ""
	}
	if spec.Archive != "" {
		return spec.Archive
	}
	if n := len(j.Attempts); n > 0 {
		return j.Attempts[n-1].Archive
	}
	series := cmp.Or(j.Series, j.Host+"-")
	base, key := series+now.UTC().Format(archiveTime), line{j.Host, j.Repository, series}
	last := s.archives[key]
	if last.base != base {
		s.archives[key] = archiveName{base, 1}
		return base
	}
	last.count++
	s.archives[key] = last
	return fmt.Sprintf("%s-%d", base, last.count)
}

// baselineKey names the backups that are measured against each other: same
// host, repository, plan and paths, or dump.
func baselineKey(j job.Job) string {
	spec, _ := j.Spec.(job.BackupSpec)
	same := []any{j.Host, j.Repository, j.Plan, spec.Paths}
	if spec.ContentFrom != "" {
		same = append(same, spec.ContentFrom)
	}
	what, err := json.Marshal(same)
	if err != nil {
		return "" // strings always encode
	}
	sum := sha256.Sum256(what)
	return hex.EncodeToString(sum[:])
}

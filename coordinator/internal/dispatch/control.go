package dispatch

import (
	"context"
	"errors"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Cancel asks to end a job. One that waits is cancelled at once; of one that a
// host has, the wish is stored, told to the host, and repeated until the host
// says that the process is gone. Cancelling twice is no error; cancelling what
// has ended otherwise is.
func (s *Service) Cancel(_ context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	s.write.Lock()
	defer s.write.Unlock()
	b, err := s.begin()
	if err != nil {
		return job.Job{}, s.failure("cancel job", err)
	}
	e := b.get(id)
	if e == nil {
		return s.cancelOver(id)
	}
	if e.job.CancelRequested {
		return s.withProgress(e.job), nil
	}
	b.also(s.auditControl(by, "job.cancel", e.job))
	e.job.CancelRequested = true
	if !e.held() {
		s.cancelQueued(b, e, asked())
	}
	b.set(e, true)
	told := append(s.callOff(b, e), e)
	if err := b.commit(); err != nil {
		return job.Job{}, s.failure("cancel job", err)
	}
	s.logger.Info("job cancelled", "job", id, "host", e.job.Host, "by", by.Name)
	for _, e := range told {
		if e.held() {
			host, id, attempt := e.job.Host, e.job.ID, e.job.Attempt
			s.later(func(ctx context.Context) { _ = s.tellCancel(ctx, host, id, attempt) }) // hellos repeat it
		}
	}
	s.stir()
	return s.withProgress(e.job), nil
}

// cancelOver answers for a job that is not open.
func (s *Service) cancelOver(id job.ID) (job.Job, error) {
	j, err := s.stored(id)
	if err != nil {
		return job.Job{}, err
	}
	if j.State == job.Cancelled {
		return j, nil
	}
	return job.Job{}, job.Fail(job.Conflict, "job %s is over: it has the state %s", id, j.State).
		WithHint("there is nothing left to cancel")
}

// asked is why a job was cancelled of which no attempt ran.
func asked() *job.Failure {
	return job.Fail(job.CodeCancelled, "the job was cancelled before it ran")
}

// cancelQueued ends a job in place of which no attempt runs.
func (s *Service) cancelQueued(b *batch, e *entry, why *job.Failure) {
	now := s.now()
	e.overInPlace(job.Cancelled, now, why)
	told := s.own(e, now)
	told.Type, told.State, told.Failure = job.EventCancelled, job.Cancelled, e.job.Failure
	b.tell(told)
}

// tellCancel tells a host to end an attempt.
func (s *Service) tellCancel(ctx context.Context, host string, id job.ID, attempt int) error {
	fault.Point(fault.CancelStored)
	limited, done := context.WithTimeout(ctx, bus.RequestTimeout)
	defer done()
	_, err := s.options.Link.Cancel(limited, host, bus.Cancel{Job: id, Attempt: attempt})
	if errors.Is(err, fleet.ErrHostAway) && s.presence.away(host) {
		s.hostChanged(host)
	}
	if err != nil {
		s.logger.Warn("cancellation not answered; it is repeated with the next hello", "job", id, "host", host, "err", err)
	}
	return err
}

// repeatable returns nil, or why a job cannot be submitted again by itself.
func (s *Service) repeatable(old job.Job) error {
	if old.Kind == job.Download {
		return job.Fail(job.Conflict, "job %s was a download, and nobody would read it", old.ID).
			WithHint("download it again: borgfleet archive download")
	}
	aside, err := s.options.Store.Aside(old.ID)
	if err != nil {
		return err
	}
	if aside.Given {
		return passphraseGone(old.ID)
	}
	return s.checkHost(old.Host)
}

// Retry submits a new job with the request of one that is over. It belongs to no
// run of a plan, and may begin at any hour.
func (s *Service) Retry(_ context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	s.write.Lock()
	defer s.write.Unlock()
	old, err := s.stored(id)
	if err != nil {
		return job.Job{}, err
	}
	if !old.State.Terminal() {
		return job.Job{}, job.Fail(job.Conflict, "job %s is not over: it is %s", id, old.State).WithHint("cancel it first, or wait")
	}
	if err := s.repeatable(old); err != nil {
		return job.Job{}, s.failure("retry job", err)
	}
	repository, err := s.checkRepository(old.Repository, old.Kind)
	if err != nil {
		return job.Job{}, s.failure("retry job", err)
	}
	now := s.now()
	again := newEntry(repository, job.Job{
		ID: job.NewID(now), Kind: old.Kind, Host: old.Host, For: old.For, Repository: old.Repository, Plan: old.Plan, State: job.Queued,
		Series: old.Series, MaxAttempts: old.MaxAttempts, Priority: old.Priority, RetryWait: old.RetryWait,
		ExpiresAt: s.expiry(now, expiresIn(old)), Timeout: old.Timeout,
		SubmittedBy: by.Name, SubmittedAt: now, Spec: old.Spec, Attempts: []job.Attempt{},
	})
	return s.submit(by, again, "", s.auditControl(by, "job.retry", again.job))
}

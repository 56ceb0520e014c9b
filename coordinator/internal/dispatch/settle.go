package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file holds the steps that a job can take, as functions over an entry
// that the caller owns. None does any I/O.

// send begins the next attempt, or the same one again if the last order was
// certainly not delivered.
func (e *entry) send(now time.Time, archive string) {
	e.job.State, e.job.Reason, e.job.RetryAt = job.Sent, "", nil
	e.job.Attempt++
	e.job.StartedAt = nil
	e.job.Attempts = append(slices.Clone(e.job.Attempts), job.Attempt{
		Number: e.job.Attempt, State: job.Running, Archive: archive, SentAt: now,
	})
	e.attempt = store.AttemptState{
		Job: e.job.ID, Attempt: e.job.Attempt, Host: e.job.Host, ExpiresAt: now.Add(bus.OrderLifetime),
	}
	e.outstanding, e.maybe, e.holdUntil, e.hold = true, false, time.Time{}, ""
}

// takeBack undoes send: the order was certainly not delivered, so its attempt
// does not count and its number is used again.
func (e *entry) takeBack() {
	e.job.State = job.Queued
	e.job.Attempts = slices.Clone(e.job.Attempts[:len(e.job.Attempts)-1])
	e.job.Attempt--
	e.attempt = store.AttemptState{}
}

// accept makes the job the host's own.
func (e *entry) accept() {
	if e.job.State == job.Sent {
		e.job.State, e.job.Reason = job.Running, ""
	}
}

// conclude ends the current attempt at a moment, and with it the job, unless
// the retry rule gives it another attempt after pause. It reports whether it
// does.
func (e *entry) conclude(o job.Outcome, at time.Time, retryAt time.Time) (retried bool) {
	o = e.sane(o)
	e.job.Attempts = slices.Clone(e.job.Attempts)
	if current := e.current(); current != nil {
		current.State, current.Failure, current.FinishedAt = o.State, o.Failure, &at
	}
	e.outstanding, e.maybe = false, false
	e.attempt.Finished = true
	if o.State == job.Failed && o.Failure.Retryable && !e.job.CancelRequested && e.job.Attempt < e.job.MaxAttempts {
		e.job.State, e.job.StartedAt, e.job.RetryAt = job.Queued, nil, &retryAt
		e.job.Reason = e.waiting().Pause + " at " + clock(retryAt, at)
		return true
	}
	e.job.State, e.job.Reason, e.job.FinishedAt = o.State, "", &at
	e.job.Result, e.job.Failure = o.Result, o.Failure
	return false
}

// sane makes an outcome hold together, whatever a host said.
func (e *entry) sane(o job.Outcome) job.Outcome {
	if !o.State.Terminal() || (o.State == job.Expired && e.job.State != job.Sent) {
		o.Failure = job.Fail(job.Internal, "the host ended the attempt with the state %q", o.State)
		o.State = job.Failed
	}
	switch {
	case o.State == job.Failed && o.Failure == nil:
		o.Failure = job.Fail(job.Internal, "the host gave no cause for the failure").WithHint("see the job's log")
	case o.State == job.Cancelled && o.Failure == nil:
		o.Failure = job.Fail(job.CodeCancelled, "the job was cancelled")
	case o.State == job.Expired && o.Failure == nil:
		o.Failure = e.notAccepted("", false)
	}
	return o
}

// overInPlace ends a job of which no attempt runs.
func (e *entry) overInPlace(state job.State, at time.Time, why *job.Failure) {
	e.job.State, e.job.Reason, e.job.FinishedAt, e.job.RetryAt = state, "", &at, nil
	e.job.Failure = why
}

// refusal is the outcome of an order that the host did not accept.
func (e *entry) refusal(f *job.Failure, now time.Time) job.Outcome {
	if f == nil {
		f = job.Fail(job.RefusedByHost, "host %s refused the order and gave no cause", e.job.Host)
	}
	switch {
	case e.job.CancelRequested || f.Code == job.CodeCancelled:
		return e.meant(job.Outcome{State: job.Cancelled, Failure: f}, now)
	case e.overdue(now) && f.Code == job.RefusedByHost:
		return job.Outcome{State: job.Expired, Failure: e.notAccepted(f.Message, false)}
	}
	return job.Outcome{State: job.Failed, Failure: f}
}

// dropped says why an event changes nothing.
type dropped string

// Reasons why an event changes nothing. A repeat is nobody's fault.
const (
	dropRepeat     dropped = "repeat"
	dropUnknown    dropped = "unknown job"
	dropForeign    dropped = "job of another host"
	dropFenced     dropped = "older attempt"
	dropImpossible dropped = "attempt that was never ordered"
	dropGarbage    dropped = "event makes no sense"
	dropIllegal    dropped = "step that the state table has not"
)

// judge says whether an event of a host is news for an open job; "" means yes.
func (e *entry) judge(event job.Event) dropped {
	switch {
	case event.Host != e.job.Host:
		return dropForeign
	case event.Attempt < e.job.Attempt:
		return dropFenced
	case event.Attempt > e.job.Attempt:
		return dropImpossible
	case !e.held(): // the attempt is over, and the next one waits
		return dropFenced
	case event.Seq <= 0 || !hostTells(event.Type):
		return dropGarbage
	case event.Seq <= e.attempt.LastSeq:
		return dropRepeat
	}
	return ""
}

func hostTells(t job.EventType) bool {
	return t == job.EventAccepted || t == job.EventStarted || t == job.EventLog || t == job.EventFinished
}

// follow takes an event in that judge has found to be news, except for its log
// lines. It returns the event as the world is to see it.
func (e *entry) follow(event bus.Event, now, retryAt time.Time) job.Event {
	told := event.Event
	told.Host = e.job.Host // the outcome in an answer to an order may name any
	told.At = within(told.At, e.job.SubmittedAt, now)
	e.attempt.LastSeq = told.Seq
	e.noteStamp(event.Stamp)
	if told.Type != job.EventFinished {
		e.accept()
	}
	switch told.Type {
	case job.EventStarted:
		e.job.StartedAt = &told.At
		e.job.Attempts = slices.Clone(e.job.Attempts)
		if current := e.current(); current != nil {
			current.StartedAt, current.PID = &told.At, told.PID
		}
	case job.EventFinished:
		outcome := e.meant(job.Outcome{State: told.State, Result: told.Result, Failure: told.Failure}, now)
		if e.job.CancelRequested && told.Failure != nil && told.Failure.Code == job.Interrupted {
			outcome.State = job.Cancelled // it was to end, and the host says that its process is gone
		}
		return e.concluded(outcome, told, retryAt)
	}
	told.State = e.job.State
	return told
}

// concluded is conclude, and the event that tells of it: finished when the job
// is over, retried when it is not.
func (e *entry) concluded(o job.Outcome, told job.Event, retryAt time.Time) job.Event {
	if e.conclude(o, told.At, retryAt) {
		told.Type, told.Reason, told.Result = job.EventRetried, e.job.Reason, nil
		told.State, told.Failure = job.Queued, e.job.Attempts[len(e.job.Attempts)-1].Failure
		return told
	}
	told.Type, told.State, told.Result, told.Failure = job.EventFinished, e.job.State, e.job.Result, e.job.Failure
	return told
}

// noteStamp keeps the newest stamp at which the host knew the attempt.
func (e *entry) noteStamp(stamp bus.Stamp) {
	if stamp.Journal != e.attempt.Stamp.Journal || stamp.Revision > e.attempt.Stamp.Revision {
		e.attempt.Stamp = stamp
	}
}

// within bounds a host's clock by what can be true.
func within(at, earliest, latest time.Time) time.Time {
	if at.Before(earliest) {
		return earliest.UTC()
	}
	if at.After(latest) {
		return latest.UTC()
	}
	return at.UTC()
}

// lost is the outcome of an attempt that its living host does not know.
func lost(host string) job.Outcome {
	return job.Outcome{State: job.Failed, Failure: job.Fail(job.Interrupted, "host %s no longer knows this attempt", host).
		WithHint("%s", fmt.Sprintf("the agent's journal on %s was lost or replaced while the job ran", host))}
}

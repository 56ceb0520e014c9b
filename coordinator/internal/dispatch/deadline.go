package dispatch

import (
	"cmp"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file holds what happens to jobs when a time has passed. That an attempt
// runs for too long is its host's affair: see bus.Order.

// checkTimes returns nil, or what is wrong with a request's times.
func checkTimes(r job.Request) error {
	for _, t := range []struct {
		field   string
		seconds int
		most    time.Duration
	}{{"timeout", r.Timeout, job.MaxTimeout}, {"expires_in", r.ExpiresIn, job.MaxExpiry}} {
		if most := int(t.most / time.Second); t.seconds < 0 || t.seconds > most {
			return job.Invalid(t.field, "%d is not between 0 and %d seconds (%s)", t.seconds, most, human.Duration(t.most)).
				WithHint("0 means the coordinator's limit")
		}
	}
	return nil
}

// sameTimes reports whether a request asks for the times that a job has. What
// it leaves to the coordinator is not compared: that may have changed since.
func sameTimes(old job.Job, r job.Request) bool {
	return (r.Timeout == 0 || r.Timeout == old.Timeout) &&
		(r.ExpiresIn == 0 || time.Duration(r.ExpiresIn)*time.Second == expiresIn(old))
}

// expiresIn is the time in which a host must have accepted a job; 0: none.
func expiresIn(j job.Job) time.Duration {
	if j.ExpiresAt == nil {
		return 0
	}
	return j.ExpiresAt.Sub(j.SubmittedAt)
}

// expires is when a job that waits must have begun, zero for never. A retry has
// the whole of the job's time anew: what ran for a day must not fail as its host is
// away for a moment when its pause ends.
func (e *entry) expires() time.Time {
	in, from := expiresIn(e.job), e.job.SubmittedAt
	switch last := e.current(); {
	case in == 0:
		return time.Time{}
	case e.job.RetryAt != nil:
		from = *e.job.RetryAt
	case last != nil && last.FinishedAt != nil: // its order was not delivered, and is taken back
		from = *last.FinishedAt
	}
	return from.Add(in)
}

// expiry is when a new job expires, nil for never. Without a time of its own it
// has the coordinator's.
func (s *Service) expiry(now time.Time, in time.Duration) *time.Time {
	in = cmp.Or(in, s.options.Limits.Expire)
	if in <= 0 {
		return nil
	}
	at := now.Add(in)
	return &at
}

// timeout is the coordinator's limit for jobs of a kind, in seconds. A mount has
// none: it ends by itself when nobody uses it.
func (s *Service) timeout(kind job.Kind) int {
	if kind == job.Mount {
		return 0
	}
	return int(s.options.Limits.Timeout / time.Second)
}

// expire ends the jobs whose time is over and that no host has: those that
// never began have expired, those that wait for a retry have failed as their
// last attempt did.
func (s *Service) expire(p plan, now time.Time) error {
	if len(p.Expired) == 0 {
		return nil
	}
	b, err := s.begin()
	if err != nil {
		return err
	}
	for _, id := range p.Expired {
		e := b.get(id)
		if e == nil || e.held() {
			continue // begin has read it again
		}
		if len(b.order) == maxEnded {
			s.stir()
			break
		}
		reason := p.Reasons[id]
		if e.job.Attempt == 0 {
			reason = cmp.Or(e.job.Reason, reason) // since a start, hosts may only not have been heard of
			s.endInPlace(b, e, job.Expired, e.notAccepted(reason, s.hostState(e.job.Host).Away != ""))
		} else if s.presence.known(e.job.Host) {
			s.endInPlace(b, e, job.Failed, e.notRetried(reason))
		} else {
			continue
		}
		s.logger.Warn("job ended, as its time is over", "job", id, "host", e.job.Host, "state", e.job.State, "err", e.job.Failure)
	}
	return b.commit()
}

// endInPlace ends a job of which no attempt runs, and that nobody has cancelled.
func (s *Service) endInPlace(b *batch, e *entry, state job.State, why *job.Failure) {
	now := s.now()
	e.overInPlace(state, now, why)
	told := s.own(e, now)
	told.Type, told.State, told.Failure = job.EventFinished, state, why
	b.tell(told)
	b.set(e, true)
}

// overdue reports whether the job's time is over, and no host is known to have
// accepted it.
func (e *entry) overdue(now time.Time) bool {
	begun := e.job.Attempt > 1 || e.job.State == job.Running || (e.job.Attempt == 1 && !e.held())
	return !begun && e.late(now)
}

func (e *entry) late(now time.Time) bool {
	return e.job.ExpiresAt != nil && !e.job.ExpiresAt.After(now)
}

// notAccepted says why a job has expired; waited is what it waited for.
func (e *entry) notAccepted(waited string, away bool) *job.Failure {
	text := "no host accepted the job in its time"
	if in := expiresIn(e.job); in > 0 {
		text += " of " + human.Duration(in)
	}
	if waited != "" {
		text += ": " + waited
	}
	code, hint := job.Timeout, "submit it again, with more time (--expires) if what it waited for takes longer"
	if away {
		code, hint = job.HostUnreachable, "look at borgfleet-agent on "+e.job.Host+", and submit the job again"
	}
	failure := job.Fail(code, "%s", text).WithHint("%s", hint)
	failure.Retryable = false
	return failure
}

// notRetried is how the last attempt failed, and why there is no other one.
func (e *entry) notRetried(reason string) *job.Failure {
	failure := job.Fail(job.Interrupted, "attempt %d failed", e.job.Attempt)
	if last := e.current(); last != nil && last.Failure != nil {
		*failure = *last.Failure
	}
	failure.Message += fmt.Sprintf("; attempt %d could not begin in the job's time: %s", e.job.Attempt+1, reason)
	failure.Retryable = false
	return failure
}

// meant is what a host's word means that an attempt was cancelled. An attempt
// that may not have arrived in its time is ended like a cancelled one, and
// nobody has asked for that.
func (e *entry) meant(o job.Outcome, now time.Time) job.Outcome {
	switch {
	case o.State != job.Cancelled || skipped(o.Failure) || e.job.CancelRequested || e.job.Attempt > 1 || !e.late(now):
		return o
	case e.overdue(now):
		return job.Outcome{State: job.Expired, Failure: e.notAccepted("host "+e.job.Host+" had not got the order", false)}
	default:
		return job.Outcome{State: job.Failed, Failure: job.Fail(job.Timeout, "the job was stopped: host %s began it when its time was over", e.job.Host)}
	}
}

// skipped reports whether a job was left out because a hook on its host asked for
// that, which is nobody's fault.
func skipped(f *job.Failure) bool { return f != nil && f.Code == job.Skipped }

// giveUp ends the jobs that are sent or running on hosts that have been away
// for longer than the limit, and returns when the next ones are due. They are
// not tried again, as their borg may live. When the host comes back after all,
// it is told to end it.
func (s *Service) giveUp(now time.Time) (next time.Time, err error) {
	limit := s.options.Limits.Offline
	if limit == 0 {
		return next, nil
	}
	b, err := s.begin()
	if err != nil {
		return next, err
	}
	_, held := s.index.snapshot()
	for _, known := range held {
		since, away := s.presence.awaySince(known.job.Host)
		if !away {
			continue
		}
		if current := known.current(); current != nil && current.SentAt.After(since) {
			since = current.SentAt
		}
		if due := since.Add(limit); due.After(now) {
			next = earliest(next, due)
			continue
		}
		e := b.get(known.job.ID)
		s.logger.Warn("job given up, as its host is away for too long", "job", e.job.ID, "host", e.job.Host, "since", since)
		b.tell(e.concluded(outOfSight(e.job.Host, now.Sub(since)), s.own(e, now), now))
		b.set(e, true)
	}
	return next, b.commit()
}

// known reports whether a host has been heard of since the start, or has had
// the time for that.
func (p *Presence) known(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.hosts[host]
	return (w != nil && !w.unheard) || p.now().Sub(p.started) >= silence
}

// awaySince returns since when a host is known to be away.
func (p *Presence) awaySince(host string) (since time.Time, away bool) {
	if !p.known(host) {
		return time.Time{}, false
	}
	online, since := p.Online(host)
	if since.IsZero() {
		since = p.started
	}
	return since, !online
}

// outOfSight is the outcome of an attempt whose host does not come back.
func outOfSight(host string, away time.Duration) job.Outcome {
	failure := job.Fail(job.HostUnreachable, "host %s has been away for %s, and has not said how the job ended", host, human.Duration(away)).
		WithHint("look at borgfleet-agent there; if the job still runs when the host comes back, it is stopped")
	failure.Retryable = false
	return job.Outcome{State: job.Failed, Failure: failure}
}

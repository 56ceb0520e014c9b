package dispatch

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

// maxReasons bounds how many reasons one look at the queue writes, so that a
// long queue behind one job does not keep everybody else waiting.
const maxReasons = 256

// pump looks at the queue: it stores what goes as sent and hands the orders
// out, then stores the reasons that have changed. It returns when to look again
// at the latest; zero: when something happens.
func (s *Service) pump() time.Time {
	s.write.Lock()
	defer s.write.Unlock()
	now := s.now()
	gone, next := s.presence.expire()
	for _, host := range gone {
		s.logger.Warn("host is silent, taken as offline", "host", host)
		s.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: host})
	}
	if err := s.endRemoved(); err != nil {
		s.logger.Error("jobs of removed hosts cannot be ended; trying again", "err", err)
		return now.Add(retryWrite)
	}
	deadline, err := s.giveUp(now)
	if err != nil {
		s.logger.Error("jobs of hosts that are away cannot be ended; trying again", "err", err)
		return now.Add(retryWrite)
	}
	daily, err := s.verifyHosts(now)
	if err != nil {
		s.logger.Error("hosts cannot be verified; trying again", "err", err)
		return now.Add(retryWrite)
	}
	after, err := s.dispatch(now)
	if err != nil {
		s.logger.Error("the queue cannot be moved on; trying again", "err", err)
		return now.Add(retryWrite)
	}
	return earliest(earliest(next, daily), earliest(deadline, after))
}

// dispatch sends what can go, ends what has expired, and says of the rest why
// it waits. It returns when to look again at the latest.
func (s *Service) dispatch(now time.Time) (next time.Time, err error) {
	if !s.ready(now) {
		return s.orderAt, nil
	}
	queue, held := s.index.snapshot()
	p := s.plan(queue, held, now)
	if err := s.send(p.Go, now); err != nil {
		return next, fmt.Errorf("store orders: %w", err)
	}
	if err := s.expire(p, now); err != nil {
		return next, fmt.Errorf("store what has expired: %w", err)
	}
	more, err := s.explain(p, now)
	if err != nil {
		return next, fmt.Errorf("store reasons: %w", err)
	}
	if more {
		return earliest(p.Next, now.Add(time.Second)), nil
	}
	return p.Next, nil
}

func (s *Service) plan(queue, held []*entry, now time.Time) plan {
	before := map[job.ID]job.ID{} // who is looked at a repository for
	for _, e := range queue {
		if e.vetting() && e.vet != "" {
			before[e.vet] = e.job.ID
		}
	}
	tickets := make([]ticket, len(held))
	for i, e := range held {
		tickets[i] = e.ticket()
		tickets[i].Before = before[e.job.ID]
	}
	waits := make([]waiting, len(queue))
	for i, e := range queue {
		waits[i] = s.waiting(e, now)
		waits[i].Before = before[e.job.ID]
	}
	return makePlan(waits, tickets, s.hostState, s.options.Limits, now)
}

// send stores jobs as sent in one transaction, then hands out their orders.
func (s *Service) send(ids []job.ID, now time.Time) error {
	if len(ids) == 0 {
		return nil
	}
	b, err := s.begin()
	if err != nil {
		return err
	}
	var sent []*entry
	for _, id := range ids {
		e := b.get(id)
		if e == nil || e.job.State != job.Queued {
			continue // begin has read it again
		}
		held, err := s.holdBack(b, e)
		if err != nil {
			return err
		}
		if held {
			s.stir()
			continue
		}
		sent = append(sent, e)
		e.send(now, s.archiveName(e.job, now))
		b.set(e, true)
		b.tell(job.Event{
			Job: id, Host: e.job.Host, Attempt: e.job.Attempt, Type: job.EventSent, At: now, State: job.Sent,
		})
	}
	if err := b.commit(); err != nil {
		return err
	}
	for _, e := range sent {
		s.later(s.delivery(e.job.ID, e.job.Attempt, false))
	}
	return nil
}

// explain stores the reasons that have changed, of jobs that wait and of jobs
// on hosts that are away. It reports whether there are more.
func (s *Service) explain(p plan, now time.Time) (more bool, err error) {
	b, err := s.begin()
	if err != nil {
		return false, err
	}
	queue, held := s.index.snapshot()
	say := func(e *entry, reason string) {
		if reason == e.job.Reason {
			return
		}
		if len(b.order) == maxReasons {
			more = true
			return
		}
		changed := *e
		changed.job.Reason = reason
		b.set(&changed, true)
	}
	for _, e := range held {
		if reason, known := s.heldReason(e); known {
			say(e, reason)
		}
	}
	for _, e := range queue {
		if reason, ok := p.Reasons[e.job.ID]; ok {
			say(e, reason)
		}
	}
	return more, b.commit()
}

// heldReason says what a job waits for that is sent or running.
func (s *Service) heldReason(e *entry) (reason string, known bool) {
	reason, known = s.presence.offline(e.job.Host)
	if known && reason == "" && e.job.State == job.Sent && e.maybe && !e.outstanding {
		reason = "host " + e.job.Host + " has not answered the order; its next hello settles it"
	}
	return reason, known
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

package proxy

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Waits of the settling.
const (
	minFollowUp = 150 * time.Millisecond // before a hello after one that left something open; it doubles
	minRetry    = 200 * time.Millisecond // after a fault; it doubles
	maxRetry    = 5 * time.Second
	factsTime   = 2 * time.Second
	readEvents  = 32 // of one attempt at once
)

// settler tells the coordinator what the journal has, and takes its verdicts
// in. It belongs to one goroutine.
type settler struct {
	*session
	online   bool                // as the coordinator was told
	asked    []chan<- struct{}   // who waits for the next hello
	told     map[attempt.Key]int // events up to here were stored in this life
	said     []bus.HostAttempt   // attempts after the last hello was settled
	failures int
	waits    int       // hellos since the last news that left something open
	next     time.Time // of the next hello
}

// settle tells events after each change of the journal, and says hello when the
// attempts have changed, when the host comes or goes, and regularly.
func (h *session) settle(ctx context.Context) {
	s := &settler{session: h, told: map[attempt.Key]int{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; first = false {
		online, moved := h.reach.look()
		if first || online != s.online {
			s.tellPresence(online)
			s.next = time.Time{}
		}
		timer.Reset(s.round(ctx))
		select {
		case <-ctx.Done():
			return
		case <-moved:
		case <-h.worker.Changes():
		case <-timer.C:
		case settled := <-h.greets:
			s.asked, s.next = append(s.asked, settled), time.Time{}
		}
	}
}

func (s *settler) tellPresence(online bool) {
	s.online = online
	if online {
		s.service.options.Sessions.HostConnected(s.runner.Host)
	} else {
		s.service.options.Sessions.HostDisconnected(s.runner.Host)
	}
}

// round tells what there is to tell, and returns when to look again at the
// latest.
func (s *settler) round(ctx context.Context) time.Duration {
	err := s.tellEvents(ctx)
	due := !time.Now().Before(s.next)
	if err == nil && !due {
		due, err = s.hasNews()
	}
	if err == nil && due {
		err = s.greet(ctx)
	}
	if err != nil {
		if s.failures == 0 && ctx.Err() == nil {
			s.logger.Warn("settle with the coordinator; trying again", "err", err)
		}
		s.failures++
		return min(minRetry<<min(s.failures-1, 8), maxRetry)
	}
	s.failures = 0
	return time.Until(s.next)
}

// tellEvents has all events stored that are not.
func (s *settler) tellEvents(ctx context.Context) error {
	snapshot, err := s.journal.Snapshot()
	if err != nil {
		return err
	}
	for _, r := range snapshot.Records {
		for after := max(r.Stored, s.told[r.Key]); after < r.LastSeq; {
			events, err := s.journal.Events(r.Key, after, readEvents)
			if err != nil {
				return err
			}
			if len(events) == 0 {
				break
			}
			if err := s.deliver(ctx, events); err != nil {
				return err
			}
			after = events[len(events)-1].Seq
			s.told[r.Key] = after
		}
	}
	return nil
}

func (s *settler) deliver(ctx context.Context, events []bus.Event) error {
	batch := make([]bus.StreamEvent, len(events))
	for i, e := range events {
		batch[i].Event = e
	}
	finished := events[len(events)-1].Type == job.EventFinished
	if finished {
		fault.Point(fault.FinishedJournaled)
	}
	if err := s.service.intake.deliver(ctx, batch); err != nil {
		return err
	}
	if finished {
		fault.Point(fault.FinishedPublished)
	}
	return nil
}

// hasNews reports whether the attempts differ from those that the last hello has
// settled, events apart.
func (s *settler) hasNews() (bool, error) {
	snapshot, err := s.journal.Snapshot()
	if err != nil {
		return false, err
	}
	news := !slices.EqualFunc(s.said, attempts(snapshot.Records), func(a, b bus.HostAttempt) bool {
		return a.Job == b.Job && a.Attempt == b.Attempt && a.Finished == b.Finished
	})
	if news {
		s.waits = 0
	}
	return news, nil
}

// greet says hello, and takes in what comes back.
func (s *settler) greet(ctx context.Context) error {
	hello, err := s.hello(ctx)
	if err != nil {
		return err
	}
	limited, done := context.WithTimeout(ctx, bus.RequestTimeout)
	defer done()
	reply, err := s.service.options.Sessions.HandleHello(limited, hello)
	if err != nil {
		return err
	}
	if reply.Refused != nil { // an agent of that name is at work
		s.logger.Error("the host's jobs are run by somebody else; what runs goes on", "err", reply.Refused.Message)
		s.next = time.Now().Add(jittered(bus.HelloBusy))
		return nil
	}
	fault.Point(fault.VerdictRead)
	if err := s.worker.Settle(ctx, s.tempered(reply.Verdicts)); err != nil {
		return err
	}
	return s.after()
}

// hello makes one. That of a host that is away says only which attempts it has.
func (s *settler) hello(ctx context.Context) (bus.Hello, error) {
	snapshot, err := s.journal.Snapshot()
	if err != nil {
		return bus.Hello{}, err
	}
	hello := bus.Hello{Away: !s.online}
	if s.online && s.runner.Facts != nil {
		limited, done := context.WithTimeout(ctx, factsTime)
		hello = s.runner.Facts(limited)
		done()
	}
	if hello.At.IsZero() {
		hello.At = s.service.options.Now().UTC()
	}
	hello.Host, hello.Instance, hello.StartedAt = s.runner.Host, s.instance, s.startedAt
	hello.SealKey, hello.Slots = s.service.options.Ring.Public(), s.runner.Slots
	hello.Stamp, hello.JournalDepth, hello.Attempts = snapshot.Stamp, snapshot.Depth, attempts(snapshot.Records)
	return hello, nil
}

// tempered keeps what is over for as long as its job directory cannot be
// removed: who forgets it while the host is away forgets the directory, too.
func (s *settler) tempered(verdicts []bus.Verdict) []bus.Verdict {
	if s.online {
		return verdicts
	}
	kept := slices.Clone(verdicts)
	for i := range kept {
		if kept[i].Action == bus.Forget {
			kept[i].Action = bus.Keep
		}
	}
	return kept
}

// after looks at what the verdicts have left, and sets when to say hello again.
// Events that the coordinator has taken and not stored, as it did not know their
// attempt yet, are told again.
func (s *settler) after() error {
	snapshot, err := s.journal.Snapshot()
	if err != nil {
		return err
	}
	s.said = attempts(snapshot.Records)
	for _, settled := range s.asked {
		close(settled)
	}
	s.asked = nil
	told := make(map[attempt.Key]int, len(snapshot.Records))
	open, over := false, false
	for _, r := range snapshot.Records {
		told[r.Key] = min(s.told[r.Key], r.Stored)
		open, over = open || !r.Finished, over || r.Finished
	}
	s.told = told
	wait := bus.HelloIdle
	if open || over {
		wait = bus.HelloBusy
	}
	if over && s.online { // its end is stored, and it should be forgotten by now
		wait = min(minFollowUp<<min(s.waits, 8), wait)
		s.waits++
	} else {
		s.waits = 0
	}
	s.next = time.Now().Add(jittered(wait))
	return nil
}

// jittered shortens a wait by up to a fifth.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/5+1) }

// attempts returns the journal's records as a hello tells them.
func attempts(records []attempt.Record) []bus.HostAttempt {
	list := make([]bus.HostAttempt, len(records))
	for i, r := range records {
		list[i] = bus.HostAttempt{Job: r.Key.Job, Attempt: r.Key.Number, LastSeq: r.LastSeq, Finished: r.Finished}
	}
	return list
}

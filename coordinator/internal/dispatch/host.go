package dispatch

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// maxHelloAttempts bounds what one hello is answered for; the next hello
// settles the rest.
const maxHelloAttempts = 2000

// hostState returns what the planner needs to know of a host.
func (s *Service) hostState(name string) hostState {
	s.live.Lock()
	state := s.live.hosts[name]
	s.live.Unlock()
	state.Away = s.presence.absence(name)
	return state
}

// slotsSet reports whether how much a host does at once is set in the coordinator,
// for that host alone: an agent has it in a file of its own.
func slotsSet(host fleet.Host) bool {
	return host.Mode == fleet.ModeSSH || host.Mode == fleet.ModeLocal
}

// HandleHello settles with a host what both know of each other: it takes in
// what the host says of itself, moves the jobs on that the hello decides, sends
// orders again that the host may not have got, and says what to do with each
// attempt that the host mentions. After an error nothing must be answered: the
// host's next hello leads here again. The host in the hello must be the one
// that was allowed to say it, and its instance empty or one that
// [bus.CheckInstance] takes.
func (s *Service) HandleHello(ctx context.Context, hello bus.Hello) (bus.HelloReply, error) {
	now := s.now()
	if refused := s.admit(ctx, hello); refused != nil {
		return bus.HelloReply{At: now, Refused: refused}, nil
	}
	if !hello.Away {
		if err := s.options.Registry.UpdateFacts(ctx, hello.Host, factsOf(hello, now), hello.SealKey); err != nil {
			return bus.HelloReply{}, err
		}
		defer s.options.Feed.Publish(feed.Update{Type: feed.HostSeen, Host: hello.Host})
	}
	host, _, err := s.options.Store.Host(hello.Host)
	if err != nil {
		return bus.HelloReply{}, err
	}
	s.live.Lock()
	s.live.hosts[hello.Host] = hostState{Slots: hello.Slots, Set: slotsSet(host), SealKey: hello.SealKey}
	s.live.Unlock()
	for _, e := range s.index.of(hello.Host) {
		s.presence.noteStamp(hello.Host, e.attempt.Stamp)
	}
	news := s.presence.work(hello)
	if !hello.Away {
		if came, ready := s.presence.hello(hello.Host); came || ready {
			s.logger.Info("host is ready", "host", hello.Host, "agent", hello.AgentVersion, "borg", hello.BorgVersion)
			defer s.hostChanged(hello.Host)
		}
	}
	if len(hello.Attempts) > maxHelloAttempts {
		hello.Attempts = hello.Attempts[:maxHelloAttempts]
	}
	return s.settleHost(s.greet(hello, news, now))
}

func (s *Service) greet(hello bus.Hello, news news, now time.Time) greeting {
	g := greeting{Hello: hello, news: news, at: now, ready: s.ready(now)}
	if s.restored != nil {
		g.restored = s.restored.RestoredAt
	}
	return g
}

// settleHost settles a hello with the store.
func (s *Service) settleHost(hello greeting) (bus.HelloReply, error) {
	s.write.Lock()
	defer s.write.Unlock()
	if hello.rolledBack {
		s.logger.Error("the journal of a host has gone back in time; what it does not know any more is taken as interrupted",
			"host", hello.Host, "journal", hello.Stamp.Journal, "revision", hello.Stamp.Revision)
	}
	if err := s.reconcile(hello); err != nil {
		return bus.HelloReply{}, s.failure("settle hello of host "+hello.Host, err)
	}
	s.presence.settled(hello.Host)
	reply := bus.HelloReply{At: hello.at, Verdicts: make([]bus.Verdict, 0, len(hello.Attempts))}
	for _, said := range hello.Attempts {
		standing, err := s.standing(hello.Hello, said)
		if err != nil {
			return bus.HelloReply{}, s.failure("settle hello of host "+hello.Host, err)
		}
		reply.Verdicts = append(reply.Verdicts, verdict(said, standing))
	}
	return reply, nil
}

func factsOf(h bus.Hello, now time.Time) fleet.Facts {
	return fleet.Facts{
		AgentVersion: h.AgentVersion, BorgVersion: h.BorgVersion, BorgFailure: h.BorgFailure, OS: h.OS,
		Slots: h.Slots, FreeBytes: h.FreeBytes, JournalDepth: h.JournalDepth, StartedAt: h.StartedAt,
		SeenAt: now, ClockSkew: h.At.Sub(now).Seconds(),
	}
}

// reconcile moves the jobs on that a hello decides.
func (s *Service) reconcile(hello greeting) error {
	b, err := s.begin()
	if err != nil {
		return err
	}
	mentioned := map[string]*bus.HostAttempt{}
	for i := range hello.Attempts {
		said := &hello.Attempts[i]
		mentioned[said.Job.AttemptID(said.Attempt)] = said
		s.moveOn(b, *said, hello)
	}
	cutShort := len(hello.Attempts) == maxHelloAttempts // what is not mentioned may be known all the same
	var waiting []*entry
	var tasks []func(context.Context)
	for _, known := range s.index.of(hello.Host) {
		said := mentioned[known.job.ID.AttemptID(known.job.Attempt)]
		e := b.get(known.job.ID)
		if said == nil && cutShort || e.job.Attempt != known.job.Attempt { // the latter has just moved on
			continue
		}
		if hello.rolledBack && said != nil {
			e.rollBack(*said, hello.Stamp)
			b.set(e, false)
		}
		if task := s.settleHello(b, e, said, hello); task != nil {
			waiting, tasks = append(waiting, e), append(tasks, task)
		}
	}
	if err := b.commit(); err != nil {
		return err
	}
	for i, e := range waiting {
		s.index.set(e)
		s.later(tasks[i])
	}
	if len(b.order) > 0 {
		s.stir()
	}
	return nil
}

// settleHello moves one job on. It returns what its host is to be sent for it,
// if anything.
func (s *Service) settleHello(b *batch, e *entry, said *bus.HostAttempt, hello greeting) func(context.Context) {
	switch reconcile(e, said, hello) {
	case settleRunning:
		e.noteStamp(hello.Stamp)
		e.accept()
		e.outstanding = false
		b.set(e, true)
	case settleResend:
		e.outstanding, e.maybe = true, true
		s.logger.Info("order sent again", "job", e.job.ID, "host", hello.Host, "attempt", e.job.Attempt)
		return s.delivery(e.job.ID, e.job.Attempt, e.job.CancelRequested || e.overdue(hello.at))
	case settleAsk:
		e.outstanding = true
		return s.inquiry(e)
	case settleLost:
		s.lose(b, e, hello.at)
	case settleNothing:
		if said != nil {
			e.noteStamp(hello.Stamp)
			s.index.set(e)
		}
	}
	return nil
}

// lose ends an attempt that its host does not know any more.
func (s *Service) lose(b *batch, e *entry, now time.Time) {
	s.logger.Warn("host has lost an attempt", "job", e.job.ID, "host", e.job.Host, "attempt", e.job.Attempt)
	b.tell(e.concluded(lost(e.job.Host), s.own(e, now), s.retryAt(e, now)))
	b.set(e, true)
}

// standing says what the store knows of an attempt that a host mentions.
func (s *Service) standing(hello bus.Hello, said bus.HostAttempt) (standing, error) {
	if e := s.index.get(said.Job); e != nil {
		return standing{
			Known: e.job.Host == hello.Host, Current: e.job.Attempt, Open: e.held(),
			Stored: e.attempt.LastSeq, Cancel: e.job.CancelRequested, Undone: undone(e.job, said.Attempt),
		}, nil
	}
	if _, err := job.ParseID(string(said.Job)); err != nil {
		return standing{}, nil
	}
	j, found, err := s.options.Store.Job(said.Job)
	if err != nil {
		return standing{}, err
	}
	return standing{
		Known: found && j.Host == hello.Host, Current: j.Attempt, Over: true, Undone: undone(j, said.Attempt),
		Later: !found && s.mayRecover(said.Job) && (!said.Finished || hello.JournalDepth > 0),
	}, nil
}

// undone reports whether an attempt was given up by us, and not ended by its
// host. A host may also have told that it was interrupted; then it does not go
// on with it anyway.
func undone(j job.Job, attempt int) bool {
	for _, a := range j.Attempts {
		if a.Number == attempt {
			return a.Failure != nil && (a.Failure.Code == job.Interrupted || a.Failure.Code == job.HostUnreachable)
		}
	}
	return false
}

package dispatch

import (
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// standing is what the store says of an attempt that a host mentions.
type standing struct {
	Known   bool // the job is stored, and is this host's
	Current int  // the job's current attempt
	Open    bool // that attempt is sent or running
	Over    bool // the job is terminal
	Stored  int  // events of the current attempt that are stored
	Cancel  bool // it shall end
	// Undone says that the mentioned attempt was ended by us and not by its
	// host: the host must not go on with it.
	Undone bool
	// Later says that the job may be of a later life of the store, from which it
	// was put back: its events make it anew, and must not be dropped.
	Later bool
}

// verdict says what a host shall do with an attempt that it mentions.
//
// An attempt of a job that is not in the store is left to run: the store may
// have been restored from an older copy, and work must not be killed for that.
func verdict(said bus.HostAttempt, s standing) bus.Verdict {
	v := bus.Verdict{Job: said.Job, Attempt: said.Attempt, Action: bus.Keep, Stored: said.LastSeq}
	switch {
	case s.Known && !s.Over && said.Attempt > s.Current:
		v.Stored = 0 // not ordered yet, as far as the store knows: keep everything
	case s.Known && s.Open && said.Attempt == s.Current:
		v.Stored = min(s.Stored, said.LastSeq)
		if s.Cancel && !said.Finished {
			v.Action = bus.Stop
		}
	case s.Later:
		v.Stored = 0
	case said.Finished:
		v.Action = bus.Forget
	case s.Known && (said.Attempt < s.Current || s.Undone):
		v.Action = bus.Stop
	}
	return v
}

// settlement is what a hello means for one open attempt of its host.
type settlement int

const (
	settleNothing settlement = iota
	settleRunning            // the host has it: it is running
	settleResend             // the host may never have got the order, or we its end: send it again
	settleAsk                // the host may have ended it in a life that the store does not know of: ask
	settleLost               // the host had it and has lost it: it is over
)

// reconcile says what a hello means for an attempt that is sent or running;
// said is nil when the hello does not mention it.
//
// A host that does not mention a running attempt has lost it only if its
// journal is another one, has moved on since it last knew the attempt, or has
// gone back to before. A sent one is never given up, but sent again: the host
// answers repeats alike. After a restoration, what the host has ended, told and
// forgotten since the copy was taken looks as if it had lost it: it is asked, once
// the stream has not told.
func reconcile(e *entry, said *bus.HostAttempt, g greeting) settlement {
	if said != nil {
		switch {
		case !said.Finished && e.job.State == job.Sent:
			return settleRunning
		case !said.Finished:
			return settleNothing
		case said.LastSeq > e.attempt.LastSeq && g.JournalDepth > 0:
			return settleNothing // what is missing comes by the stream
		case said.LastSeq <= e.attempt.LastSeq && e.job.State == job.Running:
			return settleLost // over, all its events are here, and none of them ended it
		}
	}
	before := e.orderedBy(g.restored)
	asked := g.Away || e.outstanding && !g.another // another run ignores an order that was not for it
	now, known := g.Stamp, e.attempt.Stamp
	switch {
	case before && !g.ready:
		return settleNothing
	case e.job.State == job.Sent || said != nil:
		if asked {
			return settleNothing
		}
		return settleResend
	case before && now.Journal == known.Journal && now.Revision > known.Revision:
		if asked {
			return settleNothing
		}
		return settleAsk
	case now.Journal != "" && (now.Journal != known.Journal || now.Revision > known.Revision || g.rolledBack && now.Revision < known.Revision):
		return settleLost
	}
	return settleNothing
}

// rollBack takes back what is known of an attempt whose host's journal has gone
// back: the host goes on from there, and numbers what it tells as it did before.
func (e *entry) rollBack(said bus.HostAttempt, stamp bus.Stamp) {
	last := said.LastSeq
	if said.Finished {
		last--
	}
	e.attempt.LastSeq, e.attempt.Stamp = min(e.attempt.LastSeq, last), stamp
}

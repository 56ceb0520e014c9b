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
	settleResend             // the host may never have got the order: send it again
	settleLost               // the host had it and has lost it: it is over
)

// reconcile says what a hello means for an attempt that is sent or running;
// said is nil when the hello does not mention it.
//
// A host that does not mention a running attempt has lost it only if its
// journal is another one, or has moved on since it last knew the attempt. A
// sent one is never given up, but sent again: the host answers repeats alike.
func reconcile(e *entry, said *bus.HostAttempt, stamp bus.Stamp) settlement {
	if said != nil {
		switch {
		case !said.Finished && e.job.State == job.Sent:
			return settleRunning
		case !said.Finished || said.LastSeq > e.attempt.LastSeq:
			return settleNothing // what is missing comes by the stream
		case e.job.State == job.Running:
			return settleLost // over, all its events are here, and none of them ended it
		}
	}
	if e.job.State == job.Sent {
		if e.outstanding {
			return settleNothing
		}
		return settleResend
	}
	known := e.attempt.Stamp
	if said == nil && stamp.Journal != "" && (stamp.Journal != known.Journal || stamp.Revision > known.Revision) {
		return settleLost
	}
	return settleNothing
}

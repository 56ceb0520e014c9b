package job

import "slices"

// State is where a job stands.
type State string

// The states of the contract.
const (
	Queued    State = "queued"    // stored; waits for its host, a slot, or its repository
	Sent      State = "sent"      // ordered; the host has not said whether it has it
	Running   State = "running"   // accepted by the host; the job is the host's own now
	Succeeded State = "succeeded" // borg ended well
	Warning   State = "warning"   // borg did the work and had something to say
	Failed    State = "failed"    // the work was not done; Failure says why
	Cancelled State = "cancelled" // a person ended it, and the process is gone
	Expired   State = "expired"   // it was never accepted within its time
)

// transitions is the state table. A retry is the way back to queued; it needs
// the attempt before it to be known to be over.
var transitions = map[State][]State{
	Queued:  {Sent, Failed, Cancelled, Expired},
	Sent:    {Running, Queued, Succeeded, Warning, Failed, Cancelled, Expired},
	Running: {Queued, Succeeded, Warning, Failed, Cancelled},
}

// States returns every state in the order of a job's life.
func States() []State {
	return []State{Queued, Sent, Running, Succeeded, Warning, Failed, Cancelled, Expired}
}

// Known reports whether s is a state of the contract.
func (s State) Known() bool { return slices.Contains(States(), s) }

// Terminal reports whether a job in this state is over. A terminal state never
// changes again.
func (s State) Terminal() bool { return s.Known() && len(transitions[s]) == 0 }

// CanBecome reports whether the state table has a step from s to next.
func (s State) CanBecome(next State) bool { return slices.Contains(transitions[s], next) }

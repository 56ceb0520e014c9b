// Package fault lets a test place a fault exactly: it marks the points at which
// a program can be held, and is the clock that a test may set. It costs nothing
// in an ordinary build: there [Point] is empty and [Now] is [time.Now]. Only a
// build with the tag "faults" listens, in the directory that BORGFLEET_FAULTS
// names:
//
//   - A file with a point's name arms it, once. The program that comes there
//     renames the file to <name>.reached and stays until that is removed.
//   - The file clock holds a duration, as Go writes it, that Now is ahead by.
package fault

// Points at which a program can be held, by what has just happened.
const (
	// Coordinator.
	SubmitStored = "submit-stored" // a job is stored; its submitter has no answer yet
	OrderStored  = "order-stored"  // an attempt is stored as sent; its order has not left
	OrderReplied = "order-replied" // the host's answer is here and not stored
	EventRead    = "event-read"    // events came from the stream and are not stored
	EventStored  = "event-stored"  // they are stored and not acknowledged
	CancelStored = "cancel-stored" // a cancellation is stored; the host has not been told

	// Plans and notifications, in the coordinator.
	RunStored     = "run-stored"     // a run is stored with its plan's cursor; no job is asked for
	PlannedStored = "planned-stored" // jobs of a run are stored; the run does not know of them
	RunEnded      = "run-ended"      // the end of a run is stored; nobody was told
	MessageDue    = "message-due"    // there is something to tell; the message is not stored
	MessageSent   = "message-sent"   // a message was sent; that it was is not stored

	// Agent.
	OrderRead         = "order-read"         // an order came and is not journaled
	OrderJournaled    = "order-journaled"    // it is journaled and not answered
	BorgStarted       = "borg-started"       // borg runs; its start is not journaled
	BorgEnded         = "borg-ended"         // borg's end is known and not journaled
	FinishedJournaled = "finished-journaled" // the last event is journaled and not sent
	FinishedPublished = "finished-published" // the stream has it; the agent has not noted that
	VerdictRead       = "verdict-read"       // the coordinator's verdicts are here and not journaled
	PieceRead         = "piece-read"         // a piece of what borg prints is read and not handed out

	// Supervisor.
	StartMarked = "start-marked" // the start is marked; borg is not started
	StartUntold = "start-untold" // borg runs; its process is not noted
	ExitUntold  = "exit-untold"  // borg has ended; its exit is not written
)

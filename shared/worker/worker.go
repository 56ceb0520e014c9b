// Package worker takes orders in and sees every accepted attempt through to its
// finished event: it checks an order against the host's policy, has it
// journaled, waits for a slot, runs borg through the engine, and records what
// the engine tells. After a restart it goes on with what is open.
package worker

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Intake is the journal's side towards the coordinator. All changes are on disk
// when a method returns; the methods are safe for concurrent use.
type Intake interface {
	// Answer returns what was answered to an attempt's order, if it is known.
	Answer(key attempt.Key) (reply bus.OrderReply, known bool, err error)
	// Accept records an order, or its refusal, with its first event. A known
	// one changes nothing and gets the same answer; fresh is false then.
	Accept(order bus.Order, refusal *job.Failure, first job.Event) (reply bus.OrderReply, fresh bool, err error)
	// Cancel marks an attempt, and reports whether it is open. One that was
	// never seen gets over as its only event.
	Cancel(key attempt.Key, over job.Event) (stamp bus.Stamp, open bool, err error)
	// Settle applies verdicts.
	Settle(verdicts []bus.Verdict) (attempt.Settled, error)
}

// Memory is the journal's side towards running attempts. The methods are safe
// for concurrent use.
type Memory interface {
	// Snapshot returns everything known, at one moment.
	Snapshot() (attempt.Snapshot, error)
	// Unfinished returns the open attempts with their orders.
	Unfinished() ([]attempt.Record, error)
	// Record appends events to an open attempt and keeps the mark, all or none.
	Record(key attempt.Key, mark attempt.Mark, events ...job.Event) error
}

// Journal is the agent's durable memory.
type Journal interface {
	Intake
	Memory
}

// Engine runs attempts. Its methods are safe for concurrent use.
type Engine interface {
	// Resume goes on with an attempt, which it starts if it was not started. It
	// returns when the finished event is recorded; ctx's end leaves borg alone.
	Resume(ctx context.Context, a engine.Attempt, from engine.Resume, rec engine.Recorder, cancel <-chan struct{}) error
	// End ends a run that belongs to no attempt. An error says that something of
	// it still lives.
	End(ctx context.Context, id string) error
	// Remove forgets an attempt's run.
	Remove(ctx context.Context, id string) error
}

// Runs are the job directories on this machine.
type Runs interface {
	// List returns the ids of all runs, of the form attempt.Key prints.
	List(ctx context.Context) ([]string, error)
	// Over reports whether nothing of a run lives.
	Over(ctx context.Context, id string) (bool, error)
	// Argv returns what a run runs, or nothing when that is not known any more.
	Argv(ctx context.Context, id string) ([]string, error)
	// Output opens what a run that streams prints. It waits for the run's start,
	// which waits for it. process.ErrNoOutput says that there is nothing to read.
	Output(ctx context.Context, id string) (process.Output, error)
	// Clean removes runs that ended long ago and that keep does not want.
	Clean(ctx context.Context, olderThan time.Duration, keep func(id string) bool) error
}

// Policy says what this host allows.
type Policy interface {
	// Check returns nil or why the order is refused.
	Check(order bus.Order) *job.Failure
	// Target returns the directory that a restore to target writes to, without
	// symbolic links, or why it is refused.
	Target(target string) (string, *job.Failure)
	// MountPoint does the same for a mount point.
	MountPoint(point string) (string, *job.Failure)
	// Hook returns the path of the script of that name, or why it is refused.
	Hook(name string) (string, *job.Failure)
}

// Mounts are what borg has mounted on this machine.
type Mounts interface {
	// List returns the mount points. It waits for none of them.
	List() ([]string, error)
	// Remove unmounts one, even while it is in use.
	Remove(ctx context.Context, point string) error
}

// Borg tells which borg there is.
type Borg interface {
	// Version returns the version, or why there is no usable borg. It is quick
	// unless the binary has changed since it was asked last.
	Version(ctx context.Context) (borg.Version, *job.Failure)
}

// Secrets opens what was sealed to this host. It is safe for concurrent use.
type Secrets interface {
	// Open returns the secret, or secret.ErrNotOurs.
	Open(sealed secret.Sealed, purpose secret.Purpose) (secret.Value, error)
}

// Options are what a Worker needs.
type Options struct {
	Host     string
	Instance string // of this run of the agent; orders for another one are not answered
	Signer   string // coordinator's public signing key
	Secrets  Secrets
	Slots    int
	Journal  Journal
	Engine   Engine
	Runs     Runs
	Policy   Policy
	Mounts   Mounts
	Borg     Borg
	// RSH returns how borg reaches the server of an order's repository, or why it
	// cannot; empty: in its usual way. Nil: always so.
	RSH func(ctx context.Context, order bus.Order) (string, *job.Failure)
	// Checks finds out whether this host can do its work, for a verify job.
	Checks func(ctx context.Context) []job.Finding
	Logger hclog.Logger
	Now    func() time.Time // nil: time.Now
	// PieceWait and PieceIdle are bus's when they are zero.
	PieceWait, PieceIdle time.Duration
}

// Worker sees attempts through. It is safe for concurrent use.
type Worker struct {
	options  Options
	logger   hclog.Logger
	now      func() time.Time
	slots    *slots
	starts   chan attempt.Record
	changes  chan struct{}
	progress chan bus.Progress
	cleared  chan struct{} // closed when no run is left that the journal does not know

	mu      sync.Mutex
	wishes  map[attempt.Key]*wish   // for open attempts
	streams map[attempt.Key]*stream // of attempts that stream, until nobody asks any more
	orphans []string                // runs that the journal does not know, and that are being ended
}

// wish is what the coordinator wants of one attempt.
type wish struct {
	end, keep func()        // say so; once is enough
	ended     chan struct{} // closed when it is to end
	kept      chan struct{} // closed when it is to go on, by a verdict of this run of the agent
}

func newWish() *wish {
	w := &wish{ended: make(chan struct{}), kept: make(chan struct{})}
	w.end, w.keep = sync.OnceFunc(func() { close(w.ended) }), sync.OnceFunc(func() { close(w.kept) })
	return w
}

// over reports whether it is to end.
func (w *wish) over() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

const (
	startQueue    = 64 // orders taken in and not yet picked up by Run
	progressQueue = 16
	// orphanAge is how long the directory of a run that the journal does not
	// know is kept, for people who look for what happened.
	orphanAge = 7 * 24 * time.Hour
)

// New returns a Worker. It takes orders in at once, and runs them in Run.
func New(o Options) *Worker {
	w := &Worker{
		options: o, logger: o.Logger.Named("worker"), now: o.Now, slots: newSlots(o.Slots),
		starts: make(chan attempt.Record, startQueue), changes: make(chan struct{}, 1),
		progress: make(chan bus.Progress, progressQueue), cleared: make(chan struct{}),
		wishes: map[attempt.Key]*wish{}, streams: map[attempt.Key]*stream{},
	}
	if w.now == nil {
		w.now = time.Now
	}
	w.options.PieceWait, w.options.PieceIdle = cmp.Or(o.PieceWait, bus.PieceWait), cmp.Or(o.PieceIdle, bus.PieceIdle)
	return w
}

// Changes gets one signal after one or more changes of the journal.
func (w *Worker) Changes() <-chan struct{} { return w.changes }

// Progress gets live progress; what is not read in time is dropped.
func (w *Worker) Progress() <-chan bus.Progress { return w.progress }

// Run goes on with the attempts that the journal has open, and runs new ones as
// they are ordered, until ctx ends. Borg goes on after that. No attempt begins
// before the runs that the journal does not know are ended. An error means that
// the journal or the job directories cannot be read.
func (w *Worker) Run(ctx context.Context) error {
	open, err := w.options.Journal.Unfinished()
	if err != nil {
		return err
	}
	known, orphans, err := w.adopt(ctx)
	if err != nil {
		return err
	}
	var followers sync.WaitGroup
	defer followers.Wait()
	w.setOrphans(orphans)
	followers.Go(func() { w.clear(ctx, orphans) })
	running := map[attempt.Key]bool{}
	begun := func(r attempt.Record) bool { return r.Mark.StartedTold || known[r.Key] }
	for _, record := range open {
		if begun(record) && record.Order.Kind.TakesSlot() {
			w.slots.force() // before one that waits can take its place
		}
	}
	for _, record := range open {
		running[record.Key] = true
		followers.Go(func() { w.follow(ctx, record, begun(record)) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case record := <-w.starts:
			if running[record.Key] { // ordered before Run looked into the journal
				delete(running, record.Key)
				continue
			}
			followers.Go(func() { w.follow(ctx, record, false) })
		}
	}
}

// wish returns what is wished of an attempt; a new one wants nothing.
func (w *Worker) wish(key attempt.Key) *wish {
	w.mu.Lock()
	defer w.mu.Unlock()
	known, ok := w.wishes[key]
	if !ok {
		known = newWish()
		w.wishes[key] = known
	}
	return known
}

// keep lets an attempt that waits for a word of the coordinator begin.
func (w *Worker) keep(key attempt.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known, ok := w.wishes[key]; ok {
		known.keep()
	}
}

func (w *Worker) drop(key attempt.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wishes, key)
}

// changed tells that the journal has changed.
func (w *Worker) changed() {
	select {
	case w.changes <- struct{}{}:
	default: // told already, and not looked at yet
	}
}

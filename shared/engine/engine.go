// Package engine runs one attempt of one job, from its start, or from being
// found again, to its last event.
package engine

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Executor runs programs that outlive their follower: on this machine
// (process.Local), or on another. Its methods are safe for concurrent use.
type Executor interface {
	// Start starts a program, once per command ID: for an ID that was started
	// before it returns what was started then. A *process.StartError says that
	// the program does not run and never did; after any other error that is
	// unknown, and Start may be called again.
	Start(ctx context.Context, c process.Command, passphrase secret.Value) (process.Started, error)
	// Follow delivers all output from the given offsets on, and returns when
	// the program has ended and all of it is delivered. process.ErrNotStarted
	// says that there is nothing to follow. After any other error Follow may be
	// called again from the last offset.
	Follow(ctx context.Context, id string, from process.Offsets, emit func(process.Chunk) error) (process.Exit, error)
	// Signal sends a signal to the program and its children. It does nothing
	// when the program is gone.
	Signal(ctx context.Context, id string, s process.Signal) error
	// Remove forgets a run that is over. Unknown ids are no error.
	Remove(ctx context.Context, id string) error
}

// Attempt is one try of one job.
type Attempt struct {
	Job        job.ID
	Number     int // 1, 2, …
	Host       string
	Task       borg.Task
	Passphrase secret.Value // empty: the repository has none
}

// ID names the attempt to the executor.
func (a Attempt) ID() string { return a.Job.AttemptID(a.Number) }

// Recorder takes what an attempt tells. Its methods are called by one goroutine.
type Recorder interface {
	// Record makes an event durable and numbers it (Seq is 0 here). at is how
	// much output had been read when the event was made. An error means that
	// the event is not recorded; the engine tries again.
	Record(ctx context.Context, e job.Event, at process.Offsets) error
	// Progress passes live progress on. It must not block for long; progress
	// may be dropped.
	Progress(p job.Progress)
}

// Options are what an Engine needs.
type Options struct {
	Environment borg.Environment
	Nice        int    // see process.Command
	IOClass     string // see process.Command
	Executor    Executor
	Logger      hclog.Logger
}

// Engine runs attempts. It is safe for concurrent use.
type Engine struct{ options Options }

// New returns an Engine.
func New(o Options) *Engine { return &Engine{options: o} }

// Resume tells how much of an attempt has been recorded before.
type Resume struct {
	Offsets     process.Offsets // the largest `at` of any recorded event
	StartedTold bool            // a started event is recorded
	LogLines    int             // lines in all recorded log events together (not counting Omitted)
}

// Run runs a new attempt to its finished event. When ctx ends, borg goes on,
// nothing more is recorded, and ctx's error is returned: the attempt can be
// resumed. Closing cancel ends borg.
func (e *Engine) Run(ctx context.Context, a Attempt, rec Recorder, cancel <-chan struct{}) error {
	return e.Resume(ctx, a, Resume{}, rec, cancel)
}

// Resume goes on with an attempt that may have been run before.
func (e *Engine) Resume(ctx context.Context, a Attempt, from Resume, rec Recorder, cancel <-chan struct{}) error {
	return errors.New("not yet")
}

// Remove forgets an attempt's run, once its result is stored elsewhere. id is
// Attempt.ID's.
func (e *Engine) Remove(ctx context.Context, id string) error {
	return e.options.Executor.Remove(ctx, id)
}

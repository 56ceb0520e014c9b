// Package engine runs one attempt of one job: from its start, or from being
// found again, to its last event. It joins what borg is (package borg) to where
// it runs (an [Executor]) and tells a [Recorder] what happens.
package engine

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Executor runs programs that outlive their follower: on this machine
// ([process.Local]), or on another. Its methods are safe for concurrent use.
// What a command with Pipe set prints is for somebody else to read, beside
// Start, which waits for that.
// Package enginetest holds the suite that every executor passes.
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
	// Age returns how long the program has been running, by a clock that nobody
	// sets. running is false before the start, after the end, and for an unknown
	// ID; none of that is an error.
	Age(ctx context.Context, id string) (age time.Duration, running bool, err error)
	// Remove forgets a run that is over; it returns process.ErrRunning for one
	// that is not. Unknown IDs are no error.
	Remove(ctx context.Context, id string) error
}

// Attempt is one try of one job.
type Attempt struct {
	Job        job.ID
	Number     int // 1, 2, …
	Host       string
	Task       borg.Task
	Passphrase secret.Value // empty: the repository has none
	// Checks are what was found out about the host beforehand. They go in front of
	// those in the result, and a bad one makes a success a warning.
	Checks []job.Finding
	// RSH is how borg reaches this repository's server; empty: as the engine's
	// environment says.
	RSH string
	// Timeout is how long borg may run, from its start, whoever follows it
	// meanwhile. 0: no limit.
	Timeout time.Duration
}

// ID names the attempt to the executor.
func (a Attempt) ID() string { return a.Job.AttemptID(a.Number) }

// Recorder takes what an attempt tells. Its methods are never called at the
// same time.
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

// Engine runs attempts. It holds no state of them and is safe for concurrent
// use.
type Engine struct {
	options Options
	logger  hclog.Logger
}

// New returns an Engine.
func New(o Options) *Engine { return &Engine{options: o, logger: o.Logger.Named("engine")} }

// Resume tells how much of an attempt has been recorded before. The zero value
// stands for nothing.
type Resume struct {
	// Offsets are the largest `at` of any recorded event. They serve to notice
	// output that has vanished since.
	Offsets process.Offsets
	// StartedTold says that a started event is recorded. Nothing is started
	// then; when nothing is found either, the attempt was interrupted.
	StartedTold bool
	// LogLines counts the lines of all recorded log events (without Omitted).
	// So many are not told again.
	LogLines int
}

// Run runs a new attempt to its finished event. See [Engine.Resume].
func (e *Engine) Run(ctx context.Context, a Attempt, rec Recorder, cancel <-chan struct{}) error {
	return e.Resume(ctx, a, Resume{}, rec, cancel)
}

// Resume brings an attempt, of which some may have been recorded before, to its
// finished event, and returns nil when that is recorded. Borg is started if it
// was not before, and found again if it was; what it has written is read again
// from the beginning, and what was recorded is not recorded again.
//
// Events come in this order: at most one started, any number of log, one
// finished. A log event holds at most a second of output; the first
// job.LogHeadLines lines are told as they come, the last job.LogTailLines of
// the others before the finished event.
//
// When cancel is closed, borg is signalled (see DESIGN.md for how), and the
// attempt ends as cancelled when borg is gone, or as what it was when borg had
// done its work by then. The same happens when borg has run for longer than the
// attempt's timeout, which then fails with code timeout; a cancellation that
// comes before borg is gone makes it cancelled. When ctx ends, borg goes on, nothing more is recorded,
// and ctx's error is returned; that is the only error there is.
func (e *Engine) Resume(ctx context.Context, a Attempt, from Resume, rec Recorder, cancel <-chan struct{}) error {
	r := &run{
		Engine: e, attempt: a, from: from, recorder: rec, cancel: cancel,
		parser: borg.NewParser(a.Task),
		book:   newLogbook(from.LogLines),
		pace:   pacer{emit: rec.Progress},
		logger: e.logger.With("job", string(a.Job), "attempt", a.Number),
	}
	defer r.pace.stop()
	defer r.book.stop()
	return r.toTheEnd(ctx)
}

// Remove forgets what was run for an attempt, by [Attempt.ID], once its result
// is stored elsewhere. Until then the directory is the only proof of it.
func (e *Engine) Remove(ctx context.Context, id string) error {
	return e.options.Executor.Remove(ctx, id)
}

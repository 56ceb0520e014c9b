package engine

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// run is one call of Resume. Everything but the follower and the ladder
// happens in the goroutine of that call.
type run struct {
	*Engine
	attempt  Attempt
	from     Resume
	recorder Recorder
	cancel   <-chan struct{}
	logger   hclog.Logger

	parser *borg.Parser
	book   *logbook
	pace   pacer
	at     process.Offsets // output read so far
	// cancelledInTime and overdue say why borg was signalled. They are set
	// before the first signal, and not after borg's end.
	cancelledInTime, overdue atomic.Bool
}

// toTheEnd is the attempt, step by step.
func (r *run) toTheEnd(ctx context.Context) error {
	environment := r.options.Environment
	environment.RSH = cmp.Or(r.attempt.RSH, environment.RSH)
	argv, environ, err := borg.Command(r.attempt.Task, environment)
	if err != nil && !r.from.StartedTold {
		return r.finish(ctx, failed(job.AsFailure(err)), time.Time{})
	}
	r.book.add(job.LogLine{Level: job.LevelInfo, Text: borg.Redact(argv)}, time.Now())
	if !r.from.StartedTold && !r.cancelled() {
		failure, err := r.start(ctx, argv, environ)
		if err != nil {
			return err
		}
		if failure != nil {
			return r.finish(ctx, failed(failure), time.Time{})
		}
	}
	exit, err := r.follow(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, process.ErrNotStarted) && !r.from.StartedTold && r.cancelled():
		return r.finish(ctx, cancelled("cancelled before borg was started"), time.Time{})
	case errors.Is(err, process.ErrNotStarted):
		exit.Lost = true
	case err != nil:
		return err
	}
	return r.finish(ctx, r.outcome(exit), exit.EndedAt)
}

func (r *run) cancelled() bool {
	select {
	case <-r.cancel:
		return true
	default:
		return false
	}
}

// start starts borg, or finds it again, and records that.
func (r *run) start(ctx context.Context, argv, environ []string) (*job.Failure, error) {
	command := process.Command{
		ID: r.attempt.ID(), Argv: argv, Env: environ, Nice: r.options.Nice, IOClass: r.options.IOClass,
		Pipe: job.Streams(r.attempt.Task.Spec),
	}
	switch spec := r.attempt.Task.Spec.(type) {
	case job.RestoreSpec: // borg writes into its working directory
		if !spec.DryRun && spec.ContentTo == "" {
			command.Dir, command.MakeDir, command.EmptyDir = spec.Target, true, !spec.Overwrite && !spec.KeepExisting
		}
	case job.KeyExportSpec:
		command.Recipient = spec.Recipient
	}
	passphrase := r.attempt.Passphrase
	if r.attempt.Task.Kind == job.BreakLock {
		passphrase = secret.Value{} // borg opens no archive, and the shell around it has no use for it
	}
	var started process.Started
	err := retry(ctx, r.logger, "start borg", func() (err error) {
		started, err = r.options.Executor.Start(ctx, command, passphrase)
		return err
	})
	if failure, ok := errors.AsType[*process.StartError](err); ok {
		return r.startFailure(argv[0], failure), nil
	}
	if err != nil || started.PID == 0 { // 0: it is lost, which is found out by following
		return nil, err
	}
	fault.Point(fault.BorgStarted)
	r.logger.Debug("borg runs", "pid", started.PID)
	return nil, r.record(ctx, job.Event{Type: job.EventStarted, At: started.At, State: job.Running, PID: started.PID})
}

// follow reads borg's output to its end, and tells of it.
func (r *run) follow(ctx context.Context) (process.Exit, error) {
	within, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	helpers.Go(func() { r.awaitCancel(within, begin) })
	helpers.Go(func() { r.awaitTimeout(within, begin) })
	helpers.Go(func() { r.ladder(within, begun) })

	chunks, taken := make(chan process.Chunk), make(chan struct{})
	emit := func(c process.Chunk) error {
		select {
		case chunks <- c:
			<-taken // the chunk's bytes are only valid until emit returns
			return nil
		case <-within.Done():
			return within.Err()
		}
	}
	var exit process.Exit
	over := make(chan error, 1)
	helpers.Go(func() {
		var err error
		exit, err = r.read(within, emit)
		over <- err
	})
	for {
		select {
		case chunk := <-chunks:
			r.take(chunk)
			taken <- struct{}{}
		case <-r.pace.due():
			r.pace.fire(time.Now())
		case <-r.book.due():
			if err := r.tell(ctx, r.book.news()); err != nil {
				return process.Exit{}, err
			}
		case err := <-over:
			return exit, err
		}
	}
}

// read follows the output from its beginning, and after a fault from where it
// has come to.
func (r *run) read(ctx context.Context, emit func(process.Chunk) error) (exit process.Exit, err error) {
	var at process.Offsets
	err = retry(ctx, r.logger, "follow borg", func() (err error) {
		exit, err = r.options.Executor.Follow(ctx, r.attempt.ID(), at, func(c process.Chunk) error {
			err := emit(c)
			if err == nil {
				at.Stdout += int64(len(c.Stdout))
				at.Stderr += int64(len(c.Stderr))
			}
			return err
		})
		return err
	})
	return exit, err
}

// take parses a piece of output.
func (r *run) take(c process.Chunk) {
	r.parser.Stdout(c.Stdout)
	r.items(r.parser.Stderr(c.Stderr))
	r.at.Stdout += int64(len(c.Stdout))
	r.at.Stderr += int64(len(c.Stderr))
}

// items books lines, and offers the newest progress among the items.
func (r *run) items(items []borg.Item) {
	now := time.Now()
	var newest *job.Progress
	for _, item := range items {
		if item.Progress != nil {
			newest = item.Progress
		}
		if item.Line != nil {
			r.book.add(*item.Line, now)
		}
	}
	if newest != nil {
		r.pace.offer(*newest, now)
	}
}

// outcome judges how borg ended.
func (r *run) outcome(exit process.Exit) job.Outcome {
	r.items(r.parser.Flush())
	if r.at.Stdout < r.from.Offsets.Stdout || r.at.Stderr < r.from.Offsets.Stderr {
		r.logger.Warn("borg's output is shorter than it was", "read", r.at, "before", r.from.Offsets)
	}
	if exit.StartError != "" {
		return failed(r.exitFailure(exit))
	}
	lived := exit.Lived
	if lived == 0 { // a supervisor of an older version did not say
		lived = max(0, exit.EndedAt.Sub(exit.StartedAt))
	}
	end := borg.Exit{
		Lost: exit.Lost,
		Code: exit.Code, Signal: syscall.Signal(exit.Signal), Cancelled: r.cancelledInTime.Load(),
		Duration: lived, Started: exit.StartedAt, Ended: exit.EndedAt,
	}
	// An agent that was started again does not know what the one before it did;
	// how long borg lived does not depend on that.
	if limit := r.attempt.Timeout; limit > 0 && (r.overdue.Load() || lived >= limit) {
		end.Timeout = limit
	}
	return r.madeBefore(r.parser.Finish(end))
}

// madeBefore recognises the archive that an earlier attempt has made: all
// attempts of a backup give it one name, and borg makes no second archive of a
// name. The earlier borg was killed after it had saved the archive and before
// it had said so. With a name of the submitter's own that is not certain.
func (r *run) madeBefore(o job.Outcome) job.Outcome {
	task := r.attempt.Task
	spec, backup := task.Spec.(job.BackupSpec)
	if !backup || spec.Archive != "" || r.attempt.Number == 1 || o.Failure == nil || o.Failure.Code != job.ArchiveExists {
		return o
	}
	return job.Outcome{State: job.Warning, Result: &job.Result{
		Archive: task.Archive, BorgVersion: task.Version.Text,
		Warnings: []string{"an earlier attempt made this archive, and was ended before it could report on it; its sizes are in the archive itself"},
	}}
}

// finish tells the rest of the log, and the outcome.
func (r *run) finish(ctx context.Context, o job.Outcome, at time.Time) error {
	for _, news := range r.book.rest() {
		if err := r.tell(ctx, news); err != nil {
			return err
		}
	}
	if at.IsZero() {
		at = time.Now()
	}
	fault.Point(fault.BorgEnded)
	o = checked(o, r.attempt.Checks)
	r.logger.Debug("attempt ended", "state", string(o.State))
	return r.record(ctx, job.Event{
		Type: job.EventFinished, At: at, State: o.State, Result: o.Result, Failure: o.Failure,
	})
}

// tell records log lines, in events of a bounded size.
func (r *run) tell(ctx context.Context, news news) error {
	for len(news.lines) > 0 {
		n := fitting(news.lines)
		err := r.record(ctx, job.Event{
			Type: job.EventLog, At: time.Now(), State: job.Running, Lines: news.lines[:n:n], Omitted: news.omitted,
		})
		if err != nil {
			return err
		}
		news.lines, news.omitted = news.lines[n:], 0
	}
	return nil
}

// record makes an event durable, however often that takes.
func (r *run) record(ctx context.Context, e job.Event) error {
	e.Job, e.Host, e.Attempt, e.At = r.attempt.Job, r.attempt.Host, r.attempt.Number, e.At.UTC()
	return retry(ctx, r.logger, "record event", func() error { return r.recorder.Record(ctx, e, r.at) })
}

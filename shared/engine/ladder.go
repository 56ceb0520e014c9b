package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// rung is a step in ending borg.
type rung struct {
	after  time.Duration // since the first one
	signal process.Signal
}

// rungs returns how a task is ended. borg create takes a first SIGINT as
// "stop after this file" and a second one as "stop now", and both leave a
// checkpoint and release the lock; every other command swallows a SIGINT.
// Where hooks run whatever happens, their script ends borg by force by itself.
func rungs(task borg.Task) []rung {
	if task.Kind == job.Backup {
		return []rung{
			{0, process.Interrupt},
			{time.Second, process.Interrupt},
			{10 * time.Second, process.Terminate},
			{max(30*time.Second, task.Aftermath()), process.Kill},
		}
	}
	return plainRungs
}

var plainRungs = []rung{{0, process.Terminate}, {10 * time.Second, process.Terminate}, {30 * time.Second, process.Kill}}

// endPatience is how long the end of a run is waited for: until the last rung,
// and some time for what was killed to go.
const endPatience = 40 * time.Second

// End ends a run that belongs to no attempt any more, and returns when nothing
// of it lives. The error is ctx's, or says that it could not be ended in time.
func (e *Engine) End(ctx context.Context, id string) error {
	within, stop := context.WithTimeout(ctx, endPatience)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	helpers.Go(func() { e.climb(within, id, plainRungs) })
	err := retry(within, e.logger, "follow a run to its end", func() error {
		_, err := e.options.Executor.Follow(within, id, process.Offsets{}, func(process.Chunk) error { return nil })
		return err
	})
	if err == nil || errors.Is(err, process.ErrNotStarted) {
		return nil
	}
	return fmt.Errorf("end run %s: %w", id, err)
}

// The last rung is repeated, and a signal that could not be sent is sent again.
const (
	ladderRepeat = 30 * time.Second
	ladderRetry  = time.Second
)

// awaitCancel lets the ladder begin when the attempt is cancelled.
func (r *run) awaitCancel(ctx context.Context, begin func()) {
	select {
	case <-ctx.Done():
	case <-r.cancel:
		r.cancelledInTime.Store(true)
		begin()
	}
}

// awaitTimeout lets the ladder begin when borg has run for too long. It waits by
// a clock that nobody sets, and asks how old the process is before it acts, so
// neither a clock that jumps nor another agent's end shortens the time.
func (r *run) awaitTimeout(ctx context.Context, begin func()) {
	limit := r.attempt.Timeout
	if limit <= 0 {
		return
	}
	for {
		age, running, err := r.options.Executor.Age(ctx, r.attempt.ID())
		wait := limit - age
		switch {
		case err != nil || !running:
			wait = ladderRetry
		case wait <= 0:
			r.logger.Info("borg has run for longer than it may", "limit", limit)
			r.overdue.Store(true)
			begin()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// ladder waits for its begin, and then signals borg ever harder, until ctx ends.
func (r *run) ladder(ctx context.Context, begun <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-begun:
		r.climb(ctx, r.attempt.ID(), rungs(r.attempt.Task))
	}
}

// climb signals a run ever harder until ctx ends. Between two signals the run has
// its time, also when the first was late because the host was away: a program
// that could clean up is not killed for that.
func (e *Engine) climb(ctx context.Context, id string, steps []rung) {
	begun := time.Now()
	for i := 0; ; i++ {
		step := steps[min(i, len(steps)-1)]
		due := step.after + time.Duration(max(0, i-len(steps)+1))*ladderRepeat
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(begun.Add(due))):
		}
		e.logger.Info("ending borg", "run", id, "signal", string(step.signal))
		tried := time.Now()
		for e.options.Executor.Signal(ctx, id, step.signal) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(ladderRetry):
			}
		}
		begun = begun.Add(time.Since(tried))
	}
}

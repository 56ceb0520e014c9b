package engine

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// rung is a step of a cancellation.
type rung struct {
	after  time.Duration // since the cancellation
	signal process.Signal
}

// rungs returns how a kind is cancelled. borg create takes a first SIGINT as
// "stop after this file" and a second one as "stop now", and both leave a
// checkpoint and release the lock; every other command swallows a SIGINT.
func rungs(kind job.Kind) []rung {
	if kind == job.Backup {
		return []rung{
			{0, process.Interrupt},
			{time.Second, process.Interrupt},
			{10 * time.Second, process.Terminate},
			{30 * time.Second, process.Kill},
		}
	}
	return []rung{{0, process.Terminate}, {10 * time.Second, process.Terminate}, {30 * time.Second, process.Kill}}
}

// The last rung is repeated, and a signal that could not be sent is sent again.
const (
	ladderRepeat = 30 * time.Second
	ladderRetry  = time.Second
)

// ladder waits for the cancellation, and then signals borg ever harder, until
// ctx ends.
func (r *run) ladder(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-r.cancel:
	}
	r.signalled.Store(true)
	begun, steps := time.Now(), rungs(r.attempt.Task.Kind)
	for i := 0; ; i++ {
		step := steps[min(i, len(steps)-1)]
		due := step.after + time.Duration(max(0, i-len(steps)+1))*ladderRepeat
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(begun.Add(due))):
		}
		r.logger.Info("cancelling", "signal", string(step.signal))
		for r.options.Executor.Signal(ctx, r.attempt.ID(), step.signal) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(ladderRetry):
			}
		}
	}
}

package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/borgfleet/borgfleet/agent/internal/attempt"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// errNoEnd is for an engine that returned before the end of its attempt.
var errNoEnd = errors.New("no finished event was recorded")

const maxRetry = 30 * time.Second

// follow sees one attempt through. begun says that borg may have been started
// for it, and that it has its slot.
func (w *Worker) follow(ctx context.Context, record attempt.Record, begun bool) {
	defer w.drop(record.Key)
	wish := w.end(record.Key)
	if record.Cancelled {
		wish.want()
	}
	rec := &recorder{worker: w, key: record.Key, mark: record.Mark}
	if !begun && !w.slots.take(ctx, wish.wanted) {
		if ctx.Err() == nil {
			w.insist(ctx, rec, func() error { return rec.Record(ctx, w.cancelled(), process.Offsets{}) })
		}
		return
	}
	defer w.slots.release()
	w.insist(ctx, rec, func() error { return w.attempt(ctx, record, rec, begun, wish.wanted) })
}

// insist calls step until the attempt's end is recorded or ctx ends. What
// fails here is the agent's own: a full disk under the journal, say.
func (w *Worker) insist(ctx context.Context, rec *recorder, step func() error) {
	for failures := 0; ; failures++ {
		err := step()
		if rec.finished || ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errNoEnd
		}
		w.logger.Error("follow an attempt; trying again", "job", rec.key, "err", err)
		wait := min(time.Second<<min(failures, 8), maxRetry)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

// attempt runs an attempt, or goes on with it, to its end.
func (w *Worker) attempt(ctx context.Context, record attempt.Record, rec *recorder, begun bool, cancel <-chan struct{}) error {
	version, failure := w.options.Borg.Version(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var a engine.Attempt
	if failure == nil || begun { // a borg that runs is followed, whatever became of its binary
		a, failure = w.build(*record.Order, version)
	}
	if failure != nil && !begun {
		return rec.Record(ctx, w.event(job.Event{Type: job.EventFinished, State: job.Failed, Failure: failure}), process.Offsets{})
	}
	from := engine.Resume{
		Offsets:     process.Offsets{Stdout: rec.mark.Stdout, Stderr: rec.mark.Stderr},
		StartedTold: rec.mark.StartedTold, LogLines: rec.mark.LogLines,
	}
	return w.options.Engine.Resume(ctx, a, from, rec, cancel)
}

package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// errNoEnd is for an engine that returned before the end of its attempt.
var errNoEnd = errors.New("no finished event was recorded")

const maxRetry = 5 * time.Second // a disk that has room again is soon used

// follow sees one attempt through. begun says that borg may have been started
// for it, and that it has its slot.
func (w *Worker) follow(ctx context.Context, record attempt.Record, begun bool) {
	defer w.drop(record.Key)
	wish := w.wish(record.Key)
	if record.Cancelled {
		wish.end()
	}
	rec := &recorder{worker: w, key: record.Key, mark: record.Mark, kind: record.Order.Kind, wish: wish}
	if rec.stream = w.stream(*record.Order, begun); rec.stream != nil {
		defer rec.stream.finish()
	}
	if !begun && !w.admit(ctx, record, wish) {
		if ctx.Err() == nil {
			w.insist(ctx, rec, func() error { return rec.Record(ctx, w.cancelled(), process.Offsets{}) })
		}
		return
	}
	if record.Order.Kind.TakesSlot() {
		defer w.slots.release()
	}
	w.insist(ctx, rec, func() error { return w.attempt(ctx, record, rec, begun) })
}

// admit waits until an attempt may begin, and has its slot, if its kind takes
// one. It returns false
// when ctx ends, or the attempt is to end, before that.
//
// An attempt whose order has expired waits for the coordinator's word as well:
// if this host was rolled back to an older copy of its disk, then what seems not
// to have begun may have been done long ago.
func (w *Worker) admit(ctx context.Context, record attempt.Record, wish *wish) bool {
	waits := []<-chan struct{}{w.cleared}
	if w.now().After(record.Order.ExpiresAt) {
		waits = append(waits, wish.kept)
	}
	for _, wait := range waits {
		select {
		case <-wait:
		case <-wish.ended:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return !record.Order.Kind.TakesSlot() || w.slots.take(ctx, wish.ended)
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
		wait := min(time.Second<<min(failures, 3), maxRetry)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
	}
}

// attempt runs an attempt, or goes on with it, to its end.
func (w *Worker) attempt(ctx context.Context, record attempt.Record, rec *recorder, begun bool) error {
	version, failure := w.options.Borg.Version(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var a engine.Attempt
	checks := w.checks(ctx, record.Order.Kind)
	// A borg that runs is followed, whatever became of its binary. To unmount takes none.
	if failure == nil || begun || record.Order.Kind == job.Umount {
		a, failure = w.build(*record.Order, version)
	}
	if failure == nil && !begun && w.options.RSH != nil { // a borg that runs has its way already
		a.RSH, failure = w.options.RSH(ctx, *record.Order)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failure != nil && !begun {
		return rec.Record(ctx, w.unstarted(failure, checks), process.Offsets{})
	}
	a.Checks = checks
	from := engine.Resume{
		Offsets:     process.Offsets{Stdout: rec.mark.Stdout, Stderr: rec.mark.Stderr},
		StartedTold: rec.mark.StartedTold, LogLines: rec.mark.LogLines,
	}
	cancel, done := w.attend(ctx, rec, a.ID())
	defer done()
	return w.options.Engine.Resume(ctx, a, from, rec, cancel)
}

// checks are what a verify job finds out before borg is asked.
func (w *Worker) checks(ctx context.Context, kind job.Kind) []job.Finding {
	if kind != job.Verify || w.options.Checks == nil {
		return nil
	}
	return w.options.Checks(ctx)
}

// unstarted is the end of an attempt for which borg cannot be started.
func (w *Worker) unstarted(failure *job.Failure, checks []job.Finding) job.Event {
	end := job.Event{Type: job.EventFinished, State: job.Failed, Failure: failure}
	if len(checks) > 0 {
		end.Result = &job.Result{Checks: checks}
	}
	return w.event(end)
}

package worker

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/borgfleet/borgfleet/agent/internal/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// recorder writes what the engine tells of one attempt into the journal. It
// implements engine.Recorder; its methods are called by one goroutine.
type recorder struct {
	worker   *Worker
	key      attempt.Key
	mark     attempt.Mark
	finished bool
}

// Record journals an event, in as many parts as the bus needs.
func (r *recorder) Record(_ context.Context, e job.Event, at process.Offsets) error {
	e.Host = r.worker.options.Host
	next := r.mark
	next.Stdout, next.Stderr = max(next.Stdout, at.Stdout), max(next.Stderr, at.Stderr)
	next.LogLines += len(e.Lines)
	next.StartedTold = next.StartedTold || e.Type == job.EventStarted
	err := r.worker.options.Journal.Record(r.key, next, fit(e)...)
	if err != nil && !errors.Is(err, attempt.ErrFinished) {
		return err
	}
	if err != nil {
		r.worker.logger.Error("an event came after the end of its attempt", "job", r.key, "err", err)
	}
	r.mark = next
	r.finished = r.finished || err != nil || e.Type == job.EventFinished
	r.worker.changed()
	return nil
}

// Progress passes live progress on, or drops it when nobody takes it.
func (r *recorder) Progress(p job.Progress) {
	select {
	case r.worker.progress <- bus.Progress{Job: r.key.Job, Attempt: r.key.Number, Progress: p}:
	default:
	}
}

// maxEventBytes leaves room for the stamp, what the attempt is of, and the
// message's header.
const maxEventBytes = bus.MaxMessageBytes - 32<<10

// fit returns the event as one or more that a message can hold: log lines are
// spread over several, lists of a result are shortened.
func fit(e job.Event) []job.Event {
	if size(e) <= maxEventBytes {
		return []job.Event{e}
	}
	if len(e.Lines) > 1 {
		head, tail := e, e
		half := len(e.Lines) / 2
		head.Lines, tail.Lines, tail.Omitted = e.Lines[:half], e.Lines[half:], 0
		return append(fit(head), fit(tail)...)
	}
	if e.Result == nil {
		return []job.Event{e}
	}
	result := *e.Result
	e.Result = &result
	for size(e) > maxEventBytes && shorten(&result) {
	}
	return []job.Event{e}
}

// shorten halves the longest list of a result. It returns false when there is
// nothing left to leave out.
func shorten(r *job.Result) bool {
	longest := max(len(r.Archives), len(r.Kept), len(r.Pruned), len(r.Warnings))
	half := (longest + 1) / 2
	switch longest {
	case 0:
		return false
	case len(r.Archives):
		r.Archives, r.ArchivesOmitted = r.Archives[half:], r.ArchivesOmitted+half // the oldest go
	case len(r.Kept):
		r.Kept = r.Kept[half:]
	case len(r.Pruned):
		r.Pruned = r.Pruned[half:]
	default:
		r.Warnings, r.WarningsOmitted = r.Warnings[:longest-half], r.WarningsOmitted+half
	}
	return true
}

func size(e job.Event) int {
	data, err := json.Marshal(e)
	if err != nil {
		return 0 // the journal will say so
	}
	return len(data)
}

package worker

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// recorder writes what the engine tells of one attempt into the journal. It
// implements engine.Recorder; its methods are called by one goroutine.
type recorder struct {
	worker   *Worker
	key      attempt.Key
	kind     job.Kind
	wish     *wish
	stream   *stream // nil: the attempt does not stream
	mark     attempt.Mark
	finished bool
}

// Record journals an event, in as many parts as the bus needs.
func (r *recorder) Record(ctx context.Context, e job.Event, at process.Offsets) error {
	e.Host = r.worker.options.Host
	if e.Type == job.EventFinished {
		if r.stream != nil && (e.State == job.Succeeded || e.State == job.Warning) {
			if err := r.stream.drain(ctx, r.wish.ended); err != nil {
				return err
			}
		}
		e = r.judge(e)
		if r.stream != nil && e.State == job.Cancelled {
			r.stream.abandon() // nobody wants the rest
		}
		if r.kind == job.Mount {
			r.worker.sweep(ctx) // before anybody learns that the mount point is free
		}
	}
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

// judge corrects the end of an attempt whose output was not read to its end:
// borg may not have noticed, or it was ended for that reason.
func (r *recorder) judge(e job.Event) job.Event {
	if r.stream == nil || !r.stream.lost() || r.wish.over() {
		return e
	}
	if e.Failure != nil && e.State == job.Failed && e.Failure.Code != job.Internal && e.Failure.Code != job.Interrupted {
		return e // a reason of its own
	}
	e.State, e.Result = job.Failed, nil
	e.Failure = job.Fail(job.ConnectionLost, "whoever read what borg on %s printed went away", e.Host).
		WithHint("the agent there was started again, the coordinator was, or the connection was cut for too long: ask again")
	e.Failure.Retryable = r.kind != job.Download // nobody waits for another one
	return e
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
	changes := 0
	if r.Diff != nil {
		changes = len(r.Diff.Changes)
	}
	longest := max(len(r.Archives), len(r.Kept), len(r.Pruned), len(r.Deleted), len(r.Damaged), len(r.Warnings), changes)
	half := (longest + 1) / 2
	rest := longest - half
	switch longest {
	case 0:
		return false
	case len(r.Archives):
		r.Archives, r.ArchivesOmitted = r.Archives[half:], r.ArchivesOmitted+half // the oldest go
	case len(r.Kept):
		r.Kept, r.KeptOmitted = r.Kept[half:], r.KeptOmitted+half
		r.KeptBy = only(r.KeptBy, r.Kept)
	case len(r.Pruned):
		r.Pruned, r.PrunedOmitted = r.Pruned[half:], r.PrunedOmitted+half
	case len(r.Deleted):
		r.Deleted, r.DeletedOmitted = r.Deleted[half:], r.DeletedOmitted+half
	case len(r.Damaged):
		r.Damaged, r.DamagedOmitted = r.Damaged[:rest], r.DamagedOmitted+half
	case changes:
		diff := *r.Diff
		diff.Changes, diff.Omitted = diff.Changes[:rest], diff.Omitted+int64(half)
		r.Diff = &diff
	default:
		r.Warnings, r.WarningsOmitted = r.Warnings[:rest], r.WarningsOmitted+half
	}
	return true
}

// only returns the entries of a map whose keys are listed.
func only(all map[string]string, keys []string) map[string]string {
	if all == nil {
		return nil
	}
	some := make(map[string]string, len(keys))
	for _, key := range keys {
		if value, ok := all[key]; ok {
			some[key] = value
		}
	}
	return some
}

func size(e job.Event) int {
	data, err := json.Marshal(e)
	if err != nil {
		return 0 // the journal will say so
	}
	return len(data)
}

package proxy

import (
	"context"
	"errors"
	"sync"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/process"
)

// runs is the worker's engine for a host that may be away for a long time: what
// is to be ended or removed there waits until it is back, and holds up nothing
// else meanwhile.
type runs struct {
	*engine.Engine
	session *session

	mu     sync.Mutex
	remove []string // job directories that are to go
	wake   chan struct{}
}

func newRuns(h *session, e *engine.Engine) *runs {
	return &runs{Engine: e, session: h, wake: make(chan struct{}, 1)}
}

// End implements worker.Engine. A run on a host that is not reached may live:
// it is not given up before the host has been there all the time.
func (r *runs) End(ctx context.Context, id string) error {
	for r.session.reach.await(ctx) {
		there, done := r.session.reach.whileOnline(ctx)
		err := r.Engine.End(there, id)
		away := there.Err() != nil
		done()
		if err == nil || !away {
			return err
		}
	}
	return ctx.Err()
}

// Remove implements worker.Engine. It only notes what is to go.
func (r *runs) Remove(_ context.Context, id string) error {
	r.mu.Lock()
	r.remove = append(r.remove, id)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

// next returns a directory that is to go.
func (r *runs) next() (id string, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.remove) == 0 {
		return "", false
	}
	return r.remove[0], true
}

func (r *runs) removed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove = r.remove[1:]
}

// clean removes job directories, one after the other, until ctx ends. First are
// those that an earlier life did not come to.
func (r *runs) clean(ctx context.Context) {
	for wait := minWait; ; wait = min(2*wait, maxWait) {
		if !r.session.reach.await(ctx) {
			return
		}
		err := r.leftovers(ctx)
		if err == nil {
			break
		}
		r.session.logger.Debug("look for old job directories", "err", err)
		if !pause(ctx, wait) {
			return
		}
	}
	for {
		id, found := r.next()
		if !found {
			select {
			case <-ctx.Done():
				return
			case <-r.wake:
				continue
			}
		}
		if !r.clear(ctx, id) {
			return
		}
	}
}

// clear removes one directory. It reports false when ctx has ended.
func (r *runs) clear(ctx context.Context, id string) bool {
	for wait := minWait; ; wait = min(2*wait, maxWait) {
		if !r.session.reach.await(ctx) {
			return false
		}
		err := r.Engine.Remove(ctx, id)
		if ctx.Err() != nil {
			return false
		}
		if err == nil || errors.Is(err, process.ErrRunning) {
			if err != nil {
				r.session.logger.Warn("remove job directory; it is removed at a later start", "job", id, "err", err)
			}
			r.removed()
			return true
		}
		r.session.logger.Debug("remove job directory; trying again", "job", id, "err", err)
		if !pause(ctx, wait) {
			return false
		}
	}
}

// leftovers notes the directories of attempts that are forgotten, and whose
// outcome the journal has: their removal was on its way when the coordinator
// ended.
func (r *runs) leftovers(ctx context.Context) error {
	ids, err := r.session.runner.Runs.List(ctx)
	if err != nil {
		return err
	}
	snapshot, err := r.session.journal.Snapshot()
	if err != nil {
		return err
	}
	open := map[string]bool{}
	for _, record := range snapshot.Records {
		open[record.Key.String()] = true
	}
	for _, id := range ids {
		key, err := attempt.ParseKey(id)
		if err != nil || open[id] {
			continue
		}
		if _, known, err := r.session.journal.Answer(key); err == nil && known {
			_ = r.Remove(ctx, id) // it only notes that
		}
	}
	return nil
}

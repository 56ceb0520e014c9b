package proxy

import (
	"context"
	"errors"
	"sync"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// patient is an executor that waits while the host is away, instead of failing
// again and again.
type patient struct {
	engine.Executor
	reach *reach
}

// Start implements engine.Executor.
func (p patient) Start(ctx context.Context, c process.Command, passphrase secret.Value) (process.Started, error) {
	if !p.reach.await(ctx) {
		return process.Started{}, ctx.Err()
	}
	return p.Executor.Start(ctx, c, passphrase)
}

// Follow implements engine.Executor.
func (p patient) Follow(ctx context.Context, id string, from process.Offsets, emit func(process.Chunk) error) (process.Exit, error) {
	if !p.reach.await(ctx) {
		return process.Exit{}, ctx.Err()
	}
	return p.Executor.Follow(ctx, id, from, emit)
}

// Signal implements engine.Executor.
func (p patient) Signal(ctx context.Context, id string, s process.Signal) error {
	if !p.reach.await(ctx) {
		return ctx.Err()
	}
	return p.Executor.Signal(ctx, id, s)
}

// runs is the worker's engine for a host that may be away for a long time: what
// is to be ended or removed there waits until it is back, and holds up nothing
// else meanwhile.
type runs struct {
	session *session
	options engine.Options // without the environment
	plain   *engine.Engine // that starts nothing

	mu     sync.Mutex
	remove []string // job directories that are to go
	wake   chan struct{}
}

func newRuns(h *session) *runs {
	o := engine.Options{
		Nice: h.runner.Nice, IOClass: h.runner.IOClass, Executor: patient{h.runner.Executor, h.reach}, Logger: h.logger,
	}
	return &runs{session: h, options: o, plain: engine.New(o), wake: make(chan struct{}, 1)}
}

// Resume implements worker.Engine.
func (r *runs) Resume(ctx context.Context, a engine.Attempt, from engine.Resume, rec engine.Recorder, cancel <-chan struct{}) error {
	for wait := minWait; r.session.reach.await(ctx); wait = min(2*wait, maxWait) {
		environment, failure := r.session.runner.Environment(ctx)
		if failure == nil {
			o := r.options
			o.Environment = environment
			return engine.New(o).Resume(ctx, a, from, rec, cancel)
		}
		r.session.logger.Debug("look where borg may work; trying again", "job", a.ID(), "err", failure)
		if !pause(ctx, wait) {
			break
		}
	}
	return ctx.Err()
}

// End implements worker.Engine. A run on a host that is not reached may live:
// it is not given up before the host has been there all the time.
func (r *runs) End(ctx context.Context, id string) error {
	for r.session.reach.await(ctx) {
		there, done := r.session.reach.whileOnline(ctx)
		err := r.plain.End(there, id)
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
		err := r.plain.Remove(ctx, id)
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

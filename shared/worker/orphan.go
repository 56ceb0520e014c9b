package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/borgfleet/borgfleet/shared/attempt"
)

// adopt looks at the job directories. It returns the attempts that have one, and
// the runs that live and that the journal does not know: they belong to a
// journal that is lost, or was rolled back. The coordinator takes them for
// interrupted, and orders what they did anew.
func (w *Worker) adopt(ctx context.Context) (found map[attempt.Key]bool, orphans []string, err error) {
	snapshot, err := w.options.Journal.Snapshot()
	if err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	for _, record := range snapshot.Records {
		known[record.Key.String()] = true
	}
	ids, err := w.options.Runs.List(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list job directories: %w", err)
	}
	found = map[attempt.Key]bool{}
	for _, id := range ids {
		if key, err := attempt.ParseKey(id); err == nil && known[id] {
			found[key] = true
			continue
		}
		over, err := w.options.Runs.Over(ctx, id)
		if err != nil {
			w.logger.Warn("look whether an unknown run lives", "job", id, "err", err)
		}
		if !over {
			orphans = append(orphans, id)
		}
	}
	if err := w.options.Runs.Clean(ctx, orphanAge, func(id string) bool { return known[id] }); err != nil {
		w.logger.Warn("remove old job directories", "err", err)
	}
	return found, orphans, nil
}

// clear ends the orphans, and then lets new attempts begin: another attempt of
// the same job must not run beside one of them.
func (w *Worker) clear(ctx context.Context, orphans []string) {
	var ending sync.WaitGroup
	for _, id := range orphans {
		w.logger.Warn("ending a run that the journal does not know", "job", id)
		ending.Go(func() {
			if err := w.options.Engine.End(ctx, id); err != nil && ctx.Err() == nil {
				w.logger.Error("a run that the journal does not know goes on; new jobs begin beside it", "job", id, "err", err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.orphans = slices.DeleteFunc(slices.Clone(w.orphans), func(other string) bool { return other == id })
		})
	}
	ending.Wait()
	w.sweep(ctx)
	close(w.cleared)
}

func (w *Worker) setOrphans(ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orphans = ids
}

// Orphans returns the runs that the journal does not know and that are being
// ended, while no attempt begins.
func (w *Worker) Orphans() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.orphans
}

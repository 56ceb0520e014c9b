package worker

import (
	"context"
	"slices"

	"github.com/borgfleet/borgfleet/shared/borg"
)

// sweep unmounts what runs of ours have left mounted when they ended: borg, or
// the script around it, was killed. Whose a mount is, the job directories say,
// also those that the journal does not know; what others have mounted stays, and
// so does what a run that lives may have mounted at the same place.
func (w *Worker) sweep(ctx context.Context) {
	points, err := w.options.Mounts.List()
	if err != nil {
		w.logger.Warn("look for what is left mounted", "err", err)
	}
	if len(points) == 0 {
		return
	}
	left, used, err := w.claims(ctx)
	if err != nil {
		w.logger.Warn("look for what is left mounted", "err", err)
		return
	}
	for _, point := range points {
		if !slices.Contains(left, point) || slices.Contains(used, point) {
			continue
		}
		w.logger.Warn("unmounting what a run that is over has left mounted", "at", point)
		if err := w.options.Mounts.Remove(ctx, point); err != nil {
			w.logger.Error("unmount what a run has left", "err", err)
		}
	}
}

// claims returns the mount points of runs that are over, and of those that live.
func (w *Worker) claims(ctx context.Context) (left, used []string, err error) {
	ids, err := w.options.Runs.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		argv, err := w.options.Runs.Argv(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		point, mounts := borg.MountPoint(argv)
		if !mounts {
			continue
		}
		over, err := w.options.Runs.Over(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if over {
			left = append(left, point)
		} else {
			used = append(used, point)
		}
	}
	return left, used, nil
}

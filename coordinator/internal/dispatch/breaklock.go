package dispatch

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// breakLockPause is how long a look at a repository's lock answers for.
const breakLockPause = 10 * time.Minute

// coordinator is who asks for what nobody asked for.
var coordinator = fleet.Actor{Name: fleet.Itself}

// breakLocks adds a job to the batch for each attempt that ends in it because
// the repository was locked: the job looks whose lock that is, and removes it
// if its holder is proven dead. It is queued in the transaction that ends the
// attempt, and goes before the retry.
func (b *batch) breakLocks() error {
	for _, id := range b.order {
		e := b.entries[id]
		if !e.attempt.Finished || e.job.Kind == job.BreakLock || e.job.Repository == "" {
			continue
		}
		ended := e.current()
		if ended == nil || ended.Failure == nil || ended.Failure.Code != job.RepositoryLocked {
			continue
		}
		look, err := b.s.onBehalf(e, job.BreakLockSpec{})
		if err != nil {
			return err
		}
		looked, err := b.looked(look.job.Host, e.job.Repository)
		if err != nil {
			return fmt.Errorf("look for jobs that break the lock of %s: %w", e.job.Repository, err)
		}
		if looked {
			continue
		}
		b.enqueue(coordinator, look)
		b.s.logger.Info("repository is locked; looking whether its holder is dead", "repo", e.job.Repository, "host", e.job.Host, "job", id)
	}
	return nil
}

// looked reports whether a host looks at a repository's lock already, or has
// done so just now.
func (b *batch) looked(host, repository string) (bool, error) {
	for id := range b.created {
		if j := b.entries[id].job; j.Kind == job.BreakLock && j.Host == host && j.Repository == repository {
			return true, nil
		}
	}
	filter := job.Filter{Kind: job.BreakLock, Host: host, Repository: repository, Limit: 10}
	page, err := b.s.options.Store.Jobs(filter)
	if err != nil {
		return false, err
	}
	since := b.s.now().Add(-breakLockPause)
	for _, j := range page.Jobs {
		if spec, _ := j.Spec.(job.BreakLockSpec); !spec.DryRun && (j.FinishedAt == nil || j.FinishedAt.After(since)) {
			return true, nil
		}
	}
	return false, nil
}

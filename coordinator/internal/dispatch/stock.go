package dispatch

import (
	"fmt"

	"github.com/borgfleet/borgfleet/shared/job"
)

// takeStock adds a job to the batch that lists a repository, when one that was to
// remove archives is over and nobody knows what it did: its borg may have removed
// them and could not say so any more. It is queued in the transaction that ends
// the other one.
func (b *batch) takeStock(e *entry) error {
	_, watched, err := b.s.watched(e.job.Repository)
	if err != nil {
		return err
	}
	doubtful := unclear(e.job) || watched && repaired(e.job)
	if _, removed := b.s.removed[e.job.Host]; removed || e.given || !doubtful {
		return nil
	}
	listed, err := b.willBeListed(e.job.Repository)
	if err != nil {
		return fmt.Errorf("look for jobs that list %s: %w", e.job.Repository, err)
	}
	if listed && !watched {
		return nil
	}
	look, err := b.s.onBehalf(e, job.ListSpec{})
	if err != nil {
		return err
	}
	look.settles = watched // no host comes in between
	if _, err := b.ahead(e, look); err != nil {
		return err
	}
	b.s.logger.Info("looking which archives are left", "repo", e.job.Repository, "host", e.job.Host, "job", e.job.ID)
	return nil
}

// unclear reports whether a job that is over may have removed archives that its
// result does not name: an attempt of it has begun, and borg's own word on how
// that ended is not known.
func unclear(j job.Job) bool {
	switch spec := j.Spec.(type) {
	case job.DeleteSpec:
		if spec.DryRun {
			return false
		}
	case job.PruneSpec:
		if spec.DryRun {
			return false
		}
	default:
		return false
	}
	for _, a := range j.Attempts {
		if a.State == job.Cancelled && a.StartedAt != nil {
			return true
		}
		if a.Failure == nil {
			continue
		}
		switch a.Failure.Code {
		case job.Interrupted, job.ConnectionLost, job.HostUnreachable, job.Timeout, job.CodeCancelled:
			return true
		}
	}
	return false
}

// willBeListed reports whether a job waits that lists all of a repository.
func (b *batch) willBeListed(repository string) (bool, error) {
	for id := range b.created {
		if j := b.entries[id].job; j.Repository == repository && j.Spec == (job.ListSpec{}) {
			return true, nil
		}
	}
	page, err := b.s.options.Store.Jobs(job.Filter{Kind: job.List, Repository: repository, State: job.Queued, Limit: job.MaxPage})
	if err != nil {
		return false, err
	}
	for _, j := range page.Jobs {
		if j.Spec == (job.ListSpec{}) && j.SubmittedBy == coordinator.Name {
			return true, nil
		}
	}
	return false, nil
}

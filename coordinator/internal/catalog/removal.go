package catalog

import (
	"context"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// removeGone removes the listings of archives that a job has deleted, or has
// seen to be gone.
func (c *Catalog) removeGone(ctx context.Context, j job.Job) {
	r := j.Result
	if r == nil {
		r = &job.Result{} // what it did before it failed is not known; the next whole list tells
	}
	switch spec := j.Spec.(type) {
	case job.DeleteSpec:
		if !spec.DryRun {
			c.drop(j.Repository, "it was deleted", func(name string) bool {
				return slices.Contains(r.Deleted, name) || (r.DeletedOmitted > 0 && chosen(spec, name))
			})
			c.reconcile(ctx, j.Repository)
		}
	case job.PruneSpec:
		if !spec.DryRun {
			c.drop(j.Repository, "it was pruned", func(name string) bool {
				return slices.Contains(r.Pruned, name) || (r.PrunedOmitted > 0 && !slices.Contains(r.Kept, name))
			})
			c.reconcile(ctx, j.Repository)
		}
	case job.ListSpec:
		if spec == (job.ListSpec{}) {
			c.reconcile(ctx, j.Repository)
		}
	case job.BackupSpec:
		if r.Archive != "" { // maybe under the name of one that was deleted elsewhere
			c.reconcileArchive(ctx, archive{j.Repository, r.Archive}, nil)
		}
	}
}

// chosen reports whether a delete of too many archives to name may have deleted
// one. To be wrong costs a listing, which can be made again.
func chosen(spec job.DeleteSpec, name string) bool {
	return slices.Contains(spec.Archives, name) || job.MatchesGlob(spec.Glob, name)
}

// drop removes the listings of archives in a repository, also those that are
// being made.
func (c *Catalog) drop(repository, why string, gone func(archive string) bool) {
	for _, s := range c.underWay() {
		if s.of.repository == repository && gone(s.of.name) {
			c.mu.Lock()
			s.gone = true
			c.mu.Unlock()
		}
	}
	for _, l := range c.all(repository) {
		if gone(l.Archive) {
			c.remove(l, why)
		}
	}
}

// reconcile compares the listings of a repository with what is known of it.
func (c *Catalog) reconcile(ctx context.Context, name string) {
	repository, err := c.options.Repositories.Repository(ctx, name)
	if job.AsFailure(err) != nil && job.AsFailure(err).Code == job.UnknownRepository {
		c.drop(name, "its repository was removed", func(string) bool { return true })
		return
	}
	if err != nil {
		c.complain(ctx, "look for a repository", err)
		return
	}
	page, err := c.options.Archives.Archives(ctx, fleet.ArchiveFilter{Repository: name, Limit: 1})
	if err != nil {
		c.complain(ctx, "look for the archives of a repository", err)
		return
	}
	for _, l := range c.all(name) {
		if l.ListedAt.Before(repository.CreatedAt) {
			c.remove(l, "it is of an earlier repository of the same name")
			continue
		}
		c.reconcileArchive(ctx, archive{name, l.Archive}, &page)
	}
}

// reconcileArchive removes a listing that is not of the archive that has its name
// now. Where borg's id of the archive was not known when it was listed, it counts
// that an archive that was there then cannot have begun later.
func (c *Catalog) reconcileArchive(ctx context.Context, of archive, page *fleet.ArchivePage) {
	l, found := c.find(of.repository, of.name)
	if !found {
		return
	}
	known, err := c.options.Archives.Archive(ctx, of.repository, of.name)
	switch {
	case err != nil && job.AsFailure(err).Code != job.ArchiveMissing:
		c.complain(ctx, "look for an archive", err)
	case err != nil:
		listedWithout := page != nil && page.AsOf != nil && page.AsOf.After(l.ListedAt)
		if l.ID != "" || listedWithout {
			c.remove(l, "its archive is gone")
		}
	case known.ID == "" || known.ID == l.ID:
	case l.ID != "" || known.Start.After(l.ListedAt):
		c.remove(l, "another archive has its name now")
	default:
		c.learn(l, known)
	}
}

// learn adds what was not known of an archive when it was listed.
func (c *Catalog) learn(l *listing, known fleet.Archive) {
	more := *l
	more.ID, more.Start = known.ID, known.Start
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listings[l.Repository][l.Archive] == l {
		c.put(&more)
	}
}

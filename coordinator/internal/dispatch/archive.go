package dispatch

import (
	"context"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file keeps what is known of the archives in each repository.

// Archives returns one page of the known archives of a repository, newest first.
// ListedAt is not filled in. The error is a *job.Failure.
func (s *Service) Archives(_ context.Context, f fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	if err := s.checkKnown(f.Repository); err != nil {
		return fleet.ArchivePage{}, s.failure("list archives", err)
	}
	page, err := s.options.Store.Archives(f)
	if err != nil {
		return fleet.ArchivePage{}, s.failure("list archives", err)
	}
	return page, nil
}

// Archive returns what is known of an archive. ListedAt is not filled in. The
// error is a *job.Failure.
func (s *Service) Archive(_ context.Context, repository, name string) (fleet.Archive, error) {
	if err := s.checkKnown(repository); err != nil {
		return fleet.Archive{}, s.failure("read archive", err)
	}
	archive, found, err := s.options.Store.Archive(repository, name)
	if err != nil {
		return fleet.Archive{}, s.failure("read archive", err)
	}
	if !found {
		return fleet.Archive{}, fleet.UnknownArchive(repository, name)
	}
	return archive, nil
}

// checkKnown returns nil if there is a repository of that name.
func (s *Service) checkKnown(repository string) error {
	_, err := s.checkRepository(repository, job.List)
	return err
}

// inventory takes in what a job that ended well did to the archives of its
// repository, or saw of them. Lists of a repository that is watched have been
// taken in by batch.vetted.
func (b *batch) inventory(j job.Job) error {
	at := *j.FinishedAt
	repository, watched, err := b.s.watched(j.Repository)
	if err != nil {
		return err
	}
	switch spec := j.Spec.(type) {
	case job.InitSpec: // a new repository has none
		b.also(store.SetArchives(j.Repository, nil, time.Time{}, at))
		b.s.keepConfig(repository)
	case job.BackupSpec:
		credible := j.Result.Archive != ""
		if watched && credible {
			if credible, err = b.s.credible(j); err != nil {
				return err
			}
		}
		if credible {
			b.also(store.PutArchives(j.Repository, made(j, spec)))
		}
	case job.DeleteSpec:
		if !spec.DryRun {
			b.also(store.DeleteArchives(j.Repository, j.Result.Deleted...))
		}
	case job.PruneSpec:
		if !spec.DryRun {
			b.also(store.DeleteArchives(j.Repository, j.Result.Pruned...))
		}
	case job.ListSpec:
		if spec.Archive == "" && !watched {
			b.listed(j, spec)
		}
	}
	return nil
}

// credible reports whether a host may have made the archive that it says it has
// made, in a repository where nothing may be overwritten: the one that it was to
// make, and none that is recorded with another id.
func (s *Service) credible(j job.Job) (bool, error) {
	ordered := func(a job.Attempt) bool { return a.Archive == j.Result.Archive }
	known, found, err := s.options.Store.Archive(j.Repository, j.Result.Archive)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(j.Attempts, ordered) || found && known.ID != "" && known.ID != j.Result.ArchiveID {
		s.logger.Error("a host says that it has made an archive that it cannot have made", "host", j.Host, "job", j.ID, "archive", j.Result.Archive)
		return false, nil
	}
	return true, nil
}

// keepConfig keeps the configuration of a new repository in the depot, to notice
// when somebody else changes it.
func (s *Service) keepConfig(repository fleet.Repository) {
	if s.options.Depot == nil || repository.Depot == nil {
		return
	}
	if err := s.options.Depot.KeepConfig(repository.Name); err != nil {
		s.logger.Error("the configuration of a repository cannot be kept", "repo", repository.Name, "err", err)
	}
}

// made is the archive that a backup has made. Borg does not say when it began:
// its process did so a moment before.
func made(j job.Job, spec job.BackupSpec) fleet.Archive {
	r, start := j.Result, j.SubmittedAt
	if j.StartedAt != nil {
		start = *j.StartedAt
	}
	return fleet.Archive{
		Archive: job.Archive{Name: r.Archive, ID: r.ArchiveID, Start: start, Comment: spec.Comment},
		Host:    j.Host, Job: j.ID, SeenAt: *j.FinishedAt, NFiles: r.NFiles,
		OriginalSize: r.OriginalSize, CompressedSize: r.CompressedSize, DeduplicatedSize: r.DeduplicatedSize,
	}
}

// listed takes in a list of archives. If it is not narrowed, it has the newest
// ones; what is known and younger than its oldest is not there any more.
func (b *batch) listed(j job.Job, spec job.ListSpec) {
	at := *j.FinishedAt
	archives := make([]fleet.Archive, len(j.Result.Archives))
	oldest := at
	for i, archive := range j.Result.Archives {
		archives[i] = fleet.Archive{Archive: archive, SeenAt: at}
		if archive.Start.Before(oldest) {
			oldest = archive.Start
		}
	}
	if j.Result.ArchivesOmitted == 0 && spec.Last == 0 || len(archives) == 0 {
		oldest = time.Time{}
	}
	if spec.Prefix != "" || spec.Glob != "" || !spec.After.IsZero() || !spec.Before.IsZero() {
		b.also(store.PutArchives(j.Repository, archives...))
		return
	}
	b.also(store.SetArchives(j.Repository, archives, oldest, at))
}

// allListed reports whether a list names every archive of its repository.
func allListed(j job.Job) bool {
	spec, ok := j.Spec.(job.ListSpec)
	return ok && spec == job.ListSpec{} && j.Result.ArchivesOmitted == 0
}

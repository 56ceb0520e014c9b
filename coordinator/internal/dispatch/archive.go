package dispatch

import (
	"context"
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
// repository, or saw of them.
func (b *batch) inventory(j job.Job) {
	at := *j.FinishedAt
	switch spec := j.Spec.(type) {
	case job.InitSpec: // a new repository has none
		b.also(store.SetArchives(j.Repository, nil, time.Time{}, at))
	case job.BackupSpec:
		if j.Result.Archive != "" {
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
		if spec.Archive == "" {
			b.listed(j, spec)
		}
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

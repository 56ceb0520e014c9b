package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file looks at append-only repositories in the depot before anything is
// deleted from them. What a host deletes there is only noted by borg, and can be
// undone; a later job of ours would make it final.

// writes reports whether a job may make final what was deleted.
func writes(j job.Job) bool {
	switch spec := j.Spec.(type) {
	case job.PruneSpec:
		return !spec.DryRun
	case job.DeleteSpec:
		return !spec.DryRun
	case job.CheckSpec:
		return spec.Repair
	case job.CompactSpec:
		return true
	}
	return false
}

// deep reports whether a list of the archives says too little before a job: chunks
// can be deleted one by one, and leave the list as it is.
func deep(j job.Job) bool { return j.Kind == job.Compact || j.Kind == job.Check }

// watched returns a repository, and whether hosts may only append to it.
func (s *Service) watched(name string) (repository fleet.Repository, watched bool, err error) {
	if name == "" {
		return repository, false, nil
	}
	repository, _, err = s.options.Store.Repository(name)
	return repository, repository.Depot != nil && repository.Depot.AppendOnly, err
}

// guardFrozen refuses to delete from a repository that is frozen.
func (s *Service) guardFrozen(j job.Job) error {
	if !writes(j) {
		return nil
	}
	repository, _, err := s.options.Store.Repository(j.Repository)
	if err != nil || repository.Depot == nil || repository.Depot.Frozen == nil {
		return err
	}
	return frozenFailure(repository.Name, *repository.Depot.Frozen)
}

func frozenFailure(repository string, frozen fleet.Frozen) *job.Failure {
	return job.Fail(job.RepositoryFrozen, "repository %s is frozen, and nothing is deleted from it: %s", repository, frozen.Reason).
		WithHint("borgfleet repo show %s says what is wrong and what can be done; backups go on", repository)
}

// vetting reports whether no host may use the repository because of the job: from
// the look that goes before it until it is known what it did.
func (e *entry) vetting() bool {
	switch {
	case e.settles:
		return true
	case e.vetFor == 0:
		return false
	case e.vetFor == e.job.Attempt:
		return e.held() || unclear(e.job)
	}
	return e.vetFor == e.job.Attempt+1
}

// vet queues the look that goes before a job which deletes, and tells which it is
// in the same transaction. The repository is reserved for the job from then on. It
// reports whether the job has to wait for that.
func (s *Service) vet(b *batch, e *entry) (bool, error) {
	if !writes(e.job) || e.vetFor == e.job.Attempt+1 {
		return false, nil
	}
	if _, watched, err := s.watched(e.job.Repository); err != nil || !watched {
		return false, err
	}
	return true, b.vetBy(e, job.ListSpec{}, "")
}

// vetBy queues one step of the look before a job.
func (b *batch) vetBy(e *entry, spec job.Spec, follows job.ID) error {
	look, err := b.s.onBehalf(e, spec)
	if err != nil {
		return err
	}
	look.follows = follows
	aside, err := b.ahead(e, look)
	if err != nil {
		return err
	}
	aside.Vet, aside.VetFor = look.job.ID, e.job.Attempt+1
	b.also(store.PutAside(e.job.ID, aside))
	e.vet, e.vetFor = aside.Vet, aside.VetFor
	b.set(e, true)
	b.s.logger.Info("looking at a repository before anything is deleted", "repo", e.job.Repository, "job", e.job.ID, "vet", look.job.ID)
	return nil
}

// vetted does what follows from the looks that end in the batch: the next step, or
// the end of the job that waits, or nothing, so that the job goes. Lists that
// nothing waits for are compared as well.
func (b *batch) vetted() error {
	for _, id := range slices.Clone(b.order) {
		look := b.entries[id]
		spec, list := look.job.Spec.(job.ListSpec)
		list = list && spec.Archive == ""
		if !look.job.State.Terminal() || !list && look.job.Kind != job.Check {
			continue
		}
		repository, watched, err := b.s.watched(look.job.Repository)
		if err != nil {
			return err
		}
		if !watched {
			continue
		}
		writer := b.waitsFor(id)
		if !list {
			err = b.checkedFor(repository, writer, look)
		} else {
			err = b.lookedFor(repository, writer, look)
		}
		if err != nil {
			return fmt.Errorf("judge what was seen of repository %s: %w", repository.Name, err)
		}
	}
	return nil
}

// waitsFor returns the queued job that waits for a look, nil if none does.
func (b *batch) waitsFor(look job.ID) *entry {
	known := b.s.index.vettedBy(look)
	if known == nil {
		return nil
	}
	if e := b.get(known.job.ID); e != nil && !e.held() && !e.job.State.Terminal() {
		return e
	}
	return nil
}

// lookedFor judges a list that has ended; writer is the job that waits for it, or
// nil.
func (b *batch) lookedFor(repository fleet.Repository, writer, look *entry) error {
	if writer != nil {
		changed, err := b.s.configChanged(repository.Name)
		if err != nil {
			b.refuse(writer, look, job.Fail(job.Unavailable, "its configuration cannot be compared: %s", err))
			return nil
		}
		if changed {
			b.freeze(repository, writer, fleet.Frozen{Reason: "its configuration, which holds its key or says how it is kept, is not the one that it was made with"})
			return nil
		}
	}
	if look.job.State != job.Succeeded && look.job.State != job.Warning || look.job.Result == nil {
		b.refuse(writer, look, look.job.Failure)
		return nil
	}
	seen, err := b.s.listing(look)
	if err != nil {
		return err
	}
	if next, ok := seen.next(); ok && (writer != nil || look.adopt || look.settles) {
		return b.goOn(writer, look, job.ListSpec{Before: next})
	}
	if look.adopt && repository.Depot.Frozen != nil {
		return b.adopt(repository, seen)
	}
	if repository.Depot.Frozen != nil {
		b.refuse(writer, look, frozenFailure(repository.Name, *repository.Depot.Frozen))
		return nil
	}
	return b.compareWith(repository, writer, seen)
}

// compareWith compares what was listed with what is recorded, and takes it over if
// all is as it should be.
func (b *batch) compareWith(repository fleet.Repository, writer *entry, seen listing) error {
	record, err := b.record(repository.Name)
	if err != nil {
		return err
	}
	difference, err := b.s.difference(repository.Name, seen, record)
	if err != nil {
		return err
	}
	if writer != nil && difference == nil && !seen.whole {
		difference = &fleet.Frozen{Reason: fmt.Sprintf("more than %d of its archives claim to have been begun at one moment", job.MaxArchives)}
	}
	if difference != nil {
		b.freeze(repository, writer, *difference)
		return nil
	}
	b.takeOver(repository.Name, seen, record)
	if writer != nil && deep(writer.job) {
		return b.vetBy(writer, job.CheckSpec{ArchivesOnly: true}, "")
	}
	return nil
}

// takeOver makes what was listed what is recorded.
func (b *batch) takeOver(name string, seen listing, record store.RepositoryRecord) {
	archives := make([]fleet.Archive, 0, len(seen.archives))
	for _, archive := range seen.archives {
		if !checkpoint.MatchString(archive.Name) { // borg drops them by itself
			archives = append(archives, fleet.Archive{Archive: archive, SeenAt: seen.at})
		}
	}
	if !seen.whole {
		b.also(store.PutArchives(name, archives...))
		return
	}
	b.also(store.SetArchives(name, archives, time.Time{}, seen.at))
	record.ArchivesAsOf, record.Unsettled = &seen.at, nil
	b.records[name] = record
}

// goOn queues the list of what was too much for the one before.
func (b *batch) goOn(writer, look *entry, spec job.ListSpec) error {
	if writer != nil {
		return b.vetBy(writer, spec, look.job.ID)
	}
	next, err := b.s.onBehalf(look, spec)
	if err != nil {
		return err
	}
	next.follows, next.adopt, next.settles = look.job.ID, look.adopt, look.settles
	_, err = b.ahead(look, next)
	return err
}

// checkedFor judges a check of what is in the archives.
func (b *batch) checkedFor(repository fleet.Repository, writer, look *entry) error {
	failure := look.job.Failure
	if writer == nil || look.job.State == job.Succeeded || look.job.State == job.Warning {
		return nil
	}
	if failure == nil || failure.Code != job.IntegrityError {
		b.refuse(writer, look, failure)
		return nil
	}
	record, err := b.record(repository.Name)
	if err != nil || record.Damage == store.DamageAccepted {
		return err
	}
	record.Damage = store.DamageFound
	b.records[repository.Name] = record
	b.freeze(repository, writer, fleet.Frozen{Reason: "parts of its archives are not there, though the archives are: " + failure.Message})
	return nil
}

// refuse ends a job whose look has not ended well.
func (b *batch) refuse(writer, look *entry, why *job.Failure) {
	if writer == nil {
		return
	}
	failure, state := job.Fail(job.Internal, "it did not say what it saw"), job.Failed
	if why != nil {
		*failure = *why
	}
	if look.job.State == job.Cancelled {
		state = job.Cancelled
	}
	if failure.Code != job.RepositoryFrozen {
		failure.Message = fmt.Sprintf("job %s, which looks at the repository before anything is deleted, has not ended well: %s", look.job.ID, failure.Message)
	}
	failure.Retryable = false
	b.s.endInPlace(b, writer, state, failure)
	b.s.logger.Warn("job ended after a look at its repository", "job", writer.job.ID, "repo", writer.job.Repository, "err", failure)
}

// configChanged reports whether the configuration of a repository is not the one
// that was kept.
func (s *Service) configChanged(repository string) (bool, error) {
	if s.options.Depot == nil {
		return false, nil
	}
	return s.options.Depot.ConfigChanged(repository)
}

// record returns what is known of a repository, as the batch will store it.
func (b *batch) record(name string) (store.RepositoryRecord, error) {
	if record, ok := b.records[name]; ok {
		return record, nil
	}
	return b.s.options.Store.RepositoryRecord(name)
}

// ahead queues a job that goes before another one, or on from it: with the same
// passphrase. It returns what is kept beside the other one.
func (b *batch) ahead(e, before *entry) (store.Aside, error) {
	aside, err := b.s.options.Store.Aside(e.job.ID)
	if err != nil {
		return aside, fmt.Errorf("read what is kept beside job %s: %w", e.job.ID, err)
	}
	before.given = e.given
	b.enqueue(coordinator, before)
	beside := store.Aside{
		Passphrase: aside.Passphrase, Given: aside.Given,
		Follows: before.follows, Adopt: before.adopt, Settles: before.settles,
	}
	if beside != (store.Aside{}) {
		b.also(store.PutAside(before.job.ID, beside))
	}
	return aside, nil
}

// unsettle notes a job in the depot whose attempt has ended and may have removed
// archives without saying so: until these are listed, they need not be there.
func (b *batch) unsettle(e *entry) error {
	if !e.attempt.Finished || !unclear(e.job) && !repaired(e.job) {
		return nil
	}
	_, watched, err := b.s.watched(e.job.Repository)
	if err != nil || !watched {
		return err
	}
	record, err := b.record(e.job.Repository)
	if err != nil || slices.Contains(record.Unsettled, e.job.ID) {
		return err
	}
	record.Unsettled = append(slices.Clone(record.Unsettled), e.job.ID)
	b.records[e.job.Repository] = record
	return nil
}

// repaired reports whether a job has begun to mend its repository: that gives
// archives other ids, and finds and drops some.
func repaired(j job.Job) bool {
	spec, ok := j.Spec.(job.CheckSpec)
	return ok && spec.Repair && slices.ContainsFunc(j.Attempts, func(a job.Attempt) bool { return a.StartedAt != nil })
}

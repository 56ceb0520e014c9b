package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// AddRepository adds a repository. Its passphrase is stored encrypted; when it
// was asked to make one, it returns it, this once. With custody "hosts" the
// passphrase comes sealed to each host, and is stored as it came. Refusals are
// *job.Failure.
func (r *Registry) AddRepository(_ context.Context, by fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error) {
	repository := fleet.Repository{
		Repository: job.Repository{
			Name: asked.Name, Location: asked.Location, Encryption: cmp.Or(asked.Encryption, job.RepokeyBlake2),
		},
		CreatedAt: r.options.Now().UTC(), Custody: cmp.Or(asked.Custody, fleet.CustodyCoordinator),
	}
	if err := repository.Validate(); err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	if err := checkCustody(repository, asked); err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	if err := depotRepository(&repository, asked.Depot, r.mayUse); err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	passphrase, generated := asked.Passphrase, secret.Value{}
	if asked.Generate {
		generated = generate()
		passphrase = generated
	}
	repository.HasPassphrase = repository.Custody == fleet.CustodyHosts || !passphrase.Empty()
	if err := r.createRepository(by, repository, passphrase, asked.Sealed); err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	r.options.Feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: repository.Name})
	r.logger.Info("repository added", "repo", repository.Name, "custody", repository.Custody, "by", by.Name)
	view, err := r.viewRepository(repository)
	return view, generated, err
}

// createRepository stores a repository, unless its name or its location is
// taken: a lease is held by name, so one repository must not have two.
func (r *Registry) createRepository(by fleet.Actor, repository fleet.Repository, passphrase secret.Value, sealed map[string]fleet.SealedPassphrase) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	changes, err := r.putSeals(repository.Name, sealed)
	if err != nil {
		return err
	}
	if !passphrase.Empty() {
		put, err := r.options.Keyring.put(repository.Name, passphrase)
		if err != nil {
			return err
		}
		changes = append(changes, put)
	}
	if err := r.checkLocation(repository); err != nil {
		return err
	}
	if repository.InDepot() {
		if err := r.ensureLocalHost(); err != nil {
			return err
		}
	}
	changes = append(changes, store.CreateRepository(repository),
		r.audit(by, "repository.add", "repository/"+repository.Name, repository.Location))
	return failure(r.apply(changes...), job.UnknownRepository, "repository "+repository.Name)
}

// checkLocation refuses a location that belongs to another repository.
func (r *Registry) checkLocation(repository fleet.Repository) error {
	others, err := r.store.Repositories()
	if err != nil {
		return fmt.Errorf("read repositories: %w", err)
	}
	for _, other := range others {
		remote := !strings.HasPrefix(repository.Location, "/") && !repository.InDepot() // a path may be another one on another host
		if remote && job.SameLocation(other.Location, repository.Location) && other.Name != repository.Name {
			return job.Fail(job.Conflict, "the location %s belongs to repository %s", repository.Location, other.Name).
				WithHint("use that one: any number of hosts may back up to one repository")
		}
	}
	return nil
}

// MoveRepository says where a repository is now; its passphrase and what is known
// of it stay. Nothing is moved on any disk: whoever asks has done that. It is
// refused while jobs of the repository are open. Refusals are *job.Failure.
func (r *Registry) MoveRepository(_ context.Context, by fleet.Actor, name, location string) (fleet.RepositoryView, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	repository, err := readRepository(r.store, name)
	if err != nil {
		return fleet.RepositoryView{}, err
	}
	before := repository.Location
	if repository.InDepot() || location == job.DepotLocation {
		return fleet.RepositoryView{}, job.Invalid("location", "a repository is not moved into the depot, or out of it").
			WithHint("remove %s here, and add it with its new location: its data is not touched", name)
	}
	repository.Location = location
	if err := repository.Validate(); err != nil {
		return fleet.RepositoryView{}, err
	}
	if err := r.checkLocation(repository); err != nil {
		return fleet.RepositoryView{}, err
	}
	err = r.apply(store.RequireNoOpenJobs("", name), store.PutRepository(repository),
		r.audit(by, "repository.move", "repository/"+name, "from "+before+" to "+location))
	switch {
	case errors.Is(err, store.ErrOpenJobs):
		return fleet.RepositoryView{}, job.Fail(job.Conflict, "repository %s has jobs that are not over", name).
			WithHint("cancel them, or wait until they are over; borgfleet job list --repo %s shows them", name)
	case err != nil:
		return fleet.RepositoryView{}, fmt.Errorf("move repository %s: %w", name, err)
	}
	r.changed(name, "repository moved", by)
	return r.viewRepository(repository)
}

// RemoveRepository forgets a repository and its passphrase; its data stays
// where it is. It is refused while jobs of the repository are open, or plans name
// it.
func (r *Registry) RemoveRepository(_ context.Context, by fleet.Actor, name string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	repository, err := readRepository(r.store, name)
	if err != nil {
		return err
	}
	err = r.apply(store.RequireNoOpenJobs("", name), store.RequireUnplanned("", name), store.DeleteRepository(name), r.options.Keyring.delete(name),
		r.audit(by, "repository.remove", "repository/"+name, repository.Location))
	if err != nil {
		return failure(err, job.UnknownRepository, "repository "+name)
	}
	r.options.Feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: name})
	r.logger.Info("repository removed", "repo", name, "by", by.Name)
	return nil
}

// Passphrase returns a repository's passphrase, as [Keyring.Passphrase] does.
func (r *Registry) Passphrase(ctx context.Context, name string) (secret.Value, error) {
	return r.options.Keyring.Passphrase(ctx, name)
}

// Repository returns a repository with what is known of it.
func (r *Registry) Repository(_ context.Context, name string) (fleet.RepositoryView, error) {
	repository, err := readRepository(r.store, name)
	if err != nil {
		return fleet.RepositoryView{}, err
	}
	return r.viewRepository(repository)
}

// Repositories returns every repository with what is known of it, by name.
func (r *Registry) Repositories(context.Context) ([]fleet.RepositoryView, error) {
	repositories, err := r.store.Repositories()
	if err != nil {
		return nil, fmt.Errorf("read repositories: %w", err)
	}
	views := make([]fleet.RepositoryView, 0, len(repositories))
	for _, repository := range repositories {
		view, err := r.viewRepository(repository)
		if err != nil {
			return nil, err
		}
		views = append(views, view)
	}
	return views, nil
}

func readRepository(s *store.Store, name string) (fleet.Repository, error) {
	repository, ok, err := s.Repository(name)
	if err != nil {
		return repository, fmt.Errorf("read repository %s: %w", name, err)
	}
	if !ok {
		return repository, fleet.UnknownRepository(name)
	}
	return repository, nil
}

func (r *Registry) viewRepository(repository fleet.Repository) (fleet.RepositoryView, error) {
	view, name := fleet.RepositoryView{Repository: repository, SealedFor: []string{}}, repository.Name
	view.Custody = cmp.Or(view.Custody, fleet.CustodyCoordinator) // before custody existed there was no other
	view.HasKey = view.Encryption != job.Unencrypted
	active, err := r.store.ActiveJobs("", name)
	if err != nil {
		return view, fmt.Errorf("read jobs of repository %s: %w", name, err)
	}
	if len(active) > 0 {
		view.Busy, view.BusyJob = active[0].Title(), active[0].ID
	}
	backups, err := r.store.BackupsOfRepository(name)
	if err != nil {
		return view, fmt.Errorf("read backups of repository %s: %w", name, err)
	}
	view.LastBackup = newest(backups)
	record, err := r.store.RepositoryRecord(name)
	if err != nil {
		return view, fmt.Errorf("read record of repository %s: %w", name, err)
	}
	view.Info, view.InfoAt = record.Info, record.InfoAt
	view.LastCheck, view.LastVerify, view.LastPrune, view.LastCompact = record.LastCheck, record.LastVerify, record.LastPrune, record.LastCompact
	view.KeyExportedAt = record.KeyExportedAt
	sealedFor, err := r.store.SealedHosts(name)
	if err != nil {
		return view, fmt.Errorf("read for whom repository %s is sealed: %w", name, err)
	}
	view.SealedFor = append(view.SealedFor, sealedFor...)
	return view, nil
}

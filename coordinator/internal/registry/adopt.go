package registry

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Adopt makes a pending record of a repository that a call has named by nothing
// but its location, so that it can have jobs; of one that is there already it
// returns the record. Whoever adopts must [Registry.Keep] or [Registry.Abandon]
// it. Refusals are *job.Failure.
func (r *Registry) Adopt(_ context.Context, by fleet.Actor, location string, encryption job.Encryption) (fleet.RepositoryView, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	others, err := r.store.Repositories()
	if err != nil {
		return fleet.RepositoryView{}, fmt.Errorf("read repositories: %w", err)
	}
	for _, other := range others { // another call may have been faster
		if job.SameLocation(other.Location, location) {
			if other.Pending {
				r.adopters[other.Name]++
			}
			return r.viewRepository(other)
		}
	}
	repository := fleet.Repository{
		Repository: job.Repository{Name: freeName(location, others), Location: location, Encryption: encryption},
		CreatedAt:  r.options.Now().UTC(), Custody: fleet.CustodyCoordinator, Pending: true,
	}
	if err := repository.Validate(); err != nil {
		return fleet.RepositoryView{}, err
	}
	err = r.apply(store.CreateRepository(repository), r.audit(by, "repository.adopt", "repository/"+repository.Name, location))
	if err != nil {
		return fleet.RepositoryView{}, failure(err, job.UnknownRepository, "repository "+repository.Name)
	}
	r.adopters[repository.Name] = 1
	r.changed(repository.Name, "repository adopted", by)
	return r.viewRepository(repository)
}

// Keep stores the passphrase with which a call has reached a repository, and
// ends its being pending. Without a passphrase it stores none. What borg has said
// of the repository's encryption is believed.
func (r *Registry) Keep(_ context.Context, by fleet.Actor, name string, passphrase secret.Value) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	repository, err := readRepository(r.store, name)
	if err != nil {
		return err
	}
	if repository.Custody == fleet.CustodyHosts {
		return job.Fail(job.Conflict, "only its hosts may know the passphrase of repository %s", name).
			WithHint("borgfleet repo seal %s --host HOST gives it to a host", name)
	}
	record, err := r.store.RepositoryRecord(name)
	if err != nil {
		return fmt.Errorf("read record of repository %s: %w", name, err)
	}
	switch {
	case record.Encryption.Known():
		repository.Encryption = record.Encryption
	case record.Info != nil && record.Info.Encryption.Known(): // stored before the record had its own
		repository.Encryption = record.Info.Encryption
	case repository.Pending && !repository.Encryption.NeedsPassphrase() && !passphrase.Empty():
		repository.Encryption = job.RepokeyBlake2 // whoever adopted it had none, and could not know better
	}
	repository.Pending = false
	changes := []store.Change{r.audit(by, "repository.keep", "repository/"+name, repository.Location)}
	if !passphrase.Empty() && repository.Encryption.NeedsPassphrase() {
		put, err := r.options.Keyring.put(name, passphrase)
		if err != nil {
			return err
		}
		repository.HasPassphrase = true
		changes = append(changes, put)
	}
	if err := r.apply(append(changes, store.PutRepository(repository))...); err != nil {
		return fmt.Errorf("keep repository %s: %w", name, err)
	}
	delete(r.adopters, name)
	r.changed(name, "repository kept", by)
	return nil
}

// Abandon removes the record of a repository that is pending, unless something
// else uses it: a job that is not over, one that has reached it, or another call
// that has adopted it. That call keeps or abandons it in turn.
func (r *Registry) Abandon(_ context.Context, by fleet.Actor, name string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	repository, err := readRepository(r.store, name)
	if err != nil {
		return err
	}
	if !repository.Pending {
		return nil
	}
	if r.adopters[name]--; r.adopters[name] > 0 {
		return nil
	}
	delete(r.adopters, name)
	reached, err := r.reached(repository)
	if err != nil || reached {
		return err
	}
	err = r.apply(store.RequireNoOpenJobs("", name), store.DeleteRepository(name), r.options.Keyring.delete(name),
		r.audit(by, "repository.abandon", "repository/"+name, repository.Location))
	switch {
	case errors.Is(err, store.ErrOpenJobs):
		return nil
	case err != nil:
		return fmt.Errorf("abandon repository %s: %w", name, err)
	}
	r.changed(name, "repository abandoned", by)
	return nil
}

// FinishAdoptions settles the repositories that calls had adopted when the
// coordinator was ended: those that a job has reached stay, though without a
// passphrase. Call it at the start, when nobody can have adopted anything.
func (r *Registry) FinishAdoptions(ctx context.Context) error {
	repositories, err := r.store.Repositories()
	if err != nil {
		return fmt.Errorf("read repositories: %w", err)
	}
	for _, repository := range repositories {
		if !repository.Pending {
			continue
		}
		reached, err := r.reached(repository)
		switch {
		case err != nil:
			return err
		case reached:
			err = r.Keep(ctx, fleet.Actor{Name: fleet.Itself}, repository.Name, secret.Value{})
		default:
			err = r.Abandon(ctx, fleet.Actor{Name: fleet.Itself}, repository.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reached reports whether a job has ended well on a repository since its record
// was made; jobs of an earlier one of its name do not count.
func (r *Registry) reached(repository fleet.Repository) (bool, error) {
	for _, state := range []job.State{job.Succeeded, job.Warning} {
		page, err := r.store.Jobs(job.Filter{Repository: repository.Name, State: state, Since: repository.CreatedAt, Limit: 1})
		if err != nil {
			return false, fmt.Errorf("read jobs of repository %s: %w", repository.Name, err)
		}
		if len(page.Jobs) > 0 {
			return true, nil
		}
	}
	return false, nil
}

func (r *Registry) changed(name, what string, by fleet.Actor) {
	r.options.Feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: name})
	r.logger.Info(what, "repo", name, "by", by.Name)
}

// maxBase leaves room for a number behind the name.
const maxBase = 56

// freeName names a repository after the last part of its location.
func freeName(location string, others []fleet.Repository) string {
	taken := map[string]bool{}
	for _, other := range others {
		taken[other.Name] = true
	}
	base := strings.Map(func(c rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789._-", c) {
			return c
		}
		return '-'
	}, strings.ToLower(path.Base(location)))
	base = strings.TrimLeft(base, "._-")
	base = strings.TrimRight(base[:min(len(base), maxBase)], "._-")
	if base == "" {
		base = "repository"
	}
	name := base
	for n := 2; taken[name]; n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	return name
}

package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/nats-io/nkeys"
)

// maxSealedBytes bounds a sealed passphrase: base64 and JSON around the secret,
// and the box around them.
const maxSealedBytes = 2*secret.MaxBytes + 1024

// SealPassphrase adds or replaces the passphrase of a repository for hosts, by
// name, as it was sealed to them. The repository must have the custody "hosts".
// Refusals are *job.Failure.
func (r *Registry) SealPassphrase(_ context.Context, by fleet.Actor, name string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error) {
	r.changing.Lock()
	defer r.changing.Unlock()
	repository, err := readRepository(r.store, name)
	if err != nil {
		return fleet.RepositoryView{}, err
	}
	if repository.Custody != fleet.CustodyHosts {
		return fleet.RepositoryView{}, job.Fail(job.Conflict, "the passphrase of repository %s is kept by the coordinator", name).
			WithHint("nothing has to be sealed: the coordinator seals it to each host that needs it")
	}
	if len(sealed) == 0 {
		return fleet.RepositoryView{}, job.Invalid("sealed", "names no host").WithHint("borgfleet repo seal %s --host HOST", name)
	}
	changes, err := r.putSeals(name, sealed)
	if err != nil {
		return fleet.RepositoryView{}, err
	}
	hosts := strings.Join(slices.Sorted(maps.Keys(sealed)), ", ")
	changes = append(changes, r.audit(by, "repository.seal", "repository/"+name, "for "+hosts))
	if err := r.apply(changes...); err != nil {
		return fleet.RepositoryView{}, fmt.Errorf("seal passphrase of repository %s: %w", name, err)
	}
	r.options.Feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: name})
	r.logger.Info("passphrase sealed", "repo", name, "hosts", hosts, "by", by.Name)
	return r.viewRepository(repository)
}

// putSeals returns the changes that store a sealed passphrase for each host. It
// is refused when one was sealed to another key than the host's present one, as
// then the host may not be able to open it.
func (r *Registry) putSeals(repository string, sealed map[string]fleet.SealedPassphrase) ([]store.Change, error) {
	var changes []store.Change
	for _, name := range slices.Sorted(maps.Keys(sealed)) {
		seal := sealed[name]
		host, known := r.roster.get(name)
		switch {
		case !known:
			return nil, fleet.UnknownHost(name)
		case host.SealKey == "":
			return nil, job.Fail(job.Conflict, "host %s has no key yet that a passphrase could be sealed to", name).
				WithHint("enrol its agent first, then: borgfleet repo seal %s --host %s", repository, name)
		case host.SealKey != seal.SealKey:
			return nil, job.Fail(job.Conflict, "the passphrase for host %s was sealed to another key than the host has now", name).
				WithHint("seal it again: borgfleet repo seal %s --host %s", repository, name)
		case !nkeys.IsValidPublicCurveKey(seal.Sender) || len(seal.Ciphertext) == 0 || len(seal.Ciphertext) > maxSealedBytes:
			return nil, job.Invalid("sealed", "the passphrase for host %s is not a sealed one", name)
		}
		changes = append(changes, store.PutSealed(repository, name, seal))
	}
	return changes, nil
}

// dropSeals returns the changes that drop what was sealed to other keys of a
// host that is enrolled anew.
func (r *Registry) dropSeals(host, sealKey string) ([]store.Change, error) {
	repositories, err := r.store.Repositories()
	if err != nil {
		return nil, fmt.Errorf("read repositories: %w", err)
	}
	var changes []store.Change
	for _, repository := range repositories {
		seal, found, err := r.store.Sealed(repository.Name, host)
		if err != nil {
			return nil, fmt.Errorf("read passphrase of repository %s for host %s: %w", repository.Name, host, err)
		}
		if found && seal.SealKey != sealKey {
			changes = append(changes, store.DeleteSealed(repository.Name, host))
		}
	}
	return changes, nil
}

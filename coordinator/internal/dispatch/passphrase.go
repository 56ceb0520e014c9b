package dispatch

import (
	"context"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// SubmitWith is [Service.Submit] of a job whose orders carry this passphrase in
// the place of the repository's. It is sealed to the job's host at once, stored
// like that beside the job, and removed when the job is over. An empty one is
// none.
func (s *Service) SubmitWith(_ context.Context, by fleet.Actor, request job.Request, passphrase secret.Value) (job.Job, error) {
	s.write.Lock()
	defer s.write.Unlock()
	e, err := s.check(by, request)
	if err != nil {
		return job.Job{}, s.failure("submit job", err)
	}
	var also []store.Change
	if !passphrase.Empty() {
		aside, err := s.give(e, passphrase)
		if err != nil {
			return job.Job{}, s.failure("submit job", err)
		}
		also = append(also, aside)
	}
	if request.IdempotencyKey != "" {
		old, found, err := s.earlier(request, e)
		if err != nil {
			return job.Job{}, s.failure("look up idempotency key", err)
		}
		if found {
			return s.withProgress(old), nil
		}
	}
	return s.submit(by, e, request.IdempotencyKey, also...)
}

// give seals a passphrase of its own for a new job.
func (s *Service) give(e *entry, passphrase secret.Value) (store.Change, error) {
	host, repository := e.job.Host, e.job.Repository
	if repository == "" {
		return nil, job.Invalid("passphrase", "there is no repository that it could open").WithHint("name the repository, or give no passphrase")
	}
	key := s.hostState(host).SealKey
	if key == "" {
		return nil, job.Fail(job.HostUnreachable, "host %s has not told the key that passphrases are sealed to", host).
			WithHint("it does when its agent connects: look at borgfleet-agent there, and ask again")
	}
	sealed, err := secret.Seal(passphrase, secret.Purpose{Host: host, Repository: repository}, key)
	if err != nil {
		return nil, fmt.Errorf("seal passphrase for host %s: %w", host, err)
	}
	e.given, e.encrypted = true, false // it is sealed already
	return store.PutAside(e.job.ID, store.Aside{Passphrase: &fleet.SealedPassphrase{Sealed: sealed, SealKey: key}, Given: true}), nil
}

// passphrase returns what an order needs to open its repository; nil: nothing.
func (s *Service) passphrase(ctx context.Context, e *entry, custody fleet.Custody) (*secret.Sealed, error) {
	switch {
	case e.given:
		return s.given(e.job)
	case e.job.Repository == "":
		return nil, nil
	case custody == fleet.CustodyHosts:
		return s.sealed(e.job)
	default:
		return s.seal(ctx, e.job)
	}
}

// given returns the passphrase that a job was given. The repository's own one is
// never taken instead: whoever asked wants to know whether this one opens it.
func (s *Service) given(j job.Job) (*secret.Sealed, error) {
	aside, err := s.options.Store.Aside(j.ID)
	if err != nil {
		return nil, fmt.Errorf("read what is kept beside job %s: %w", j.ID, err)
	}
	if aside.Passphrase == nil {
		return nil, impossible{passphraseGone(j.ID)}
	}
	return &aside.Passphrase.Sealed, nil
}

func passphraseGone(id job.ID) *job.Failure {
	return job.Fail(job.Conflict, "job %s had a passphrase of its own, which is not kept", id).
		WithHint("submit it again together with its passphrase")
}

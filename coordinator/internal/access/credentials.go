package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Credentials returns what was given out for the bus, by name and age, with
// what was revoked.
func (s *Service) Credentials(context.Context) ([]fleet.NATSCredentials, error) {
	credentials, err := s.store.NATSCredentials()
	if err != nil {
		return nil, fmt.Errorf("read NATS credentials: %w", err)
	}
	return credentials, nil
}

// MintCredentials makes credentials for the bus and returns the content of
// their file, this once. In a user's name they must not be worth more than the
// user is. A name has one at a time.
func (s *Service) MintCredentials(_ context.Context, by fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error) {
	if err := checkName("name", name); err != nil {
		return fleet.NATSCredentials{}, secret.Value{}, err
	}
	if err := checkRole(role); err != nil {
		return fleet.NATSCredentials{}, secret.Value{}, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.checkMint(name, role); err != nil {
		return fleet.NATSCredentials{}, secret.Value{}, err
	}
	file, publicKey, err := s.bus.MintOperator(name, role)
	if err != nil {
		return fleet.NATSCredentials{}, secret.Value{}, fmt.Errorf("mint credentials of %s: %w", name, err)
	}
	record := fleet.NATSCredentials{Name: name, Role: role, PublicKey: publicKey, CreatedAt: s.now(), CreatedBy: by.Name}
	err = s.apply(store.PutNATSCredentials(record), s.audit(by, "nats.credentials.add", "nats-credentials/"+name, string(role)+", "+publicKey))
	if err != nil { // nobody has seen them
		return fleet.NATSCredentials{}, secret.Value{}, fmt.Errorf("store NATS credentials: %w", err)
	}
	s.logger.Info("NATS credentials made", "name", name, "role", role, "by", by.Name)
	return record, secret.New(file), nil
}

func (s *Service) checkMint(name string, role bus.Role) error {
	user, found, err := s.store.User(name)
	if err != nil {
		return fmt.Errorf("read user: %w", err)
	}
	if found && !user.Role.Includes(role) {
		return job.Fail(job.Conflict, "user %s is %s, and credentials in that name cannot do more", name, user.Role).
			WithHint("choose another name, or change the user's role first")
	}
	live, err := s.live(func(c fleet.NATSCredentials) bool { return c.Name == name })
	if err == nil && len(live) > 0 {
		err = job.Fail(job.Conflict, "there are NATS credentials of the name %s", name).WithHint("revoke them first, or choose another name")
	}
	return err
}

// checkCredentials refuses a user whose name is taken by credentials that are
// worth more than the user would be.
func (s *Service) checkCredentials(name string, role bus.Role) error {
	live, err := s.live(func(c fleet.NATSCredentials) bool { return c.Name == name && !role.Includes(c.Role) })
	if err == nil && len(live) > 0 {
		err = job.Fail(job.Conflict, "there are NATS credentials of the name %s, with the role %s", name, live[0].Role).
			WithHint("they would act as the same person: revoke them first, or choose another name")
	}
	return err
}

// RevokeCredentials ends a name's credentials for the bus at once.
func (s *Service) RevokeCredentials(_ context.Context, by fleet.Actor, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	changes, err := s.revoke(by, func(c fleet.NATSCredentials) bool { return c.Name == name })
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return job.Fail(job.NotFound, "there are no NATS credentials of the name %q that work", name)
	}
	if err := s.apply(changes...); err != nil {
		return fmt.Errorf("revoke NATS credentials: %w", err)
	}
	return s.FinishRevocations()
}

// live returns the credentials that work and that are meant.
func (s *Service) live(meant func(fleet.NATSCredentials) bool) (live []fleet.NATSCredentials, err error) {
	all, err := s.store.NATSCredentials()
	if err != nil {
		return nil, fmt.Errorf("read NATS credentials: %w", err)
	}
	for _, c := range all {
		if c.RevokedAt == nil && meant(c) {
			live = append(live, c)
		}
	}
	return live, nil
}

// revoke makes the changes that end credentials; call FinishRevocations when
// they are stored.
func (s *Service) revoke(by fleet.Actor, meant func(fleet.NATSCredentials) bool) (changes []store.Change, err error) {
	live, err := s.live(meant)
	now := s.now()
	for _, c := range live {
		c.RevokedAt = &now
		changes = append(changes, store.PutNATSCredentials(c),
			store.PutRevocation(store.Revocation{PublicKey: c.PublicKey, Operator: true, At: now}),
			s.audit(by, "nats.credentials.remove", "nats-credentials/"+c.Name, string(c.Role)+", "+c.PublicKey))
	}
	return changes, err
}

// FinishRevocations tells the bus which operators' identities have ended. Call
// it at the start, too: what it did not reach before is still stored.
func (s *Service) FinishRevocations() error {
	revocations, err := s.store.Revocations()
	if err != nil {
		return fmt.Errorf("read revocations: %w", err)
	}
	var faults []error
	for _, revocation := range revocations {
		if !revocation.Operator {
			continue
		}
		if err := s.bus.RevokeOperator(revocation.PublicKey); err != nil {
			faults = append(faults, err)
			continue
		}
		if _, err := s.store.Apply(store.DeleteRevocation(revocation.PublicKey)); err != nil {
			faults = append(faults, fmt.Errorf("store that %s is revoked: %w", revocation.PublicKey, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return job.Fail(job.Unavailable, "the change is stored, but the bus still takes the NATS credentials: %s", err).
			WithHint("it is tried again with the next revocation, and when the coordinator starts")
	}
	return nil
}

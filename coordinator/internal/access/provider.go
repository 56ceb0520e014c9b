package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// byProvider ends the detail of an audit entry.
const byProvider = ", by the identity provider"

// SignIn signs in a person whom an identity provider has authenticated, with
// the role that it gives: a new user is made, another role is taken over. Users
// with a password are this service's own, and are NotAllowed to come this way.
// Who comes before there is any user must be an admin, as it ends the set-up.
func (s *Service) SignIn(_ context.Context, from, name string, role bus.Role) (fleet.Actor, error) {
	s.flushDue()
	if err := errors.Join(checkName("name", name), checkRole(role)); err != nil {
		s.noteFailedLogin(from, name, false)
		return fleet.Actor{}, job.AsFailure(err)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	user, found, err := s.store.User(name)
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("read user: %w", err)
	}
	if found && user.HasPassword {
		s.noteFailedLogin(from, name, found)
		return fleet.Actor{}, job.Fail(job.NotAllowed, "%s signs in with a password here, not with the identity provider", name).
			WithHint("use that password; or an admin removes the user, whom the identity provider then brings anew")
	}
	by := fleet.Actor{Name: fleet.Person(name), Role: role, From: from}
	var changes []store.Change
	if found {
		changes, err = s.takeOver(by, user)
	} else {
		changes, err = s.welcome(by, name)
	}
	if err != nil {
		return fleet.Actor{}, err
	}
	if err := s.apply(append(changes, s.audit(by, "login", "user/"+name, "by the identity provider"))...); err != nil {
		return fleet.Actor{}, fmt.Errorf("store login: %w", err)
	}
	s.logger.Info("signed in by the identity provider", "user", name, "role", role, "from", from)
	if found && user.Role != role {
		if err := s.FinishRevocations(); err != nil { // the person can do nothing about it
			s.logger.Error("revoke NATS credentials", "user", name, "err", err)
		}
	}
	return by, nil
}

// welcome makes the user of a person who has not been here before.
func (s *Service) welcome(by fleet.Actor, name string) ([]store.Change, error) {
	users, err := s.store.Users()
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	if len(users) == 0 && by.Role != bus.Admin {
		return nil, job.Fail(job.Conflict, "borgfleet is not set up yet: it has no admin").
			WithHint("first an admin signs in, or opens the set-up link that the coordinator shows when it starts")
	}
	if err := s.checkCredentials(name, by.Role); err != nil {
		return nil, err
	}
	now := s.now()
	user := fleet.User{Name: name, Role: by.Role, CreatedAt: now, CreatedBy: by.Name, LastLogin: &now}
	return []store.Change{
		store.CreateUser(store.User{User: user}), s.audit(by, "user.add", "user/"+name, string(by.Role)+byProvider),
	}, nil
}

// takeOver brings a user up to date. Whoever was invited has come, by another
// way than the invitation: that ends, since it could give its holder a role
// that it was not made for.
func (s *Service) takeOver(by fleet.Actor, user store.User) (changes []store.Change, err error) {
	if user.LastLogin == nil {
		if changes, err = s.endLinks(user.Name); err != nil {
			return nil, err
		}
	}
	if user.Role != by.Role {
		another, err := s.changeRole(by, user, by.Role, byProvider)
		if err != nil {
			return nil, err
		}
		changes = append(changes, another...)
	}
	now := s.now()
	user.Role, user.LastLogin = by.Role, &now
	return append(changes, store.PutUser(user)), nil
}

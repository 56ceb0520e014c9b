package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Login checks a name and a password that came from an address. A wrong name, a
// wrong password and a user without one are told apart neither by the answer
// nor by its time: NotAuthenticated. Too many attempts are TooMany, before
// anything is computed.
func (s *Service) Login(ctx context.Context, from, name string, password secret.Value) (fleet.Actor, error) {
	s.flushDue()
	if checkName("name", name) != nil {
		name = "" // names that cannot be share their limits
	}
	user, found, err := s.store.User(name)
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("read user: %w", err)
	}
	if wait := s.limits.take(s.now(), from, name); wait > 0 {
		s.noteFailedLogin(from, name, found)
		return fleet.Actor{}, tooMany("there were too many attempts to sign in", seconds(wait))
	}
	good, stale, err := s.hasher.verify(ctx, user.PasswordHash, password)
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("check password: %w", err)
	}
	if !good {
		s.noteFailedLogin(from, name, found)
		return fleet.Actor{}, wrongPassword()
	}
	fresh := user.PasswordHash
	if stale {
		if fresh, err = s.hasher.hash(ctx, password); err != nil {
			return fleet.Actor{}, fmt.Errorf("renew password hash: %w", err)
		}
	}
	actor, err := s.signIn(from, user, fresh)
	if err == nil {
		s.limits.forgive(from, name)
	}
	return actor, err
}

func wrongPassword() error {
	return job.Fail(job.NotAuthenticated, "the name or the password is wrong").WithHint("an admin can make a link for a new password: borgfleet user link NAME")
}

// signIn stores that a user has given the right password, unless that has
// changed while it was checked.
func (s *Service) signIn(from string, checked store.User, fresh string) (fleet.Actor, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	user, found, err := s.store.User(checked.Name)
	if err != nil {
		return fleet.Actor{}, fmt.Errorf("read user: %w", err)
	}
	if !found || user.PasswordHash != checked.PasswordHash {
		return fleet.Actor{}, wrongPassword()
	}
	actor := fleet.Actor{Name: fleet.Person(user.Name), Role: user.Role, From: from}
	now := s.now()
	user.LastLogin, user.PasswordHash = &now, fresh
	if _, err := s.store.Apply(store.PutUser(user), s.audit(actor, "login", "user/"+user.Name, "")); err != nil {
		return fleet.Actor{}, fmt.Errorf("store login: %w", err)
	}
	s.logger.Info("signed in", "user", user.Name, "from", from)
	return actor, nil
}

// noteFailedLogin leaves the name out of the audit if it is no user's: people
// type their password there.
func (s *Service) noteFailedLogin(from, name string, found bool) {
	object := "user/" + name
	if !found {
		object = "unknown user"
	}
	s.record(s.failedLogins.note(s.now(), refusal{from: from, action: "login.failed"}, object))
}

// errNoUser tells of a user who is not there.
func errNoUser(name string) error {
	return job.Fail(job.NotFound, "there is no user %q", name).WithHint("borgfleet user list shows all")
}

// failure translates the store's refusals about an object into what its user
// reads.
func failure(err error, object string) error {
	switch {
	case errors.Is(err, store.ErrExists):
		return job.Fail(job.Conflict, "%s already exists", object).WithHint("choose another name, or remove the old one first")
	case errors.Is(err, store.ErrMissing):
		return job.Fail(job.NotFound, "there is no %s", object)
	default:
		return err
	}
}

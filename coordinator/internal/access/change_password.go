package access

import (
	"context"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// ChangePassword gives the person who asks another password, given the old one,
// and limits attempts as [Service.Login] does. It ends all that the old one has
// let in, and links for a new one: sessions and logins, also the one that this
// request came with. A page starts a new session for its reader at once.
func (s *Service) ChangePassword(ctx context.Context, by fleet.Actor, old, fresh secret.Value) error {
	s.flushDue()
	user, err := s.withPassword(by)
	if err != nil {
		return err
	}
	if err := checkPassword(user.Name, fresh); err != nil {
		return err
	}
	if wait := s.limits.take(s.now(), by.From, user.Name); wait > 0 {
		s.Refused(by, "user.password", "user/"+user.Name)
		return tooMany("there were too many attempts to give the password", seconds(wait))
	}
	good, _, err := s.hasher.verify(ctx, user.PasswordHash, old)
	if err != nil {
		return fmt.Errorf("check password: %w", err)
	}
	if !good {
		s.Refused(by, "user.password", "user/"+user.Name)
		return wrongOldPassword()
	}
	hash, err := s.hasher.hash(ctx, fresh)
	if err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	if err := s.replacePassword(by, user, hash); err != nil {
		return err
	}
	s.limits.forgive(by.From, user.Name)
	return nil
}

// withPassword returns the user who asks, who must have a password.
func (s *Service) withPassword(by fleet.Actor) (store.User, error) {
	name, person := fleet.UserOf(by.Name)
	if !person || by.Name == fleet.Local {
		return store.User{}, job.Fail(job.InvalidRequest, "%s is not a person, and has no password", by.Name).
			WithHint("sign in as the person whose password it is; an admin can make a link for a new one: borgfleet user link NAME")
	}
	user, err := s.user(name)
	if err == nil && !user.HasPassword {
		err = job.Fail(job.InvalidRequest, "%s has no password here", name).
			WithHint("who signs in with an identity provider changes the password there")
	}
	return user, err
}

func wrongOldPassword() error {
	return job.Invalid("old_password", "is wrong").WithHint("an admin can make a link for a new password: borgfleet user link NAME")
}

// replacePassword stores a new password, unless the old one has changed while
// it was checked.
func (s *Service) replacePassword(by fleet.Actor, checked store.User, hash string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	user, err := s.user(checked.Name)
	if err != nil {
		return err
	}
	if user.PasswordHash != checked.PasswordHash {
		return wrongOldPassword()
	}
	logins, err := s.endLogins(user.Name)
	if err != nil {
		return err
	}
	links, err := s.endLinks(user.Name)
	if err != nil {
		return err
	}
	user.PasswordHash = hash
	changes := append(append(logins, links...), store.PutUser(user), s.audit(by, "user.password", "user/"+user.Name, "by the old one"))
	if err := s.apply(changes...); err != nil {
		return fmt.Errorf("store password: %w", err)
	}
	s.logger.Info("password changed", "user", user.Name, "from", by.From)
	return nil
}

package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Lives of one-time links.
const (
	setupLife = 24 * time.Hour
	linkLife  = 72 * time.Hour
)

// SetupLink makes the one-time link with which the first admin is made, as long
// as there is no user; the one before it ends.
func (s *Service) SetupLink(context.Context) (token secret.Value, needed bool, err error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	users, err := s.store.Users()
	if err != nil {
		return secret.Value{}, false, fmt.Errorf("read users: %w", err)
	}
	if len(users) > 0 {
		return secret.Value{}, false, nil
	}
	token, _, changes, err := s.newLink("", bus.Admin, setupLife)
	if err != nil {
		return secret.Value{}, false, err
	}
	if _, err := s.store.Apply(changes...); err != nil {
		return secret.Value{}, false, fmt.Errorf("store set-up link: %w", err)
	}
	return token, true, nil
}

// newLink makes a link for a user, and the changes that store it in place of
// those that the user has, and of those that are over.
func (s *Service) newLink(user string, role bus.Role, life time.Duration) (secret.Value, time.Time, []store.Change, error) {
	changes, err := s.endLinks(user)
	token, hash := newToken("")
	expires := s.now().Add(life)
	return token, expires, append(changes, store.PutLink(store.Link{Hash: hash, User: user, Role: role, ExpiresAt: expires})), err
}

// endLinks removes a user's links, and those that are over.
func (s *Service) endLinks(user string) (changes []store.Change, err error) {
	links, err := s.store.Links()
	if err != nil {
		return nil, fmt.Errorf("read links: %w", err)
	}
	for _, link := range links {
		if link.User == user || !s.now().Before(link.ExpiresAt) {
			changes = append(changes, store.DeleteLink(link.Hash))
		}
	}
	return changes, nil
}

// LinkUser returns whom a link is for; an empty user chooses a name. A link
// that is spent, over or wrong is NotFound.
func (s *Service) LinkUser(_ context.Context, token string) (user string, role bus.Role, err error) {
	link, err := s.link(token)
	if err != nil || link.User == "" {
		return "", link.Role, err
	}
	invited, err := s.user(link.User) // the role may have changed since
	return link.User, invited.Role, err
}

func (s *Service) link(token string) (store.Link, error) {
	link, found, err := s.store.Link(hashOf(token))
	if err != nil {
		return store.Link{}, fmt.Errorf("read link: %w", err)
	}
	if !found || !s.now().Before(link.ExpiresAt) {
		return store.Link{}, job.Fail(job.NotFound, "this link was used already, or is over").
			WithHint("an admin makes a new one with borgfleet user link NAME; while there is no user, a restart of the coordinator does")
	}
	return link, nil
}

// UseLink spends a link and sets the password of whom it is for, which ends
// that user's sessions and logins, and counts as one. The name only matters when the link has
// none. Of two who use a link at once one gets a Conflict.
func (s *Service) UseLink(ctx context.Context, from, token, name string, password secret.Value) (fleet.User, error) {
	link, err := s.link(token)
	if err != nil {
		return fleet.User{}, err
	}
	if link.User != "" {
		name = link.User
	} else if err := checkName("name", name); err != nil {
		return fleet.User{}, err
	}
	if err := checkPassword(name, password); err != nil {
		return fleet.User{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return fleet.User{}, fmt.Errorf("hash password: %w", err)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	by := fleet.Actor{Name: fleet.Person(name), From: from}
	if link.User == "" {
		return s.setUp(by, link, name, hash)
	}
	return s.setPassword(by, link, hash)
}

// setUp makes the first user.
func (s *Service) setUp(by fleet.Actor, link store.Link, name, hash string) (fleet.User, error) {
	users, err := s.store.Users()
	if err != nil {
		return fleet.User{}, fmt.Errorf("read users: %w", err)
	}
	if len(users) > 0 {
		return fleet.User{}, job.Fail(job.Conflict, "the set-up was done already, by %s", users[0].Name).
			WithHint("sign in; if that was not one of you, stop the coordinator and look into its audit")
	}
	now := s.now()
	user := store.User{PasswordHash: hash, User: fleet.User{
		Name: name, Role: link.Role, CreatedAt: now, CreatedBy: by.Name, HasPassword: true, LastLogin: &now,
	}}
	if err := s.checkCredentials(name, link.Role); err != nil {
		return fleet.User{}, err
	}
	err = s.apply(store.DeleteLink(link.Hash), store.CreateUser(user), s.audit(by, "user.add", "user/"+name, string(link.Role)+", by the set-up link"))
	if err != nil {
		return fleet.User{}, spent(err)
	}
	s.logger.Info("first user set up", "user", name, "from", by.From)
	return user.User, nil
}

// setPassword gives a user the first, or another, password.
func (s *Service) setPassword(by fleet.Actor, link store.Link, hash string) (fleet.User, error) {
	user, err := s.user(link.User)
	if err != nil {
		return fleet.User{}, err
	}
	ends, err := s.endLogins(user.Name)
	if err != nil {
		return fleet.User{}, err
	}
	now := s.now()
	user.PasswordHash, user.HasPassword, user.LastLogin = hash, true, &now
	changes := append(ends, store.DeleteLink(link.Hash), store.PutUser(user), s.audit(by, "user.password", "user/"+user.Name, "by a one-time link"))
	if err := s.apply(changes...); err != nil {
		return fleet.User{}, spent(err)
	}
	s.logger.Info("password set", "user", user.Name, "from", by.From)
	return user.User, nil
}

// spent tells who came second that a link is gone.
func spent(err error) error {
	if errors.Is(err, store.ErrMissing) {
		return job.Fail(job.Conflict, "somebody has just used this link").
			WithHint("if that was not you, ask an admin to make a new one at once: it ends what the other has begun")
	}
	return fmt.Errorf("spend link: %w", err)
}

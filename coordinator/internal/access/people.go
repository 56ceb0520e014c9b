package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

// checkName checks the name of a user, an API token or credentials for the bus.
// "local" is the owner of the data directory.
func checkName(field, name string) error {
	switch {
	case !namePattern.MatchString(name):
		return job.Invalid(field, "%q cannot be a name", name).WithHint("1 to 32 of a-z, 0-9, dot, dash and underscore, beginning with a letter")
	case fleet.Person(name) == fleet.Local:
		return job.Invalid(field, "%q is reserved", name).WithHint("it is who owns the coordinator's data directory")
	}
	return nil
}

func checkRole(role bus.Role) error {
	if !slices.Contains(bus.Roles(), role) {
		return job.Invalid("role", "%q is no role", role).WithHint("viewer, operator or admin")
	}
	return nil
}

// Users returns every user by name.
func (s *Service) Users(context.Context) ([]fleet.User, error) {
	stored, err := s.store.Users()
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	users := make([]fleet.User, len(stored))
	for i, user := range stored {
		users[i] = user.User
	}
	return users, nil
}

// AddUser invites a user: the link, which works once until it expires, is where
// a password is chosen.
func (s *Service) AddUser(_ context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error) {
	if err := errors.Join(checkName("name", name), checkRole(role)); err != nil {
		return fleet.User{}, secret.Value{}, time.Time{}, job.AsFailure(err)
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.checkCredentials(name, role); err != nil {
		return fleet.User{}, secret.Value{}, time.Time{}, err
	}
	link, expires, changes, err := s.newLink(name, role, linkLife)
	if err != nil {
		return fleet.User{}, secret.Value{}, time.Time{}, err
	}
	user := fleet.User{Name: name, Role: role, CreatedAt: s.now(), CreatedBy: by.Name}
	changes = append(changes, store.CreateUser(store.User{User: user}), s.audit(by, "user.add", "user/"+name, string(role)))
	if err := s.apply(changes...); err != nil {
		return fleet.User{}, secret.Value{}, time.Time{}, failure(err, "user "+name)
	}
	s.logger.Info("user added", "user", name, "role", role, "by", by.Name)
	return user, link, expires, nil
}

// NewLink makes a link for a new password. The old password works until the
// link is used.
func (s *Service) NewLink(_ context.Context, by fleet.Actor, name string) (secret.Value, time.Time, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	user, err := s.user(name)
	if err != nil {
		return secret.Value{}, time.Time{}, err
	}
	link, expires, changes, err := s.newLink(name, user.Role, linkLife)
	if err != nil {
		return secret.Value{}, time.Time{}, err
	}
	if err := s.apply(append(changes, s.audit(by, "user.link", "user/"+name, ""))...); err != nil {
		return secret.Value{}, time.Time{}, fmt.Errorf("store link: %w", err)
	}
	return link, expires, nil
}

// SetRole changes what a user may do, at once. Credentials for the bus in the
// user's name that are worth more than the new role are revoked.
func (s *Service) SetRole(_ context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, error) {
	if err := checkRole(role); err != nil {
		return fleet.User{}, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	user, err := s.user(name)
	if err != nil {
		return fleet.User{}, err
	}
	if user.Role == role {
		return user.User, nil
	}
	if err := s.checkOtherAdmins(user); err != nil {
		return fleet.User{}, err
	}
	changes, err := s.changeRole(by, user, role, "")
	if err != nil {
		return fleet.User{}, err
	}
	user.Role = role
	if err := s.apply(append(changes, store.PutUser(user))...); err != nil {
		return fleet.User{}, failure(err, "user "+name)
	}
	s.logger.Info("role changed", "user", name, "role", role, "by", by.Name)
	return user.User, s.FinishRevocations()
}

// changeRole makes what goes along with another role of a user: its audit entry,
// and the end of credentials for the bus that are worth more.
func (s *Service) changeRole(by fleet.Actor, user store.User, role bus.Role, how string) ([]store.Change, error) {
	changes, err := s.revoke(by, func(c fleet.NATSCredentials) bool { return c.Name == user.Name && !role.Includes(c.Role) })
	return append(changes, s.audit(by, "user.role", "user/"+user.Name, fmt.Sprintf("%s, was %s%s", role, user.Role, how))), err
}

// RemoveUser removes a user, at once, with all that acts in that name: sessions,
// logins, links and credentials for the bus. API tokens stay.
func (s *Service) RemoveUser(_ context.Context, by fleet.Actor, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	user, err := s.user(name)
	if err != nil {
		return err
	}
	if err := s.checkOtherAdmins(user); err != nil {
		return err
	}
	logins, errLogins := s.endLogins(name)
	links, errLinks := s.endLinks(name)
	credentials, errRevoke := s.revoke(by, func(c fleet.NATSCredentials) bool { return c.Name == name })
	if err := errors.Join(errLogins, errLinks, errRevoke); err != nil {
		return err
	}
	changes := append(slices.Concat(logins, links, credentials), store.DeleteUser(name), s.audit(by, "user.remove", "user/"+name, string(user.Role)))
	if err := s.apply(changes...); err != nil {
		return failure(err, "user "+name)
	}
	s.logger.Info("user removed", "user", name, "by", by.Name)
	return s.FinishRevocations()
}

// user returns a user, or says that there is none.
func (s *Service) user(name string) (store.User, error) {
	user, found, err := s.store.User(name)
	if err != nil {
		return store.User{}, fmt.Errorf("read user: %w", err)
	}
	if !found {
		return store.User{}, errNoUser(name)
	}
	return user, nil
}

// checkOtherAdmins refuses to take away the last admin who can sign in: one who
// was invited may never come.
func (s *Service) checkOtherAdmins(user store.User) error {
	if user.Role != bus.Admin || !user.HasPassword {
		return nil
	}
	users, err := s.store.Users()
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	for _, other := range users {
		if other.Name != user.Name && other.Role == bus.Admin && other.HasPassword {
			return nil
		}
	}
	return job.Fail(job.Conflict, "%s is the last admin who can sign in", user.Name).
		WithHint("first make somebody else an admin, who must have chosen a password")
}

// endLogins removes a user's sessions and the tokens that login made.
func (s *Service) endLogins(name string) (changes []store.Change, err error) {
	sessions, err := s.store.Sessions()
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	for _, session := range sessions {
		if session.User == name {
			changes = append(changes, store.DeleteSession(session.Hash))
		}
	}
	tokens, err := s.store.APITokens()
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	for _, token := range tokens {
		if token.User == name {
			changes = append(changes, store.DeleteAPIToken(token.ID))
		}
	}
	return changes, nil
}

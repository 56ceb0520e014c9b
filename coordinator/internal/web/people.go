package web

import (
	"context"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// UserAdmin decides who may sign in. A link is a one-time token with which a
// person chooses a password. Faults are *job.Failure. Safe for concurrent use.
type UserAdmin interface {
	Users(ctx context.Context) ([]fleet.User, error)
	AddUser(ctx context.Context, by fleet.Actor, name string, role bus.Role) (user fleet.User, link secret.Value, expires time.Time, err error)
	SetRole(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, error)
	NewLink(ctx context.Context, by fleet.Actor, name string) (link secret.Value, expires time.Time, err error)
	RemoveUser(ctx context.Context, by fleet.Actor, name string) error
}

// TokenAdmin gives programs access over HTTP. Faults are *job.Failure. Safe for
// concurrent use.
type TokenAdmin interface {
	Tokens(ctx context.Context) ([]fleet.APIToken, error)
	AddToken(ctx context.Context, by fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error)
	RemoveToken(ctx context.Context, by fleet.Actor, id string) error
}

// CredentialAdmin gives programs and people access to the bus. Faults are
// *job.Failure. Safe for concurrent use.
type CredentialAdmin interface {
	Credentials(ctx context.Context) ([]fleet.NATSCredentials, error)
	MintCredentials(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error)
	RevokeCredentials(ctx context.Context, by fleet.Actor, name string) error
}

// grantForm gives somebody, or some program, a role.
type grantForm struct {
	Key    string
	Name   string
	Role   bus.Role
	Days   string // how long, where that is asked
	Faults []*job.Failure
}

// RoleChoices is the menu of roles.
func (f *grantForm) RoleChoices() []choice { return roleChoices(f.Role) }

// DaysChoices is the menu of lifetimes.
func (f *grantForm) DaysChoices() []choice {
	list := choices(f.Days, "", []string{"7", "30", "90", "365"})
	for i := range list {
		list[i].Label += " days"
	}
	return list
}

// Fault is what was wrong with a field.
func (f *grantForm) Fault(field string) *job.Failure { return faultOf(f.Faults, field) }

var roleMeanings = map[bus.Role]string{
	bus.Viewer: "viewer: reads", bus.Operator: "operator: also runs and cancels jobs", bus.Admin: "admin: also changes everything else",
}

// roleChoices is a menu of roles that says what each may do.
func roleChoices(chosen bus.Role) []choice {
	list := choices(chosen, "", bus.Roles())
	for i, c := range list {
		if meaning, known := roleMeanings[bus.Role(c.Value)]; known {
			list[i].Label = meaning
		}
	}
	return list
}

// peoplePage is the data of the page of all who have access.
type peoplePage struct {
	clock
	commands
	Users       []fleet.User
	Tokens      []fleet.APIToken
	Credentials []fleet.NATSCredentials
	Shown       *shown

	User, Token, Credential *grantForm
}

// Expired reports whether a token's time is over.
func (p *peoplePage) Expired(t fleet.APIToken) bool { return !p.now.Before(t.ExpiresAt) }

// peopleForms are what was sent to the page, as far as it was.
type peopleForms struct {
	User, Token, Credential *grantForm
	Shown                   *shown
}

// people builds the page of all who have access. sent is the form that could
// not be accepted, or the secret that one has made.
func (s *site) people(ctx context.Context, c commands, sent peopleForms) (*view, error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	page := &peoplePage{clock: s.moment(), commands: c, Shown: sent.Shown}
	var err error
	if page.Users, err = s.Users.Users(ctx); err != nil {
		return nil, wrap("users", err)
	}
	if page.Tokens, err = s.Tokens.Tokens(ctx); err != nil {
		return nil, wrap("tokens", err)
	}
	if page.Credentials, err = s.Credentials.Credentials(ctx); err != nil {
		return nil, wrap("credentials", err)
	}
	v := &view{Title: "People", Nav: "/people", Body: "people", Data: page, Address: "/people", Secret: sent.Shown != nil}
	page.User, page.Token, page.Credential = s.fresh(v, sent.User), s.fresh(v, sent.Token), s.fresh(v, sent.Credential)
	return v, nil
}

// fresh is a form as it was sent, with a new key, or an empty one.
func (s *site) fresh(v *view, sent *grantForm) *grantForm {
	if sent == nil {
		sent = &grantForm{Role: bus.Viewer, Days: "90"}
	}
	if len(sent.Faults) > 0 {
		v.Status = sent.Faults[0].Code.HTTPStatus()
	}
	sent.Key = newKey(s)
	return sent
}

// userPage is the data of one person's page.
type userPage struct {
	clock
	commands
	fleet.User
	Logins []fleet.APIToken // of the command line, elsewhere
	Key    string           // of the form for a new link
	Shown  *shown
	Fault  *job.Failure // why the last action was not done
}

// RoleChoices is the menu of roles.
func (p *userPage) RoleChoices() []choice { return roleChoices(p.Role) }

// userSent is what the last form on a person's page has led to.
type userSent struct {
	Fault *job.Failure
	Shown *shown
}

// user builds the page of one person.
func (s *site) user(ctx context.Context, name string, c commands, sent userSent) (*view, error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	user, err := s.findUser(ctx, name)
	if err != nil {
		return nil, err
	}
	page := &userPage{clock: s.moment(), commands: c, User: user, Key: newKey(s), Shown: sent.Shown, Fault: sent.Fault}
	tokens, err := s.Tokens.Tokens(ctx)
	if err != nil {
		return nil, wrap("tokens", err)
	}
	for _, t := range tokens {
		if t.User == name {
			page.Logins = append(page.Logins, t)
		}
	}
	v := &view{Title: name, Nav: "/people", Body: "user", Data: page, Address: userURL(name), Secret: sent.Shown != nil}
	if sent.Fault != nil {
		v.Status = sent.Fault.Code.HTTPStatus()
	}
	return v, nil
}

func (s *site) findUser(ctx context.Context, name string) (fleet.User, error) {
	users, err := s.Users.Users(ctx)
	if err != nil {
		return fleet.User{}, wrap("users", err)
	}
	for _, u := range users {
		if u.Name == name {
			return u, nil
		}
	}
	return fleet.User{}, job.Fail(job.NotFound, "there is no user %q", name).WithHint("See People.")
}

func userURL(name string) string { return "/people/users/" + url.PathEscape(name) }

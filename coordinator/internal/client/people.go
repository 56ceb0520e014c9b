package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// IssuedEnrolmentToken is a new enrolment token with what it is worth, which
// is told this once.
type IssuedEnrolmentToken struct {
	fleet.EnrolmentToken
	Token   secret.Value `json:"token"`
	URL     string       `json:"url"`     // of the bus
	Command string       `json:"command"` // one line, to be run on the host; holds the token
}

// EnrolmentToken makes a one-time token for a host's agent.
func (c *Client) EnrolmentToken(ctx context.Context, asked fleet.NewEnrolmentToken) (IssuedEnrolmentToken, error) {
	request := struct {
		Host    string `json:"host"`
		Expires int64  `json:"expires_seconds,omitempty"`
		Replace bool   `json:"replace,omitempty"`
	}{asked.Host, int64(asked.Lifetime / time.Second), asked.Replace}
	var issued IssuedEnrolmentToken
	return issued, c.call(ctx, http.MethodPost, "/enrolment-tokens", request, &issued)
}

// EnrolmentTokens returns the records of the enrolment tokens.
func (c *Client) EnrolmentTokens(ctx context.Context) ([]fleet.EnrolmentToken, error) {
	var answer struct {
		Tokens []fleet.EnrolmentToken `json:"tokens"`
	}
	err := c.call(ctx, http.MethodGet, "/enrolment-tokens", nil, &answer)
	return answer.Tokens, err
}

// RemoveEnrolmentToken ends an enrolment token.
func (c *Client) RemoveEnrolmentToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/enrolment-tokens/"+url.PathEscape(id), nil, nil)
}

// SetupLink is a one-time link with which a person chooses a password. It is
// told this once.
type SetupLink struct {
	SetupURL       string    `json:"setup_url"`
	SetupExpiresAt time.Time `json:"setup_expires_at"`
}

// AddedUser is a new person, with the link to hand over.
type AddedUser struct {
	fleet.User
	SetupLink
}

// Users returns the people who may sign in.
func (c *Client) Users(ctx context.Context) ([]fleet.User, error) {
	var answer struct {
		Users []fleet.User `json:"users"`
	}
	err := c.call(ctx, http.MethodGet, "/users", nil, &answer)
	return answer.Users, err
}

// AddUser invites a person.
func (c *Client) AddUser(ctx context.Context, name string, role bus.Role) (AddedUser, error) {
	var added AddedUser
	return added, c.call(ctx, http.MethodPost, "/users", namedRole{name, role}, &added)
}

// namedRole is a name with a role, as several requests carry it.
type namedRole struct {
	Name string   `json:"name"`
	Role bus.Role `json:"role"`
}

// SetRole gives a person another role.
func (c *Client) SetRole(ctx context.Context, name string, role bus.Role) (fleet.User, error) {
	request := struct {
		Role bus.Role `json:"role"`
	}{role}
	var changed fleet.User
	return changed, c.call(ctx, http.MethodPatch, "/users/"+url.PathEscape(name), request, &changed)
}

// NewUserLink makes a new link for a person, for example after a password was
// forgotten.
func (c *Client) NewUserLink(ctx context.Context, name string) (SetupLink, error) {
	var link SetupLink
	return link, c.call(ctx, http.MethodPost, "/users/"+url.PathEscape(name)+"/link", nil, &link)
}

// RemoveUser removes a person, with all sessions and logins.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/users/"+url.PathEscape(name), nil, nil)
}

// AddedToken is a new API token with what it is worth, which is told this once.
type AddedToken struct {
	fleet.APIToken
	Token secret.Value `json:"token"`
}

// Tokens returns the records of the API tokens.
func (c *Client) Tokens(ctx context.Context) ([]fleet.APIToken, error) {
	var answer struct {
		Tokens []fleet.APIToken `json:"tokens"`
	}
	err := c.call(ctx, http.MethodGet, "/tokens", nil, &answer)
	return answer.Tokens, err
}

// AddToken makes an API token that stands for itself.
func (c *Client) AddToken(ctx context.Context, asked fleet.NewAPIToken) (AddedToken, error) {
	request := struct {
		namedRole
		Expires int64 `json:"expires_seconds,omitempty"`
	}{namedRole{asked.Name, asked.Role}, int64(asked.Lifetime / time.Second)}
	var added AddedToken
	return added, c.call(ctx, http.MethodPost, "/tokens", request, &added)
}

// RemoveToken ends an API token.
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/tokens/"+url.PathEscape(id), nil, nil)
}

// MintedCredentials are new credentials for the bus, which are told this once.
type MintedCredentials struct {
	fleet.NATSCredentials
	Credentials secret.Value `json:"credentials"` // the text of a .creds file
}

// NATSCredentials returns the records of the credentials that were given out.
func (c *Client) NATSCredentials(ctx context.Context) ([]fleet.NATSCredentials, error) {
	var answer struct {
		Credentials []fleet.NATSCredentials `json:"credentials"`
	}
	err := c.call(ctx, http.MethodGet, "/nats-credentials", nil, &answer)
	return answer.Credentials, err
}

// MintNATSCredentials makes credentials for the bus.
func (c *Client) MintNATSCredentials(ctx context.Context, name string, role bus.Role) (MintedCredentials, error) {
	var minted MintedCredentials
	return minted, c.call(ctx, http.MethodPost, "/nats-credentials", namedRole{name, role}, &minted)
}

// RevokeNATSCredentials ends all credentials of a name.
func (c *Client) RevokeNATSCredentials(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/nats-credentials/"+url.PathEscape(name), nil, nil)
}

// Session is what signing in gives: a token that stands for the person.
type Session struct {
	Token     secret.Value `json:"token"`
	ExpiresAt time.Time    `json:"expires_at"`
	Name      string       `json:"name"` // for example operator:alice
	Role      bus.Role     `json:"role"`
}

// Login exchanges a person's password for a token, which is listed under
// tokenName.
func (c *Client) Login(ctx context.Context, name string, password secret.Value, tokenName string) (Session, error) {
	request := struct {
		Name      string `json:"name"`
		Password  string `json:"password"`
		TokenName string `json:"token_name"`
	}{name, string(password.Reveal()), tokenName}
	var session Session
	return session, c.call(ctx, http.MethodPost, "/login", request, &session)
}

// Logout ends the token that this client uses.
func (c *Client) Logout(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/logout", nil, nil)
}

// ChangePassword gives the person whom this client stands for another password.
// The client's own token ends with it.
func (c *Client) ChangePassword(ctx context.Context, old, fresh secret.Value) error {
	request := struct {
		Old string `json:"old_password"`
		New string `json:"new_password"`
	}{string(old.Reveal()), string(fresh.Reveal())}
	return c.call(ctx, http.MethodPost, "/password", request, nil)
}

// Identity is who the coordinator takes this client for.
type Identity struct {
	Name string   `json:"name"` // for example operator:alice, token:ci
	Role bus.Role `json:"role"`
	From string   `json:"from"` // for example http 10.0.0.7
}

// WhoAmI returns who the coordinator takes this client for.
func (c *Client) WhoAmI(ctx context.Context) (Identity, error) {
	var identity Identity
	return identity, c.call(ctx, http.MethodGet, "/whoami", nil, &identity)
}

// Audit returns one page of the audit, newest first.
func (c *Client) Audit(ctx context.Context, filter fleet.AuditFilter) (fleet.AuditPage, error) {
	query := url.Values{}
	for name, value := range map[string]string{"by": filter.By, "action": filter.Action, "object": filter.Object} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if filter.Before != 0 {
		query.Set("before", strconv.FormatUint(filter.Before, 10))
	}
	if filter.Limit != 0 {
		query.Set("limit", strconv.Itoa(filter.Limit))
	}
	var page fleet.AuditPage
	return page, c.call(ctx, http.MethodGet, "/audit?"+query.Encode(), nil, &page)
}

// VerifyAudit lets the coordinator check that no entry of the audit was changed
// or removed.
func (c *Client) VerifyAudit(ctx context.Context) (fleet.AuditProof, error) {
	var proof fleet.AuditProof
	return proof, c.call(ctx, http.MethodGet, "/audit/verify", nil, &proof)
}

// SealPassphrase gives more hosts, or anew, the passphrase of a repository
// whose custody is with the hosts.
func (c *Client) SealPassphrase(ctx context.Context, repository string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error) {
	request := struct {
		Sealed map[string]fleet.SealedPassphrase `json:"sealed"`
	}{sealed}
	var changed fleet.RepositoryView
	return changed, c.call(ctx, http.MethodPatch, "/repositories/"+url.PathEscape(repository), request, &changed)
}

// MoveRepository says where a repository is now.
func (c *Client) MoveRepository(ctx context.Context, repository, location string) (fleet.RepositoryView, error) {
	request := struct {
		Location string `json:"location"`
	}{location}
	var changed fleet.RepositoryView
	return changed, c.call(ctx, http.MethodPatch, "/repositories/"+url.PathEscape(repository), request, &changed)
}

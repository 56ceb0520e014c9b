package httpapi_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Tokens that the door knows from the start.
const (
	adminToken  = "token-of-an-admin"
	viewerToken = "token-of-a-viewer"
)

// door lets in, and keeps people, tokens and credentials in memory: it does
// what the real services promise at this edge, and no more. A method that wants
// an admin refuses everybody else, as package gate does.
type door struct {
	mu          sync.Mutex
	actors      map[string]fleet.Actor // by bearer token
	users       []fleet.User
	tokens      []fleet.APIToken
	credentials []fleet.NATSCredentials
	enrolments  []fleet.EnrolmentToken
	entries     []fleet.AuditEntry
	filter      fleet.AuditFilter
	lifetime    time.Duration
	attempts    []string // who tried to sign in, from where
	changed     chan struct{}
}

func newDoor() *door {
	return &door{changed: make(chan struct{}), actors: map[string]fleet.Actor{
		adminToken:  {Name: fleet.Local, Role: bus.Admin},
		viewerToken: {Name: "token:ci", Role: bus.Viewer},
	}}
}

func bearerOf(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

func (d *door) Authenticate(r *http.Request) (fleet.Actor, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	token := bearerOf(r)
	if cookie, err := r.Cookie("session"); token == "" && err == nil {
		actor, known := d.actors[cookie.Value]
		return actor, known, nil // one that is over is none
	}
	if token == "" {
		return fleet.Actor{}, false, nil
	}
	actor, known := d.actors[token]
	if !known {
		return fleet.Actor{}, false, job.Fail(job.NotAuthenticated, "the token is wrong").WithHint("make another")
	}
	return actor, true, nil
}

func (d *door) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// shut ends a token.
func (d *door) shut(token string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.actors, token)
	close(d.changed)
	d.changed = make(chan struct{})
}

func needs(role bus.Role, by fleet.Actor) error {
	if by.Role.Includes(role) {
		return nil
	}
	return job.Fail(job.NotAllowed, "this needs the role %s", role).WithHint("ask somebody who has it")
}

const goodPassword = "correct horse"

func (d *door) Login(_ context.Context, from, name string, password secret.Value) (fleet.Actor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attempts = append(d.attempts, name+" "+from)
	if len(d.attempts) > 3 {
		return fleet.Actor{}, job.Fail(job.TooMany, "too many attempts").WithHint("wait")
	}
	if !password.Equal(secret.FromString(goodPassword)) {
		return fleet.Actor{}, job.Fail(job.NotAuthenticated, "the name or the password is wrong")
	}
	return fleet.Actor{Name: "operator:" + name, Role: bus.Operator, From: from}, nil
}

func (d *door) LoginToken(_ context.Context, actor fleet.Actor, name string) (fleet.APIToken, secret.Value, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	record := fleet.APIToken{ID: "login-1", Name: name, User: strings.TrimPrefix(actor.Name, "operator:"), Role: actor.Role, ExpiresAt: exampleDay.AddDate(0, 0, 30)}
	d.tokens = append(d.tokens, record)
	d.actors["secret-of-login-1"] = actor
	return record, secret.FromString("secret-of-login-1"), nil
}

func (d *door) ChangePassword(_ context.Context, by fleet.Actor, old, fresh secret.Value) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !old.Equal(secret.FromString(goodPassword)) {
		return job.Invalid("old_password", "is wrong")
	}
	d.attempts = append(d.attempts, by.Name+" chose "+string(fresh.Reveal()))
	return nil
}

func (d *door) EndSession(_ http.ResponseWriter, r *http.Request) error {
	if bearerOf(r) == adminToken {
		return job.Fail(job.InvalidRequest, "this token was not made by a login")
	}
	d.shut(bearerOf(r))
	return nil
}

var exampleDay = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

func (d *door) Users(ctx context.Context) ([]fleet.User, error) {
	return slices.Clone(d.users), needs(bus.Admin, fleet.ActorOf(ctx))
}

func (d *door) user(by fleet.Actor, name string) (*fleet.User, error) {
	if err := needs(bus.Admin, by); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(d.users, func(u fleet.User) bool { return u.Name == name })
	if i < 0 {
		return nil, job.Fail(job.NotFound, "there is no user %q", name)
	}
	return &d.users[i], nil
}

func (d *door) AddUser(_ context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error) {
	if err := needs(bus.Admin, by); err != nil {
		return fleet.User{}, secret.Value{}, time.Time{}, err
	}
	user := fleet.User{Name: name, Role: role, CreatedAt: exampleDay, CreatedBy: by.Name}
	d.users = append(d.users, user)
	return user, secret.FromString("secret-link"), exampleDay.AddDate(0, 0, 1), nil
}

func (d *door) SetRole(_ context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, error) {
	user, err := d.user(by, name)
	if err != nil {
		return fleet.User{}, err
	}
	user.Role = role
	return *user, nil
}

func (d *door) NewLink(_ context.Context, by fleet.Actor, name string) (secret.Value, time.Time, error) {
	_, err := d.user(by, name)
	return secret.FromString("secret-link-2"), exampleDay.AddDate(0, 0, 1), err
}

func (d *door) RemoveUser(_ context.Context, by fleet.Actor, name string) error {
	if _, err := d.user(by, name); err != nil {
		return err
	}
	d.users = slices.DeleteFunc(d.users, func(u fleet.User) bool { return u.Name == name })
	return nil
}

func (d *door) Tokens(ctx context.Context) ([]fleet.APIToken, error) {
	return slices.Clone(d.tokens), needs(bus.Admin, fleet.ActorOf(ctx))
}

func (d *door) AddToken(_ context.Context, by fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error) {
	if err := needs(bus.Admin, by); err != nil {
		return fleet.APIToken{}, secret.Value{}, err
	}
	d.lifetime = asked.Lifetime
	token := fleet.APIToken{ID: "t1", Name: asked.Name, Role: asked.Role, CreatedAt: exampleDay, CreatedBy: by.Name, ExpiresAt: exampleDay.Add(asked.Lifetime)}
	d.tokens = append(d.tokens, token)
	return token, secret.FromString("secret-of-t1"), nil
}

func (d *door) RemoveToken(_ context.Context, by fleet.Actor, id string) error {
	if err := needs(bus.Admin, by); err != nil {
		return err
	}
	before := len(d.tokens)
	if d.tokens = slices.DeleteFunc(d.tokens, func(t fleet.APIToken) bool { return t.ID == id }); len(d.tokens) == before {
		return job.Fail(job.NotFound, "there is no token %q", id)
	}
	return nil
}

func (d *door) Credentials(ctx context.Context) ([]fleet.NATSCredentials, error) {
	return slices.Clone(d.credentials), needs(bus.Admin, fleet.ActorOf(ctx))
}

func (d *door) MintCredentials(_ context.Context, by fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error) {
	if err := needs(bus.Admin, by); err != nil {
		return fleet.NATSCredentials{}, secret.Value{}, err
	}
	record := fleet.NATSCredentials{Name: name, Role: role, PublicKey: "UABC", CreatedAt: exampleDay, CreatedBy: by.Name}
	d.credentials = append(d.credentials, record)
	return record, secret.FromString("secret-seed\nof " + name), nil
}

func (d *door) RevokeCredentials(_ context.Context, by fleet.Actor, name string) error {
	if err := needs(bus.Admin, by); err != nil {
		return err
	}
	for i := range d.credentials {
		if d.credentials[i].Name == name {
			d.credentials[i].RevokedAt = &exampleDay
			return nil
		}
	}
	return job.Fail(job.NotFound, "there are no credentials of %q", name)
}

func (d *door) EnrolmentToken(_ context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	if err := needs(bus.Admin, by); err != nil {
		return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, err
	}
	d.lifetime = asked.Lifetime
	record := fleet.EnrolmentToken{ID: "e1", Host: asked.Host, Replace: asked.Replace, CreatedAt: exampleDay, CreatedBy: by.Name, ExpiresAt: exampleDay.Add(asked.Lifetime)}
	d.enrolments = append(d.enrolments, record)
	return record, fleet.EnrolmentCommand{Token: secret.FromString("secret-enrolment"), URL: "tls://127.0.0.1:4222", Command: "enroll --token secret-enrolment"}, nil
}

func (d *door) EnrolmentTokens(ctx context.Context) ([]fleet.EnrolmentToken, error) {
	return slices.Clone(d.enrolments), needs(bus.Admin, fleet.ActorOf(ctx))
}

func (d *door) RemoveEnrolmentToken(_ context.Context, by fleet.Actor, id string) error {
	if err := needs(bus.Admin, by); err != nil {
		return err
	}
	before := len(d.enrolments)
	if d.enrolments = slices.DeleteFunc(d.enrolments, func(t fleet.EnrolmentToken) bool { return t.ID == id }); len(d.enrolments) == before {
		return job.Fail(job.NotFound, "there is no token %q", id)
	}
	return nil
}

func (d *door) Audit(ctx context.Context, filter fleet.AuditFilter) (fleet.AuditPage, error) {
	d.filter = filter
	return fleet.AuditPage{Entries: d.entries, Before: 7}, needs(bus.Admin, fleet.ActorOf(ctx))
}

func (d *door) VerifyAudit(ctx context.Context) (fleet.AuditProof, error) {
	return fleet.AuditProof{Entries: 7, Head: "abc", Intact: true, Message: "fine"}, needs(bus.Admin, fleet.ActorOf(ctx))
}

package client_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// What the fakes give out.
var (
	day        = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	user       = fleet.User{Name: "bob", Role: bus.Operator, CreatedAt: day, CreatedBy: "operator:alice", HasPassword: true, LastLogin: &day}
	token      = fleet.APIToken{ID: "t1", Name: "ci", Role: bus.Viewer, CreatedAt: day, ExpiresAt: day}
	credential = fleet.NATSCredentials{Name: "bob", Role: bus.Admin, PublicKey: "UABC", CreatedAt: day}
	enrolment  = fleet.EnrolmentToken{ID: "e1", Host: "web1", Replace: true, CreatedAt: day, ExpiresAt: day}
	entry      = fleet.AuditEntry{Number: 6, At: day, By: "operator:alice", Action: "host.add", Outcome: "done", Hash: "ab"}
	sealed     = map[string]fleet.SealedPassphrase{"web1": {Sealed: secret.Sealed{Sender: "X", Ciphertext: []byte{0, 255}}, SealKey: "Y"}}
)

func (b *backend) Authenticate(r *http.Request) (fleet.Actor, bool, error) {
	if r.Header.Get("Authorization") == "Bearer wrong" {
		return fleet.Actor{}, false, job.Fail(job.NotAuthenticated, "the token is wrong").WithHint("borgfleet login")
	}
	return fleet.Actor{Name: "token:test", Role: bus.Admin}, true, nil
}

func (b *backend) Changed() <-chan struct{} { return nil }

func (b *backend) Login(_ context.Context, from, name string, password secret.Value) (fleet.Actor, error) {
	b.called("login " + name + " " + string(password.Reveal()) + " " + from)
	return fleet.Actor{Name: "operator:" + name, Role: bus.Operator}, nil
}

func (b *backend) LoginToken(_ context.Context, _ fleet.Actor, name string) (fleet.APIToken, secret.Value, error) {
	b.called("token " + name)
	return token, secret.FromString("worth"), nil
}

func (b *backend) ChangePassword(_ context.Context, by fleet.Actor, old, fresh secret.Value) error {
	b.called("password of " + by.Name + " from " + string(old.Reveal()) + " to " + string(fresh.Reveal()))
	return nil
}

func (b *backend) EndSession(http.ResponseWriter, *http.Request) error {
	b.called("logout")
	return nil
}

func (b *backend) Users(context.Context) ([]fleet.User, error) { return []fleet.User{user}, nil }

func (b *backend) AddUser(_ context.Context, _ fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error) {
	b.called("add user " + name + " " + string(role))
	return user, secret.FromString("link"), day, nil
}

func (b *backend) SetRole(_ context.Context, _ fleet.Actor, name string, role bus.Role) (fleet.User, error) {
	b.called("role " + name + " " + string(role))
	return user, nil
}

func (b *backend) NewLink(_ context.Context, _ fleet.Actor, name string) (secret.Value, time.Time, error) {
	b.called("link " + name)
	return secret.FromString("link2"), day, nil
}

func (b *backend) RemoveUser(_ context.Context, _ fleet.Actor, name string) error {
	b.called("remove user " + name)
	return nil
}

func (b *backend) Tokens(context.Context) ([]fleet.APIToken, error) {
	return []fleet.APIToken{token}, nil
}

func (b *backend) AddToken(_ context.Context, _ fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error) {
	b.called("add token " + asked.Name + " " + string(asked.Role) + " " + asked.Lifetime.String())
	return token, secret.FromString("worth"), nil
}

func (b *backend) RemoveToken(_ context.Context, _ fleet.Actor, id string) error {
	b.called("remove token " + id)
	return nil
}

func (b *backend) Credentials(context.Context) ([]fleet.NATSCredentials, error) {
	return []fleet.NATSCredentials{credential}, nil
}

func (b *backend) MintCredentials(_ context.Context, _ fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error) {
	b.called("mint " + name + " " + string(role))
	return credential, secret.FromString("creds"), nil
}

func (b *backend) RevokeCredentials(_ context.Context, _ fleet.Actor, name string) error {
	b.called("revoke " + name)
	return nil
}

func (b *backend) EnrolmentToken(_ context.Context, _ fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	b.called("enrol " + asked.Host + " " + asked.Lifetime.String())
	return enrolment, fleet.EnrolmentCommand{Token: secret.FromString("worth"), URL: "tls://x", Command: "enroll"}, nil
}

func (b *backend) EnrolmentTokens(context.Context) ([]fleet.EnrolmentToken, error) {
	return []fleet.EnrolmentToken{enrolment}, nil
}

func (b *backend) RemoveEnrolmentToken(_ context.Context, _ fleet.Actor, id string) error {
	b.called("remove enrolment " + id)
	return nil
}

func (b *backend) Audit(_ context.Context, filter fleet.AuditFilter) (fleet.AuditPage, error) {
	b.audit = filter
	return fleet.AuditPage{Entries: []fleet.AuditEntry{entry}, Before: 6}, nil
}

func (b *backend) VerifyAudit(context.Context) (fleet.AuditProof, error) {
	return fleet.AuditProof{Entries: 6, Head: "ab", Intact: true}, nil
}

func (b *backend) SealPassphrase(_ context.Context, _ fleet.Actor, name string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error) {
	b.sealed = sealed
	return repository(name), nil
}

func (b *backend) MoveRepository(_ context.Context, _ fleet.Actor, name, location string) (fleet.RepositoryView, error) {
	moved := repository(name)
	moved.Location = location
	return moved, nil
}

// same checks what a call brought.
func same[T any](t *testing.T, what string, want T) func(T, error) {
	return func(got T, err error) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmp.Comparer(secret.Value.Equal)); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", what, err, diff)
		}
	}
}

func TestIdentities(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	ctx := t.Context()
	worth := secret.FromString("worth")
	link := func(token string) client.SetupLink {
		return client.SetupLink{SetupURL: "https://backup.example.net/setup/" + token, SetupExpiresAt: day}
	}
	same(t, "Users", []fleet.User{user})(c.Users(ctx))
	same(t, "AddUser", client.AddedUser{User: user, SetupLink: link("link")})(c.AddUser(ctx, "bob", bus.Operator))
	same(t, "SetRole", user)(c.SetRole(ctx, "b/b", bus.Admin))
	same(t, "NewUserLink", link("link2"))(c.NewUserLink(ctx, "bob"))
	same(t, "Tokens", []fleet.APIToken{token})(c.Tokens(ctx))
	same(t, "AddToken", client.AddedToken{APIToken: token, Token: worth})(c.AddToken(ctx, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: time.Hour}))
	same(t, "NATSCredentials", []fleet.NATSCredentials{credential})(c.NATSCredentials(ctx))
	same(t, "MintNATSCredentials", client.MintedCredentials{NATSCredentials: credential, Credentials: secret.FromString("creds")})(c.MintNATSCredentials(ctx, "bob", bus.Admin))
	same(t, "EnrolmentToken", client.IssuedEnrolmentToken{EnrolmentToken: enrolment, Token: worth, URL: "tls://x", Command: "enroll"})(
		c.EnrolmentToken(ctx, fleet.NewEnrolmentToken{Host: "web1", Lifetime: 90 * time.Second, Replace: true}))
	same(t, "EnrolmentTokens", []fleet.EnrolmentToken{enrolment})(c.EnrolmentTokens(ctx))
	same(t, "Login", client.Session{Token: worth, ExpiresAt: day, Name: "operator:bob", Role: bus.Operator})(c.Login(ctx, "bob", secret.FromString("hunter2"), "laptop"))
	same(t, "WhoAmI", client.Identity{Name: "token:test", Role: bus.Admin, From: "http 127.0.0.1"})(c.WhoAmI(ctx))
	same(t, "VerifyAudit", fleet.AuditProof{Entries: 6, Head: "ab", Intact: true})(c.VerifyAudit(ctx))
	for what, call := range map[string]func() error{
		"RemoveUser":            func() error { return c.RemoveUser(ctx, "bob") },
		"RemoveToken":           func() error { return c.RemoveToken(ctx, "t1") },
		"RevokeNATSCredentials": func() error { return c.RevokeNATSCredentials(ctx, "bob") },
		"RemoveEnrolmentToken":  func() error { return c.RemoveEnrolmentToken(ctx, "e1") },
		"Logout":                func() error { return c.Logout(ctx) },
		"ChangePassword": func() error {
			return c.ChangePassword(ctx, secret.FromString("hunter2"), secret.FromString("hunter3"))
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	slices.Sort(b.calls)
	want := []string{
		"add token ci viewer 1h0m0s", "add user bob operator", "enrol web1 1m30s", "link bob", "login bob hunter2 http 127.0.0.1",
		"logout", "mint bob admin", "password of token:test from hunter2 to hunter3", "remove enrolment e1", "remove token t1", "remove user bob", "revoke bob", "role b/b admin", "token laptop",
	}
	if diff := cmp.Diff(want, b.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestAuditFilterTravels(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	filter := fleet.AuditFilter{By: "operator:alice", Action: "borg.", Object: "host/web1", Before: 7, Limit: 3}
	same(t, "Audit", fleet.AuditPage{Entries: []fleet.AuditEntry{entry}, Before: 6})(c.Audit(t.Context(), filter))
	if diff := cmp.Diff(filter, b.audit); diff != "" {
		t.Errorf("filter (-sent +came):\n%s", diff)
	}
}

func TestSealedPassphrasesTravelUnchanged(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	if _, err := c.AddRepository(t.Context(), fleet.NewRepository{Name: "r", Location: "/r", Custody: fleet.CustodyHosts, Sealed: sealed}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sealed, b.repository.Sealed); diff != "" || b.repository.Custody != fleet.CustodyHosts {
		t.Errorf("new repository, custody %q (-sent +came):\n%s", b.repository.Custody, diff)
	}
	if view, err := c.SealPassphrase(t.Context(), "r", sealed); err != nil || view.Name != "r" {
		t.Errorf("%+v, %v", view, err)
	}
	if diff := cmp.Diff(sealed, b.sealed); diff != "" {
		t.Errorf("change (-sent +came):\n%s", diff)
	}
	if view, err := c.MoveRepository(t.Context(), "r", "/new"); err != nil || view.Name != "r" || view.Location != "/new" {
		t.Errorf("moved: %+v, %v", view, err)
	}
}

func TestWrongTokenIsARefusal(t *testing.T) {
	c, err := client.New(client.Options{URL: serveOver(t, newBackend()), Token: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.WhoAmI(t.Context())
	want := &job.Failure{Code: job.NotAuthenticated, Message: "the token is wrong", Hint: "borgfleet login"}
	failure, ok := errors.AsType[*job.Failure](err)
	if diff := cmp.Diff(want, failure); !ok || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, err := range c.Events(t.Context(), client.EventFilter{}) {
		if failure, ok := errors.AsType[*job.Failure](err); !ok || failure.Code != job.NotAuthenticated {
			t.Errorf("events: %v", err)
		}
	}
}

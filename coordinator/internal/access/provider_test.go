package access_test

import (
	"errors"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const from = "http 10.0.0.7"

// provided signs somebody in as the identity provider does.
func (w *world) provided(t testing.TB, name string, role bus.Role) {
	t.Helper()
	actor, err := w.SignIn(t.Context(), from, name, role)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "actor", fleet.Actor{Name: fleet.Person(name), Role: role, From: from}, actor)
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.provided(t, "bob", bus.Operator)
	session := w.signIn(t, "bob")
	if _, _, err := w.MintCredentials(t.Context(), root, "bob", bus.Operator); err != nil {
		t.Fatal(err)
	}
	changed := w.Changed()
	w.advance(time.Minute)
	w.provided(t, "bob", bus.Operator)
	w.wantActor(t, "as before", session, "operator:bob", bus.Operator)
	w.provided(t, "bob", bus.Viewer)
	w.wantActor(t, "demoted", session, "operator:bob", bus.Viewer)
	same(t, "revoked on the bus", []string{"U1"}, w.bus.revoked)
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	users, err := w.Users(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := start.Add(time.Minute)
	same(t, "user", fleet.User{Name: "bob", Role: bus.Viewer, CreatedAt: start, CreatedBy: "operator:bob", LastLogin: &seen}, users[1])
	login := "operator:bob login user/bob done by the identity provider"
	same(t, "audit of logins", []string{login, login, login}, w.audit(t, "login"))
	same(t, "audit of the user", []string{
		"operator:bob user.add user/bob done operator, by the identity provider",
		"operator:bob user.role user/bob done viewer, was operator, by the identity provider",
	}, w.audit(t, "user.")[2:])
	_, err = w.Login(t.Context(), from, "bob", secret.Value{})
	wantFailure(t, err, job.NotAuthenticated)
}

func TestSignInRefuses(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Viewer)
	if _, _, err := w.MintCredentials(t.Context(), root, "grafana", bus.Admin); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		name string
		role bus.Role
		code job.Code
	}{
		"a user with a password":      {"alice", bus.Admin, job.NotAllowed},
		"bad name":                    {"Bob Smith", bus.Admin, job.InvalidRequest},
		"reserved name":               {"local", bus.Admin, job.InvalidRequest},
		"no role":                     {"bob", "", job.InvalidRequest},
		"unknown role":                {"bob", "root", job.InvalidRequest},
		"credentials that are better": {"grafana", bus.Operator, job.Conflict},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := w.SignIn(t.Context(), from, test.name, test.role)
			wantFailure(t, err, test.code)
		})
	}
	users, err := w.Users(t.Context())
	if err != nil || len(users) != 1 || users[0].Role != bus.Viewer || !users[0].LastLogin.Equal(start) {
		t.Errorf("users %+v, %v; want alice as she was", users, err)
	}
	if entries := w.audit(t, "login.failed"); len(entries) != 1 { // the others are counted
		t.Errorf("audit %q", entries)
	}
}

// TestTheFirstByTheProvider must be somebody who can go on.
func TestTheFirstByTheProvider(t *testing.T) {
	w := newWorld(t)
	link, _, err := w.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.SignIn(t.Context(), from, "bob", bus.Operator)
	wantFailure(t, err, job.Conflict)
	w.provided(t, "alice", bus.Admin)
	_, err = w.UseLink(t.Context(), from, text(link), "mallory", good)
	wantFailure(t, err, job.Conflict)
	w.provided(t, "bob", bus.Operator)
	w.provided(t, "alice", bus.Viewer) // the rule of the last admin is for users with a password
}

// TestTheProviderBringsWhoWasInvited: then the invitation is worth nothing.
func TestTheProviderBringsWhoWasInvited(t *testing.T) {
	w := newWorld(t)
	_, invitation, _, err := w.AddUser(t.Context(), root, "bob", bus.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	w.provided(t, "bob", bus.Admin)
	_, err = w.UseLink(t.Context(), from, text(invitation), "", good)
	wantFailure(t, err, job.NotFound)

	link, _, err := w.NewLink(t.Context(), root, "bob") // an admin may make the user local
	if err != nil {
		t.Fatal(err)
	}
	w.provided(t, "bob", bus.Admin)
	if _, err := w.UseLink(t.Context(), from, text(link), "", good); err != nil {
		t.Fatal(err)
	}
	_, err = w.SignIn(t.Context(), from, "bob", bus.Admin)
	wantFailure(t, err, job.NotAllowed)
}

func TestSignInWhenTheBusIsNotThere(t *testing.T) {
	w := newWorld(t)
	w.provided(t, "alice", bus.Admin)
	if _, _, err := w.MintCredentials(t.Context(), root, "alice", bus.Admin); err != nil {
		t.Fatal(err)
	}
	w.bus.err = errors.New("no route to host")
	w.provided(t, "alice", bus.Viewer)
	w.bus.err = nil
	if err := w.FinishRevocations(); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked on the bus", []string{"U1"}, w.bus.revoked)
}

package access_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestAddUserRefuses(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	for name, test := range map[string]struct {
		user string
		role bus.Role
		code job.Code
	}{
		"taken":    {"alice", bus.Viewer, job.Conflict},
		"bad name": {"Alice", bus.Viewer, job.InvalidRequest},
		"reserved": {"local", bus.Viewer, job.InvalidRequest},
		"no role":  {"bob", "", job.InvalidRequest},
		"bad role": {"bob", "root", job.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			_, link, _, err := w.AddUser(t.Context(), root, test.user, test.role)
			wantFailure(t, err, test.code)
			if !link.Empty() {
				t.Error("a link was made")
			}
		})
	}
	links, err := w.store.Links()
	if err != nil || len(links) != 0 {
		t.Errorf("links %v, %v", links, err)
	}
}

func TestRolesActAtOnce(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Admin)
	session, login := w.signIn(t, "bob"), w.login(t, "bob")
	for _, role := range []bus.Role{bus.Viewer, bus.Operator, bus.Operator} {
		user, err := w.SetRole(t.Context(), root, "bob", role)
		if err != nil || user.Role != role {
			t.Fatalf("SetRole = %+v, %v", user, err)
		}
		w.wantActor(t, "session", session, "operator:bob", role)
		w.wantActor(t, "login", login, "operator:bob", role)
		tokens, err := w.Tokens(t.Context())
		if err != nil || tokens[0].Role != role {
			t.Errorf("the token is shown as %+v, %v", tokens, err)
		}
	}
	same(t, "audit", []string{
		"operator:root user.role user/bob done viewer, was admin", "operator:root user.role user/bob done operator, was viewer",
	}, w.audit(t, "user.role"))
	_, err := w.SetRole(t.Context(), root, "nobody", bus.Admin)
	wantFailure(t, err, job.NotFound)
	_, err = w.SetRole(t.Context(), root, "bob", "root")
	wantFailure(t, err, job.InvalidRequest)
}

func TestTheLastAdminStays(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "vera", bus.Viewer)
	if _, _, _, err := w.AddUser(t.Context(), root, "bob", bus.Admin); err != nil { // may never come
		t.Fatal(err)
	}
	alice := fleet.Actor{Name: "operator:alice", Role: bus.Admin}
	wantFailure(t, w.RemoveUser(t.Context(), alice, "alice"), job.Conflict)
	_, err := w.SetRole(t.Context(), alice, "alice", bus.Operator)
	wantFailure(t, err, job.Conflict)
	if err := w.RemoveUser(t.Context(), alice, "bob"); err != nil { // who was not able to sign in
		t.Errorf("remove an invited admin: %v", err)
	}
	w.user(t, "carol", bus.Admin)
	if err := w.RemoveUser(t.Context(), alice, "alice"); err != nil {
		t.Errorf("remove oneself: %v", err)
	}
	wantFailure(t, w.RemoveUser(t.Context(), alice, "carol"), job.Conflict)
	if err := w.RemoveUser(t.Context(), alice, "vera"); err != nil {
		t.Errorf("remove a viewer: %v", err)
	}
}

// TestRemoveUser takes everything that acts in that name, and nothing else; who
// comes later under the same name gets nothing of it.
func TestRemoveUser(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Operator)
	session, login, other := w.signIn(t, "bob"), w.login(t, "bob"), w.signIn(t, "alice")
	bob := fleet.Actor{Name: "operator:bob", Role: bus.Operator}
	_, ci, err := w.AddToken(t.Context(), bob, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.MintCredentials(t.Context(), root, "bob", bus.Viewer); err != nil {
		t.Fatal(err)
	}
	link, _, err := w.NewLink(t.Context(), root, "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveUser(t.Context(), root, "bob"); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		w.wantActor(t, when+", the session", session, "", "")
		_, _, err = w.Authenticate(login)
		wantFailure(t, err, job.NotAuthenticated)
		_, err = w.UseLink(t.Context(), "", text(link), "", good)
		wantFailure(t, err, job.NotFound)
		w.wantActor(t, when+", another's session", other, "operator:alice", bus.Admin)
		w.wantActor(t, when+", the token that stands for itself", request(text(ci)), "token:ci", bus.Viewer)
	}
	check("removed")
	same(t, "revoked on the bus", []string{"U1"}, w.bus.revoked)
	_, err = w.Login(t.Context(), root.From, "bob", good)
	wantFailure(t, err, job.NotAuthenticated)
	wantFailure(t, w.RemoveUser(t.Context(), root, "bob"), job.NotFound)
	w.user(t, "bob", bus.Admin)
	check("made again")
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	record, token, err := w.AddToken(t.Context(), root, fleet.NewAPIToken{Name: "ci", Role: bus.Operator, Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "record", fleet.APIToken{
		ID: record.ID, Name: "ci", Role: bus.Operator, CreatedAt: start, CreatedBy: "operator:root", ExpiresAt: start.Add(24 * time.Hour),
	}, record)
	if !strings.HasPrefix(text(token), "bft_") || len(text(token)) != 47 || len(record.ID) != 16 {
		t.Errorf("token of %d bytes with the id %q", len(text(token)), record.ID)
	}
	w.wantActor(t, "with the token", request(text(token)), "token:ci", bus.Operator)
	lower := request(text(token))
	lower.Header.Set("Authorization", "bearer "+text(token))
	w.wantActor(t, "the scheme in small letters", lower, "token:ci", bus.Operator)

	_, _, err = w.AddToken(t.Context(), root, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: time.Hour})
	wantFailure(t, err, job.Conflict)
	w.advance(24*time.Hour - time.Second)
	w.wantActor(t, "a second before its end", request(text(token)), "token:ci", bus.Operator)
	w.advance(time.Second)
	_, known, err := w.Authenticate(request(text(token)))
	wantFailure(t, err, job.NotAuthenticated)
	if known {
		t.Error("a token that is over is known")
	}
	_, next, err := w.AddToken(t.Context(), root, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: 10 * 24 * time.Hour})
	if err != nil {
		t.Fatalf("the name of a token that is over: %v", err)
	}
	w.wantActor(t, "the next", request(text(next)), "token:ci", bus.Viewer)
	if tokens, err := w.Tokens(t.Context()); err != nil || len(tokens) != 2 {
		t.Errorf("tokens %v, %v; one that is over is shown for a while", tokens, err)
	}
	if err := w.RemoveToken(t.Context(), root, record.ID); err != nil {
		t.Error(err)
	}
	wantFailure(t, w.RemoveToken(t.Context(), root, record.ID), job.NotFound)
	wantFailure(t, w.RemoveToken(t.Context(), root, ""), job.NotFound)
}

func TestAddTokenRefuses(t *testing.T) {
	w := newWorld(t)
	for name, asked := range map[string]fleet.NewAPIToken{
		"bad name":   {Name: "C I", Role: bus.Viewer, Lifetime: time.Hour},
		"no role":    {Name: "ci", Lifetime: time.Hour},
		"no life":    {Name: "ci", Role: bus.Viewer},
		"short life": {Name: "ci", Role: bus.Viewer, Lifetime: time.Minute - 1},
		"long life":  {Name: "ci", Role: bus.Viewer, Lifetime: 3 * 365 * 24 * time.Hour},
		"past":       {Name: "ci", Role: bus.Viewer, Lifetime: -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := w.AddToken(t.Context(), root, asked)
			wantFailure(t, err, job.InvalidRequest)
		})
	}
}

func TestUseOfATokenIsSeldomStored(t *testing.T) {
	w := newWorld(t)
	_, token, err := w.AddToken(t.Context(), root, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	writes := w.writes(t, func() {
		for range 180 {
			w.wantActor(t, "used", request(text(token)), "token:ci", bus.Viewer)
			w.advance(time.Minute)
		}
	})
	same(t, "transactions in three hours of use", uint64(3), writes)
	tokens, err := w.Tokens(t.Context())
	if err != nil || tokens[0].LastUsed == nil || !tokens[0].LastUsed.Equal(start.Add(2*time.Hour)) {
		t.Errorf("last use of %+v, %v", tokens, err)
	}
}

func TestLoginTokens(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Operator)
	alice := fleet.Actor{Name: "operator:alice", Role: bus.Operator, From: "http 10.0.0.7"}
	record, token, err := w.LoginToken(t.Context(), alice, "Alice's laptop")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "record", fleet.APIToken{
		ID: record.ID, Name: "Alice's laptop", Role: bus.Operator, User: "alice",
		CreatedAt: start, CreatedBy: "operator:alice", ExpiresAt: start.Add(90 * 24 * time.Hour),
	}, record)
	w.wantActor(t, "with the token", request(text(token)), "operator:alice", bus.Operator)
	if err := w.EndSession(httptest.NewRecorder(), request(text(token))); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.Authenticate(request(text(token)))
	wantFailure(t, err, job.NotAuthenticated)
	wantFailure(t, w.EndSession(httptest.NewRecorder(), request(text(token))), job.InvalidRequest)

	_, ci, err := w.AddToken(t.Context(), root, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	wantFailure(t, w.EndSession(httptest.NewRecorder(), request(text(ci))), job.InvalidRequest)
	for _, actor := range []string{"token:ci", fleet.Local, "operator:nobody", ""} {
		_, _, err := w.LoginToken(t.Context(), fleet.Actor{Name: actor, Role: bus.Admin}, "")
		wantFailure(t, err, job.NotFound)
	}
	_, _, err = w.LoginToken(t.Context(), alice, "a\nb")
	wantFailure(t, err, job.InvalidRequest)
}

func TestLoginTokensAreBounded(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Operator)
	first := w.login(t, "alice")
	for range 50 {
		w.advance(time.Second)
		w.login(t, "alice")
	}
	if _, known, _ := w.Authenticate(first); known {
		t.Error("the oldest still works")
	}
	if tokens, err := w.Tokens(t.Context()); err != nil || len(tokens) != 50 {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
	w.advance(91 * 24 * time.Hour)
	w.login(t, "alice")
	if tokens, err := w.Tokens(t.Context()); err != nil || len(tokens) != 1 {
		t.Errorf("%d tokens, %v; those that are over should be gone", len(tokens), err)
	}
}

func TestCredentials(t *testing.T) {
	w := newWorld(t)
	record, file, err := w.MintCredentials(t.Context(), root, "robot", bus.Admin)
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.NATSCredentials{Name: "robot", Role: bus.Admin, PublicKey: "U1", CreatedAt: start, CreatedBy: "operator:root"}
	same(t, "record", want, record)
	same(t, "file", "file of robot, admin", text(file))
	_, _, err = w.MintCredentials(t.Context(), root, "robot", bus.Viewer)
	wantFailure(t, err, job.Conflict)
	_, _, _, err = w.AddUser(t.Context(), root, "robot", bus.Operator) // would act as the same person
	wantFailure(t, err, job.Conflict)
	if err := w.RevokeCredentials(t.Context(), root, "robot"); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked on the bus", []string{"U1"}, w.bus.revoked)
	wantFailure(t, w.RevokeCredentials(t.Context(), root, "robot"), job.NotFound)
	if _, _, err := w.MintCredentials(t.Context(), root, "robot", bus.Viewer); err != nil {
		t.Errorf("after the revocation: %v", err)
	}
	all, err := w.Credentials(t.Context())
	if err != nil || len(all) != 2 || all[0].RevokedAt == nil || all[1].RevokedAt != nil {
		t.Errorf("credentials %+v, %v", all, err)
	}
	same(t, "audit", []string{
		"operator:root nats.credentials.add nats-credentials/robot done admin, U1",
		"operator:root nats.credentials.remove nats-credentials/robot done admin, U1",
		"operator:root nats.credentials.add nats-credentials/robot done viewer, U2",
	}, w.audit(t, "nats."))
	for _, name := range []string{"", "local", "a.>*", "Robot"} {
		_, _, err := w.MintCredentials(t.Context(), root, name, bus.Viewer)
		wantFailure(t, err, job.InvalidRequest)
	}
	_, _, err = w.MintCredentials(t.Context(), root, "other", "root")
	wantFailure(t, err, job.InvalidRequest)
}

// TestCredentialsOfAUser never do more than the user.
func TestCredentialsOfAUser(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Operator)
	_, _, err := w.MintCredentials(t.Context(), root, "bob", bus.Admin)
	wantFailure(t, err, job.Conflict)
	if _, _, err := w.MintCredentials(t.Context(), root, "bob", bus.Operator); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SetRole(t.Context(), root, "bob", bus.Admin); err != nil || len(w.bus.revoked) != 0 {
		t.Fatalf("raised: %v, revoked %v", err, w.bus.revoked)
	}
	if _, err := w.SetRole(t.Context(), root, "bob", bus.Viewer); err != nil {
		t.Fatal(err)
	}
	same(t, "revoked on the bus", []string{"U1"}, w.bus.revoked)
}

// TestTheBusIsNotThere when credentials end: it is told later, at the latest
// after a start.
func TestTheBusIsNotThere(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Operator)
	if _, _, err := w.MintCredentials(t.Context(), root, "bob", bus.Operator); err != nil {
		t.Fatal(err)
	}
	w.bus.err = errors.New("no route to host")
	wantFailure(t, w.RemoveUser(t.Context(), root, "bob"), job.Unavailable)
	if users, err := w.Users(t.Context()); err != nil || len(users) != 1 {
		t.Errorf("users %v, %v; bob should be gone", users, err)
	}
	w.restart(t, access.CheapCost)
	wantFailure(t, w.FinishRevocations(), job.Unavailable)
	w.bus.err = nil
	for range 2 {
		if err := w.FinishRevocations(); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "revoked on the bus", []string{"U1"}, w.bus.revoked)
	w.bus.err = errors.New("no route to host")
	if _, _, err := w.MintCredentials(t.Context(), root, "carol", bus.Viewer); err == nil {
		t.Error("credentials without the bus")
	}
	if all, err := w.Credentials(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("credentials %v, %v", all, err)
	}
}

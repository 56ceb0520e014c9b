package access_test

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var (
	alice   = fleet.Actor{Name: "operator:alice", Role: bus.Admin, From: from}
	another = secret.FromString("battery staple")
)

func TestChangePassword(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Viewer)
	session, login, other := w.signIn(t, "alice"), w.login(t, "alice"), w.signIn(t, "bob")
	link, _, err := w.NewLink(t.Context(), root, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.ChangePassword(t.Context(), alice, good, another); err != nil {
		t.Fatal(err)
	}
	w.wantActor(t, "the session of before", session, "", "")
	w.wantActor(t, "bob's session", other, "operator:bob", bus.Viewer)
	if _, known, _ := w.Authenticate(login); known {
		t.Error("the token of before works")
	}
	_, _, err = w.LinkUser(t.Context(), text(link))
	wantFailure(t, err, job.NotFound)
	_, err = w.Login(t.Context(), from, "alice", good)
	wantFailure(t, err, job.NotAuthenticated)
	if _, err := w.Login(t.Context(), from, "alice", another); err != nil {
		t.Errorf("the new password: %v", err)
	}
	entries := w.audit(t, "user.password")
	same(t, "audit", "operator:alice user.password user/alice done by the old one", entries[len(entries)-1])
}

func TestChangePasswordRefuses(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.provided(t, "carol", bus.Viewer)
	for what, test := range map[string]struct {
		by         string
		old, fresh secret.Value
		code       job.Code
	}{
		"wrong old one":       {"operator:alice", bad, another, job.InvalidRequest},
		"no old one":          {"operator:alice", secret.Value{}, another, job.InvalidRequest},
		"short new one":       {"operator:alice", good, secret.FromString("short"), job.InvalidRequest},
		"a token":             {"token:alice", good, another, job.InvalidRequest},
		"the owner":           {fleet.Local, good, another, job.InvalidRequest},
		"of the provider":     {"operator:carol", secret.Value{}, another, job.InvalidRequest},
		"only NATS has heard": {"operator:grafana", good, another, job.NotFound},
	} {
		t.Run(what, func(t *testing.T) {
			wantFailure(t, w.ChangePassword(t.Context(), fleet.Actor{Name: test.by, Role: bus.Admin, From: from}, test.old, test.fresh), test.code)
		})
	}
	if _, err := w.Login(t.Context(), from, "alice", good); err != nil {
		t.Errorf("the password of before: %v", err)
	}
}

// TestGuessingByASession is no faster than by the page to sign in.
func TestGuessingByASession(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	refused := func() *job.Failure {
		return job.AsFailure(w.ChangePassword(t.Context(), alice, bad, another))
	}
	for range 10 {
		if failure := refused(); failure.Code != job.InvalidRequest {
			t.Fatal(failure)
		}
	}
	if failure := refused(); failure.Code != job.TooMany {
		t.Error(failure)
	}
	wantFailure(t, w.ChangePassword(t.Context(), alice, good, another), job.TooMany)
	w.advance(6 * time.Second)
	if err := w.ChangePassword(t.Context(), alice, good, another); err != nil {
		t.Error(err)
	}
	w.Flush()
	entries := w.audit(t, "user.password")
	same(t, "audit", "operator:alice user.password user/alice refused", entries[1])
	same(t, "audit entries", 4, len(entries)) // by the invitation, refused, done, the count of more
}

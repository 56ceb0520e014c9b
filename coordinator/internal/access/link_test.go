package access_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// setUp returns the token of the set-up link.
func (w *world) setUp(t testing.TB) string {
	t.Helper()
	token, needed, err := w.SetupLink(t.Context())
	if err != nil || !needed {
		t.Fatalf("SetupLink: needed %v, %v", needed, err)
	}
	return text(token)
}

func TestSetup(t *testing.T) {
	w := newWorld(t)
	first := w.setUp(t)
	w.advance(time.Hour)
	second := w.setUp(t) // the coordinator was started again
	if _, _, err := w.LinkUser(t.Context(), first); err == nil {
		t.Error("the link of the first start still works")
	}
	user, role, err := w.LinkUser(t.Context(), second)
	if user != "" || role != bus.Admin || err != nil {
		t.Errorf("LinkUser = %q, %q, %v", user, role, err)
	}
	made, err := w.UseLink(t.Context(), "http 10.0.0.2", second, "alice", good)
	if err != nil {
		t.Fatal(err)
	}
	at := start.Add(time.Hour)
	same(t, "user", fleet.User{
		Name: "alice", Role: bus.Admin, CreatedAt: at, CreatedBy: "operator:alice", HasPassword: true, LastLogin: &at,
	}, made)
	if _, err := w.Login(t.Context(), "http 10.0.0.2", "alice", good); err != nil {
		t.Error(err)
	}
	if _, needed, err := w.SetupLink(t.Context()); needed || err != nil {
		t.Errorf("SetupLink with a user: needed %v, %v", needed, err)
	}
	same(t, "audit", []string{"operator:alice user.add user/alice done admin, by the set-up link"}, w.audit(t, "user.add"))
}

// TestRefusedLinksAreNotSpent: who has mistyped may try again.
func TestRefusedLinksAreNotSpent(t *testing.T) {
	w := newWorld(t)
	token := w.setUp(t)
	tests := map[string]struct{ name, password string }{
		"no name":            {"", "correct horse"},
		"reserved name":      {"local", "correct horse"},
		"capital letters":    {"Alice", "correct horse"},
		"a slash":            {"a/b", "correct horse"},
		"a long name":        {strings.Repeat("a", 33), "correct horse"},
		"no password":        {"alice", ""},
		"a short password":   {"alice", "123456789"},
		"a short one in CJK": {"alice", "口令口令口令"},
		"a long password":    {"alice", strings.Repeat("x", 1025)},
		"the name":           {"alice.the.first", "Alice.The.First"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := w.UseLink(t.Context(), "", token, test.name, secret.FromString(test.password))
			wantFailure(t, err, job.InvalidRequest)
			if test.password != "" && strings.Contains(err.Error(), test.password) {
				t.Errorf("the failure %q tells the password", err)
			}
		})
	}
	if _, err := w.UseLink(t.Context(), "", token, "alice", secret.FromString(strings.Repeat("x", 1024))); err != nil {
		t.Error(err)
	}
}

func TestLinksThatDoNotWork(t *testing.T) {
	w := newWorld(t)
	token := w.setUp(t)
	for _, wrong := range []string{"", "x", token[1:], token + "x"} {
		_, err := w.UseLink(t.Context(), "", wrong, "alice", good)
		wantFailure(t, err, job.NotFound)
		_, _, err = w.LinkUser(t.Context(), wrong)
		wantFailure(t, err, job.NotFound)
	}
	w.advance(24*time.Hour - time.Second)
	if _, _, err := w.LinkUser(t.Context(), token); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	w.advance(time.Second)
	_, err := w.UseLink(t.Context(), "", token, "alice", good)
	wantFailure(t, err, job.NotFound)
}

// TestTwoUseALinkAtOnce: one wins, the other gets to know.
func TestTwoUseALinkAtOnce(t *testing.T) {
	w := newWorld(t)
	setup := w.setUp(t)
	race := func(token string, names [2]string) {
		t.Helper()
		release := w.Occupy() // both have opened the link before one has set a password
		var group sync.WaitGroup
		errs := make([]error, 2)
		for i, name := range names {
			group.Go(func() { _, errs[i] = w.UseLink(t.Context(), "", token, name, good) })
		}
		deadline := time.Now().Add(30 * time.Second)
		for now := 0; now < 4; now, _ = w.Waiting() {
			if time.Now().After(deadline) {
				t.Fatal("they do not both wait")
			}
		}
		release()
		group.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("outcomes %v and %v, want one winner", errs[0], errs[1])
		}
		for _, err := range errs {
			if err != nil {
				wantFailure(t, err, job.Conflict)
			}
		}
	}
	race(setup, [2]string{"alice", "mallory"})
	users, err := w.Users(t.Context())
	if err != nil || len(users) != 1 {
		t.Fatalf("users %v, %v", users, err)
	}
	_, link, _, err := w.AddUser(t.Context(), root, "bob", bus.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	race(text(link), [2]string{})
	_, err = w.UseLink(t.Context(), "", text(link), "", good)
	wantFailure(t, err, job.NotFound)
}

func TestInvitation(t *testing.T) {
	w := newWorld(t)
	user, link, expires, err := w.AddUser(t.Context(), root, "bob", bus.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "user", fleet.User{Name: "bob", Role: bus.Viewer, CreatedAt: start, CreatedBy: "operator:root"}, user)
	same(t, "end of the link", start.Add(72*time.Hour), expires)
	if _, err := w.SetRole(t.Context(), root, "bob", bus.Operator); err != nil {
		t.Fatal(err)
	}
	name, role, err := w.LinkUser(t.Context(), text(link))
	if name != "bob" || role != bus.Operator || err != nil {
		t.Errorf("LinkUser = %q, %q, %v", name, role, err)
	}
	used, err := w.UseLink(t.Context(), "http 10.0.0.2", text(link), "mallory", good) // the name does not matter
	if err != nil || used.Name != "bob" || used.Role != bus.Operator || !used.HasPassword {
		t.Errorf("UseLink = %+v, %v", used, err)
	}
	same(t, "audit", []string{
		"operator:root user.add user/bob done viewer", "operator:root user.role user/bob done operator, was viewer",
		"operator:bob user.password user/bob done by a one-time link",
	}, w.audit(t, "user."))
}

// TestNewPassword ends what came from the old one.
func TestNewPassword(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	session, login := w.signIn(t, "alice"), w.login(t, "alice")
	first, _, err := w.NewLink(t.Context(), root, "alice")
	if err != nil {
		t.Fatal(err)
	}
	second, expires, err := w.NewLink(t.Context(), root, "alice")
	if err != nil || !expires.Equal(start.Add(72*time.Hour)) {
		t.Fatalf("NewLink: %v, %v", expires, err)
	}
	_, err = w.UseLink(t.Context(), "", text(first), "", bad)
	wantFailure(t, err, job.NotFound)
	w.wantActor(t, "before the link is used", session, "operator:alice", bus.Admin)
	if _, err := w.UseLink(t.Context(), "", text(second), "", bad); err != nil {
		t.Fatal(err)
	}
	w.wantActor(t, "the session of before", session, "", "")
	if _, known, _ := w.Authenticate(login); known {
		t.Error("the token of before works")
	}
	_, err = w.Login(t.Context(), root.From, "alice", good)
	wantFailure(t, err, job.NotAuthenticated)
	if _, err := w.Login(t.Context(), root.From, "alice", bad); err != nil {
		t.Errorf("the new password: %v", err)
	}
	_, _, err = w.NewLink(t.Context(), root, "nobody")
	wantFailure(t, err, job.NotFound)
}

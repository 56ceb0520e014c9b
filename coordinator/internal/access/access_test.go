package access_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

var (
	start = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	root  = fleet.Actor{Name: "operator:root", Role: bus.Admin, From: "http 10.0.0.1"}
	good  = secret.FromString("correct horse")
)

// operators is the bus: it notes who got and lost an identity.
type operators struct {
	mu      sync.Mutex
	minted  int
	revoked []string
	err     error
}

func (o *operators) MintOperator(name string, role bus.Role) ([]byte, string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.minted++
	return fmt.Appendf(nil, "file of %s, %s", name, role), fmt.Sprint("U", o.minted), o.err
}

func (o *operators) RevokeOperator(publicKey string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.revoked = append(o.revoked, publicKey)
	}
	return o.err
}

// world is a service with its surroundings.
type world struct {
	*access.Service
	store *store.Store
	bus   *operators
	data  string
	clock atomic.Int64 // Unix nanoseconds
}

func newWorld(t testing.TB) *world {
	t.Helper()
	data := t.TempDir()
	s, err := store.Open(filepath.Join(data, "borgfleet.db"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Check(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	w := &world{store: s, bus: &operators{}, data: data}
	w.clock.Store(start.UnixNano())
	w.restart(t, access.CheapCost)
	return w
}

// restart makes the service anew of what is stored.
func (w *world) restart(t testing.TB, cost access.Cost) {
	t.Helper()
	s, err := access.New(access.Options{
		Store: w.store, Bus: w.bus, LocalTokenFile: filepath.Join(w.data, "local.token"), Cost: cost, Now: w.now, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Service = s
}

func (w *world) now() time.Time          { return time.Unix(0, w.clock.Load()) }
func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

// user makes a user with the good password.
func (w *world) user(t testing.TB, name string, role bus.Role) {
	t.Helper()
	_, link, _, err := w.AddUser(t.Context(), root, name, role)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.UseLink(t.Context(), "http 10.0.0.2", text(link), "", good); err != nil {
		t.Fatal(err)
	}
}

// signIn starts a session and returns a request that carries it.
func (w *world) signIn(t testing.TB, user string) *http.Request {
	t.Helper()
	recorder, r := httptest.NewRecorder(), request("")
	if err := w.StartSession(recorder, r, user); err != nil {
		t.Fatal(err)
	}
	for _, cookie := range recorder.Result().Cookies() {
		r.AddCookie(cookie)
	}
	return r
}

// login returns a request with a new token that stands for a user.
func (w *world) login(t testing.TB, user string) *http.Request {
	t.Helper()
	_, token, err := w.LoginToken(t.Context(), fleet.Actor{Name: fleet.Person(user)}, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	return request(text(token))
}

// writes counts the transactions while something is done.
func (w *world) writes(t testing.TB, do func()) uint64 {
	t.Helper()
	before, err := w.store.Apply()
	if err != nil {
		t.Fatal(err)
	}
	do()
	after, err := w.store.Apply()
	if err != nil {
		t.Fatal(err)
	}
	return after - before - 1
}

// audit returns the audit, oldest first, as "by action object outcome detail".
func (w *world) audit(t testing.TB, action string) (lines []string) {
	t.Helper()
	page, err := w.store.Audit(fleet.AuditFilter{Action: action})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		line := strings.Join(strings.Fields(fmt.Sprint(e.By, " ", e.Action, " ", e.Object, " ", e.Outcome, " ", e.Detail)), " ")
		lines = append([]string{line}, lines...)
	}
	return lines
}

// request is one from 10.0.0.7, with a bearer token if one is given.
func request(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = "10.0.0.7:4711"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func text(v secret.Value) string { return string(v.Reveal()) }

// wantActor checks whom a request is taken for; an empty name is nobody.
func (w *world) wantActor(t testing.TB, when string, r *http.Request, name string, role bus.Role) {
	t.Helper()
	got, known, err := w.Authenticate(r)
	want := fleet.Actor{}
	if name != "" {
		want = fleet.Actor{Name: name, Role: role, From: "http 10.0.0.7"}
	}
	if got != want || known != (name != "") || err != nil {
		t.Errorf("%s: Authenticate = %+v, %v, %v; want %+v", when, got, known, err, want)
	}
}

// wantFailure checks a failure's code, and that it has a hint.
func wantFailure(t testing.TB, err error, code job.Code) {
	t.Helper()
	f, ok := errors.AsType[*job.Failure](err)
	if !ok || f.Code != code {
		t.Errorf("error %v, want a failure %s", err, code)
		return
	}
	if f.Hint == "" && code != job.NotFound {
		t.Errorf("failure %q has no hint", f.Message)
	}
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestLocalToken(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.data, "local.token")
	read := func() string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(content))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	first := read()
	w.wantActor(t, "with the token of the file", request(first), fleet.Local, bus.Admin)
	w.restart(t, access.CheapCost)
	if _, known, err := w.Authenticate(request(first)); known || job.AsFailure(err).Code != job.NotAuthenticated {
		t.Errorf("the token of the last start: %v, %v", known, err)
	}
	w.wantActor(t, "after a restart", request(read()), fleet.Local, bus.Admin)
}

// TestNothingIsStoredInClear looks for all that is worth something in every
// byte of the database.
func TestNothingIsStoredInClear(t *testing.T) {
	w := newWorld(t)
	setup, _, err := w.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.user(t, "alice", bus.Admin)
	_, link, _, err := w.AddUser(t.Context(), root, "bob", bus.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := w.AddToken(t.Context(), root, fleet.NewAPIToken{Name: "ci", Role: bus.Viewer, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	session, err := w.signIn(t, "alice").Cookie("borgfleet_session")
	if err != nil {
		t.Fatal(err)
	}
	bearer := strings.TrimPrefix(w.login(t, "alice").Header.Get("Authorization"), "Bearer ")
	content, err := os.ReadFile(filepath.Join(w.data, "borgfleet.db"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, []byte("alice")) {
		t.Fatal("the database does not even hold a name")
	}
	for what, worth := range map[string]string{
		"password": text(good), "set-up link": text(setup), "link": text(link), "token": text(token), "session": session.Value, "login": bearer,
	} {
		if len(worth) < 10 || bytes.Contains(content, []byte(worth)) {
			t.Errorf("the %s (%d bytes) is in the database", what, len(worth))
		}
	}
}

// TestConcurrentUse is for the race detector, and for what is left: nobody who
// was removed.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	var group sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprint("user", i)
		group.Go(func() {
			for range 5 {
				w.user(t, name, bus.Operator)
				session, login := w.signIn(t, name), w.login(t, name)
				w.advance(20 * time.Minute) // so that both are noted
				w.wantActor(t, name, session, fleet.Person(name), bus.Operator)
				if err := w.RemoveUser(t.Context(), root, name); err != nil {
					t.Error(err)
				}
				w.wantActor(t, name+", removed", session, "", "")
				if _, known, _ := w.Authenticate(login); known {
					t.Error("a removed user's token is known")
				}
			}
		})
		group.Go(func() {
			for range 5 {
				_, _ = w.Login(t.Context(), fmt.Sprint("http 10.0.1.", i), name, good) // may or may not be there
				w.Refused(root, "host.add", "")
				if _, err := w.Users(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := w.Tokens(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	sessions, err := w.store.Sessions()
	tokens, errTokens := w.store.APITokens()
	if err != nil || errTokens != nil || len(sessions)+len(tokens) != 0 {
		t.Errorf("left are sessions %v, tokens %v (%v, %v)", sessions, tokens, err, errTokens)
	}
}

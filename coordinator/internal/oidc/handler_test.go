package oidc_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/oidc"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/hashicorp/go-hclog"
)

func TestSignIn(t *testing.T) {
	for name, serve := range map[string]func(http.Handler) *httptest.Server{"plain": httptest.NewServer, "TLS": httptest.NewTLSServer} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, serve)
			if w.count("/.well-known/openid-configuration") != 0 {
				t.Error("the provider is asked at the start")
			}
			b := w.browser(t)
			_, body := b.open(w.pages.URL + oidc.Path + "?next=" + url.QueryEscape("/jobs?host=web1"))
			same(t, "page", "/jobs?host=web1 for operator:alice admin <nil>", body)
			same(t, "scope", "openid profile groups", w.scope)
			users, err := w.access.Users(t.Context())
			if err != nil || len(users) != 1 || users[0].Name != "alice" || users[0].Role != bus.Admin {
				t.Errorf("users %+v, %v", users, err)
			}
			home, _ := url.Parse(w.pages.URL)
			if cookies := b.Jar.Cookies(home); len(cookies) != 1 {
				t.Errorf("cookies %v, want the session alone", cookies)
			}
			w.set(func() { w.change = map[string]any{"groups": "backup-operators"} })
			_, body = b.open(w.pages.URL + oidc.Path)
			same(t, "with one group, as a text", "/ for operator:alice operator <nil>", body)
			same(t, "questions about the provider", 1, w.count("/.well-known/openid-configuration"))
		})
	}
}

func TestCookie(t *testing.T) {
	w := newWorld(t, httptest.NewTLSServer)
	b := w.browser(t)
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := b.Get(w.pages.URL + oidc.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	cookie := answer.Cookies()[0]
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteLaxMode || cookie.MaxAge != 600 || cookie.Name != "__Host-borgfleet_oidc" {
		t.Errorf("cookie %v", cookie)
	}
	same(t, "cache", "no-store", answer.Header.Get("Cache-Control"))
	target := answer.Header.Get("Location")
	for _, value := range []string{"state=", "nonce=", "code_challenge=", "code_challenge_method=S256"} {
		if !strings.Contains(target, value) {
			t.Errorf("%s has no %s", target, value)
		}
	}
}

// TestWhatTheProviderSays is refused when it is not for this sign-in, or worth
// nothing here.
func TestWhatTheProviderSays(t *testing.T) {
	unconfirmed := "the identity provider did not confirm who you are"
	for name, test := range map[string]struct {
		change   map[string]any
		status   int
		sentence string
		log      string
	}{
		"wrong nonce":     {map[string]any{"nonce": "another"}, 401, unconfirmed, "another sign-in"},
		"no nonce":        {map[string]any{"nonce": nil}, 401, unconfirmed, "another sign-in"},
		"expired":         {map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, 401, unconfirmed, "expired"},
		"no expiry":       {map[string]any{"exp": nil}, 401, unconfirmed, "expired"},
		"other audience":  {map[string]any{"aud": "grafana"}, 401, unconfirmed, "audience"},
		"other issuer":    {map[string]any{"iss": "https://login.example.net"}, 401, unconfirmed, "different provider"},
		"other party":     {map[string]any{"aud": []string{client, "grafana"}, "azp": "grafana"}, 401, unconfirmed, "grafana"},
		"unknown role":    {map[string]any{"groups": []string{"sales"}}, 403, "alice has no role", "sales"},
		"no groups":       {map[string]any{"groups": nil}, 403, "alice has no role", ""},
		"odd groups":      {map[string]any{"groups": map[string]any{"backup-admins": true}}, 403, "alice has no role", ""},
		"bad name":        {map[string]any{"preferred_username": "<b>Alice"}, 400, "&lt;b&gt;Alice", "cannot be a name"},
		"reserved name":   {map[string]any{"preferred_username": "local"}, 400, "is reserved", ""},
		"no name":         {map[string]any{"preferred_username": nil}, 403, "what you are called", "preferred_username"},
		"odd name":        {map[string]any{"preferred_username": 7}, 403, "what you are called", ""},
		"a local account": {map[string]any{"preferred_username": "root"}, 403, "root signs in with a password", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, httptest.NewServer)
			w.setUp(t, "root")
			w.set(func() { w.change = test.change })
			w.wantRefused(t, w.browser(t), w.pages.URL+oidc.Path, test.status, test.sentence)
			if !strings.Contains(w.log.String(), test.log) {
				t.Errorf("the log does not say %q:\n%s", test.log, w.log.String())
			}
			if users, err := w.access.Users(t.Context()); err != nil || len(users) != 1 {
				t.Errorf("users %v, %v", users, err)
			}
		})
	}
}

// setUp makes an admin with a password.
func (w *world) setUp(t testing.TB, name string) {
	t.Helper()
	link, _, err := w.access.SetupLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.access.UseLink(t.Context(), "", string(link.Reveal()), name, secret.FromString("correct horse")); err != nil {
		t.Fatal(err)
	}
}

// TestForgedTokens are nobody's word.
func TestForgedTokens(t *testing.T) {
	for name, forge := range map[string]func(token string) string{
		"other signature": func(token string) string { return token[:len(token)-8] + "AAAAAAAA" },
		"other claims": func(token string) string {
			parts := strings.Split(token, ".")
			return parts[0] + "." + parts[1] + "AA." + parts[2]
		},
		"no signature": func(token string) string {
			return "eyJhbGciOiJub25lIn0." + strings.Split(token, ".")[1] + "."
		},
		"no token": func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, httptest.NewServer)
			w.set(func() { w.forge = forge })
			w.wantRefused(t, w.browser(t), w.pages.URL+oidc.Path, http.StatusUnauthorized, "did not confirm who you are")
		})
	}
}

// TestAnswersToNoQuestion cost the provider nothing.
func TestAnswersToNoQuestion(t *testing.T) {
	const sentence = "did not begin in this browser"
	w := newWorld(t, httptest.NewServer)
	callback := w.pages.URL + oidc.Path + "/callback"
	w.wantRefused(t, w.browser(t), callback+"?code=x&state=y", http.StatusBadRequest, sentence)

	b := w.browser(t)
	back := b.begin(w)
	right := back.Query()
	for name, change := range map[string]func(url.Values){
		"wrong state":   func(v url.Values) { v.Set("state", "another") },
		"no state":      func(v url.Values) { v.Del("state") },
		"error of none": func(v url.Values) { v.Del("state"); v.Set("error", "<b>") },
	} {
		t.Run(name, func(t *testing.T) {
			query, _ := url.ParseQuery(right.Encode())
			change(query)
			w.wantRefused(t, b, callback+"?"+query.Encode(), http.StatusBadRequest, sentence)
		})
	}
	w.wantRefused(t, w.browser(t), back.String(), http.StatusBadRequest, sentence) // of another person
	forged := w.browser(t)
	forged.Jar.SetCookies(back, []*http.Cookie{{Name: "borgfleet_oidc", Value: strings.Repeat("A", 400)}})
	w.wantRefused(t, forged, back.String(), http.StatusBadRequest, sentence)
	w.advance(10 * time.Minute)
	w.wantRefused(t, b, back.String(), http.StatusBadRequest, sentence)
	same(t, "exchanges", 0, w.count("/token"))
}

// TestReplay: an answer counts once, here by the cookie, there by the code.
func TestReplay(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	b := w.browser(t)
	back := b.begin(w)
	cookies := b.Jar.Cookies(back)
	if status, body := b.open(back.String()); status != http.StatusOK || !strings.Contains(body, "operator:alice") {
		t.Fatalf("answer %d %s", status, body)
	}
	if status, _ := b.open(back.String()); status != http.StatusBadRequest {
		t.Errorf("the same again: %d", status)
	}
	thief := w.browser(t)
	thief.Jar.SetCookies(back, cookies)
	w.wantRefused(t, thief, back.String(), http.StatusUnauthorized, "did not confirm")
}

// TestStolenCode is worth nothing in another sign-in: PKCE.
func TestStolenCode(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	stolen := w.browser(t).begin(w).Query().Get("code")
	thief := w.browser(t)
	back := thief.begin(w)
	query := back.Query()
	query.Set("code", stolen)
	back.RawQuery = query.Encode()
	w.wantRefused(t, thief, back.String(), http.StatusUnauthorized, "did not confirm")
	if !strings.Contains(w.log.String(), "invalid_grant") {
		t.Error("the log does not say why")
	}
}

func TestTheProviderRefuses(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	b := w.browser(t)
	query := url.Values{"state": {b.begin(w).Query().Get("state")}, "error": {"access_denied"}, "error_description": {strings.Repeat("no ", 1000)}}
	w.wantRefused(t, b, w.pages.URL+oidc.Path+"/callback?"+query.Encode(), http.StatusForbidden, "did not let you in")
	if log := w.log.String(); !strings.Contains(log, "access_denied") || len(log) > 2000 {
		t.Errorf("the log, of %d bytes:\n%s", len(log), log)
	}
}

// TestTheProviderIsAway when it is needed, and is asked again soon, but not by
// each of many.
func TestTheProviderIsAway(t *testing.T) {
	const discovery = "/.well-known/openid-configuration"
	w := newWorld(t, httptest.NewServer)
	w.set(func() { w.away = true })
	b := w.browser(t)
	for range 5 {
		w.wantRefused(t, b, w.pages.URL+oidc.Path, http.StatusServiceUnavailable, "does not answer")
	}
	same(t, "questions", 1, w.count(discovery))
	w.set(func() { w.away = false })
	w.advance(10 * time.Second)
	back := b.begin(w)
	same(t, "questions", 2, w.count(discovery))
	w.advance(time.Hour)
	w.set(func() { w.away = true })
	if again := w.browser(t); again.reaches(w) != w.url {
		t.Error("what was known is forgotten")
	}
	same(t, "questions", 3, w.count(discovery))
	w.wantRefused(t, b, back.String(), http.StatusBadRequest, "too long ago")
}

// reaches returns where signing in leads first.
func (b *browser) reaches(w *world) string {
	b.t.Helper()
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := b.Get(w.pages.URL + oidc.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	address, _, _ := strings.Cut(answer.Header.Get("Location"), "/auth")
	return address
}

func TestTheClientSecretIsReplaced(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	w.set(func() { w.secret = "another secret" })
	w.wantRefused(t, w.browser(t), w.pages.URL+oidc.Path, http.StatusUnauthorized, "did not confirm")
	w.writeSecret(t, "another secret", 0o644)
	w.wantRefused(t, w.browser(t), w.pages.URL+oidc.Path, http.StatusInternalServerError, "the coordinator cannot sign you in")
	if !strings.Contains(w.log.String(), "chmod 600") {
		t.Error("the log does not say what to do")
	}
	w.writeSecret(t, "another secret", 0o600)
	if _, body := w.browser(t).open(w.pages.URL + oidc.Path); body != "/ for operator:alice admin <nil>" {
		t.Error(body)
	}
}

// TestKindsOfProviders that are about: one that takes secrets in forms, and
// tells about people only when asked.
func TestKindsOfProviders(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	w.set(func() {
		w.post, w.change = true, map[string]any{"preferred_username": nil, "groups": nil}
		w.info = map[string]any{"sub": "4711", "preferred_username": "bob", "groups": []string{"backup-admins"}, "iss": "ignored"}
	})
	_, body := w.browser(t).open(w.pages.URL + oidc.Path)
	same(t, "page", "/ for operator:bob admin <nil>", body)
	w.set(func() { w.info["sub"] = "4712" })
	w.wantRefused(t, w.browser(t), w.pages.URL+oidc.Path, http.StatusUnauthorized, "did not confirm")
}

// TestOtherNames of the same pages lead to the one that the provider knows.
func TestOtherNames(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	other := strings.Replace(w.pages.URL, "127.0.0.1", "localhost", 1)
	_, body := w.browser(t).open(other + oidc.Path + "?next=/hosts")
	same(t, "page", "/hosts for operator:alice admin <nil>", body)
}

func TestNextIsHere(t *testing.T) {
	w := newWorld(t, httptest.NewServer)
	for next, want := range map[string]string{
		"": "/", "/hosts": "/hosts", "https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", "hosts": "/", "/\n": "/",
		"/" + strings.Repeat("x", 2000): "/",
	} {
		_, body := w.browser(t).open(w.pages.URL + oidc.Path + "?next=" + url.QueryEscape(next))
		same(t, fmt.Sprintf("page for %.20q", next), want+" for operator:alice admin <nil>", body)
	}
}

// TestManyAtOnce: the provider, and this machine, have work for some at a time.
func TestManyAtOnce(t *testing.T) {
	const most = 16
	w := newWorld(t, httptest.NewServer)
	w.arrived, w.answer = make(chan struct{}, most), make(chan struct{})
	var group sync.WaitGroup
	for range most {
		b := w.browser(t)
		back := b.begin(w).String()
		group.Go(func() {
			if _, body := b.open(back); body != "/ for operator:alice admin <nil>" {
				t.Error(body)
			}
		})
	}
	for range most {
		<-w.arrived
	}
	b := w.browser(t)
	w.wantRefused(t, b, b.begin(w).String(), http.StatusTooManyRequests, "too many people")
	close(w.answer)
	group.Wait()
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "backup.example.net", "ftp://backup.example.net", "https://"} {
		if _, err := oidc.New(oidc.Options{Issuer: "https://login.example.net", URL: address, Logger: hclog.NewNullLogger()}); err == nil {
			t.Errorf("%q is accepted", address)
		}
	}
}

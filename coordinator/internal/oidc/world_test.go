package oidc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/oidc"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

const client = "borgfleet"

// world is a coordinator's pages, a provider, and a clock for both.
type world struct {
	*provider
	access  *access.Service
	pages   *httptest.Server
	secrets string // file
	clock   atomic.Int64
	log     safeBuffer
}

type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (w *world) now() time.Time          { return time.Unix(0, w.clock.Load()) }
func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

func newWorld(t testing.TB, serve func(http.Handler) *httptest.Server) *world {
	t.Helper()
	w := &world{}
	w.clock.Store(time.Now().UnixNano())
	w.provider = newProvider(t, w.now)
	data := t.TempDir()
	s, err := store.Open(filepath.Join(data, "borgfleet.db"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	logger := hclog.New(&hclog.LoggerOptions{Output: &w.log, Level: hclog.Trace})
	w.access, err = access.New(access.Options{Store: s, LocalTokenFile: filepath.Join(data, "local.token"), Now: w.now, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	w.pages = serve(mux)
	t.Cleanup(w.pages.Close)
	w.secrets = filepath.Join(data, "client.secret")
	w.writeSecret(t, w.secret, 0o600)
	handler, err := oidc.New(oidc.Options{
		Issuer: w.url, ClientID: client, ClientSecretFile: w.secrets, URL: w.pages.URL + "/",
		Roles:  map[string]bus.Role{"staff": bus.Viewer, "backup-admins": bus.Admin, "backup-operators": bus.Operator},
		SignIn: w.access.SignIn, StartSession: w.access.StartSession, Now: w.now, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.mount(mux, handler)
	t.Cleanup(func() { w.wantNoSecrets(t, "the log", w.log.String()) })
	return w
}

// mount adds what else a coordinator has.
func (w *world) mount(mux *http.ServeMux, handler http.Handler) {
	known := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(rw, r.WithContext(fleet.WithActor(r.Context(), fleet.Actor{From: "http 10.0.0.7"})))
	})
	mux.Handle(oidc.Path, known)
	mux.Handle(oidc.Path+"/", known)
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		actor, _, err := w.access.Authenticate(r)
		fmt.Fprint(rw, r.URL.RequestURI(), " for ", actor.Name, " ", actor.Role, " ", err)
	})
}

func (w *world) writeSecret(t testing.TB, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(w.secrets, []byte(text+"\n"), mode), os.Chmod(w.secrets, mode)); err != nil {
		t.Fatal(err)
	}
}

// browser is one with cookies, that can be held where the provider has sent it
// back.
type browser struct {
	*http.Client
	t testing.TB
}

func (w *world) browser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{Client: &http.Client{Jar: jar, Transport: w.pages.Client().Transport, Timeout: time.Minute}, t: t}
}

// open follows an address to where it leads.
func (b *browser) open(address string) (status int, body string) {
	b.t.Helper()
	answer, err := b.Get(address)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(content)
}

// begin starts to sign in, and returns where the provider sends the browser.
func (b *browser) begin(w *world) *url.URL {
	b.t.Helper()
	var back *url.URL
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == oidc.Path+"/callback" {
			back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	status, body := b.open(w.pages.URL + oidc.Path)
	b.CheckRedirect = nil
	if back == nil {
		b.t.Fatalf("the provider sends nobody back: %d %s", status, body)
	}
	return back
}

// wantRefused checks the page that somebody sees who is not signed in, and that
// it needs nothing but itself.
func (w *world) wantRefused(t testing.TB, b *browser, address string, status int, sentence string) {
	t.Helper()
	got, body := b.open(address)
	if got != status || !strings.Contains(body, sentence) || !strings.Contains(body, "You are not signed in") {
		t.Errorf("answer %d, want %d with %q:\n%s\n%s", got, status, sentence, body, w.log.String())
	}
	for _, foreign := range []string{"<script", "<style", "style=", "src=", "<link", "<form"} {
		if strings.Contains(body, foreign) {
			t.Errorf("the page has %s", foreign)
		}
	}
	w.wantNoSecrets(t, "the page", body)
	if _, body := b.open(w.pages.URL + "/"); !strings.HasPrefix(body, "/ for  ") {
		t.Errorf("there is a session: %s", body)
	}
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
)

// withPages adds pages that say who reads them.
func withPages(o *httpapi.Options) {
	o.Mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		actor := fleet.ActorOf(r.Context())
		_, _ = fmt.Fprintf(w, "page for %s from %s", actor.Name, actor.From)
	})
}

// browse sends what a browser sends when a person opens a page.
func browse(path string) *http.Request {
	r := request("GET", path, "")
	r.Header.Del("Authorization")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	return r
}

func TestWhatIsOpenToAll(t *testing.T) {
	s := serve(t, withPages)
	for _, path := range []string{
		"/healthz", "/readyz", "/login", "/login/oidc/callback", "/setup/abc", "/static/app.css", "/favicon.ico",
		"/api/v1/openapi.json", "/api/v1/docs", "/api/v1/docs.css",
	} {
		if answer := s.as("", "GET", path, ""); answer.Code != http.StatusOK {
			t.Errorf("%s: status %d", path, answer.Code)
		}
		if answer := s.as("wrong", "GET", path, ""); answer.Code != http.StatusOK {
			t.Errorf("%s with a wrong token: status %d", path, answer.Code)
		}
	}
	if answer := s.as("", "POST", "/login", ""); answer.Body.String() != "page for  from http 127.0.0.1" {
		t.Errorf("the form of the login: %d %s", answer.Code, answer.Body)
	}
}

func TestEverythingElseWantsToKnowWhoAsks(t *testing.T) {
	s := serve(t, withPages)
	for _, call := range []struct{ method, path string }{
		{"GET", "/api/v1/status"}, {"GET", "/api/v1/events"}, {"POST", "/api/v1/jobs"}, {"DELETE", "/api/v1/hosts/web1"}, {"GET", "/api/v1/nothing"},
		{"GET", "/api/v1/login"}, {"GET", "/api/v1/docs/"}, {"GET", "/metrics"}, {"GET", "/"}, {"GET", "/live"}, {"POST", "/jobs/x/cancel"}, {"POST", "/logout"},
		{"GET", "/loginx"}, {"GET", "/setup"}, {"GET", "/static/../hosts"}, {"GET", "/static/%2e%2e/hosts"}, {"GET", "/setup/..%2fhosts"},
	} {
		for _, token := range []string{"", "wrong"} {
			answer := s.as(token, call.method, call.path, "")
			checkProblem(t, answer, http.StatusUnauthorized, job.NotAuthenticated)
			if got := answer.Header().Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("%s %s: WWW-Authenticate %q", call.method, call.path, got)
			}
			if hint := decode[httpapi.Problem](t, answer.Body.Bytes()).Hint; hint == "" {
				t.Errorf("%s %s: no hint", call.method, call.path)
			}
		}
	}
	if len(s.jobs) != 0 {
		t.Error("a job was submitted all the same")
	}
}

func TestPeopleAreLedToTheLoginAndBack(t *testing.T) {
	s := serve(t, withPages)
	for path, want := range map[string]string{
		"/":                     "/login",
		"/jobs?state=failed":    "/login?next=%2Fjobs%3Fstate%3Dfailed",
		"/hosts/web1":           "/login?next=%2Fhosts%2Fweb1",
		"//evil.example/":       "/login",
		`/\evil.example`:        "/login?next=%2F%255Cevil.example", // which leads to /%5Cevil.example
		"/jobs?next=//evil.com": "/login?next=%2Fjobs%3Fnext%3D%2F%2Fevil.com",
	} {
		r := browse("/")
		before, query, _ := strings.Cut(path, "?")
		r.URL.Path, r.URL.RawQuery = before, query
		answer := s.do(r)
		if got := answer.Header().Get("Location"); answer.Code != http.StatusSeeOther || got != want {
			t.Errorf("%s: %d to %s, want %s", path, answer.Code, got, want)
		}
	}
}

func TestSessionOfThePage(t *testing.T) {
	s := serve(t, withPages)
	s.door.actors["cookie-of-alice"] = fleet.Actor{Name: "operator:alice"}
	r := browse("/hosts")
	r.AddCookie(&http.Cookie{Name: "session", Value: "cookie-of-alice"})
	if answer := s.do(r); answer.Body.String() != "page for operator:alice from http 127.0.0.1" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	s.door.shut("cookie-of-alice")
	if answer := s.do(r); answer.Code != http.StatusSeeOther {
		t.Errorf("a session that is over: %d", answer.Code)
	}
	r = browse("/hosts")
	r.Method = "POST"
	if answer := s.do(r); answer.Code != http.StatusSeeOther || answer.Header().Get("Location") != "/login" {
		t.Errorf("a form that is sent after the session: %d to %s", answer.Code, answer.Header().Get("Location"))
	}
	r.Header.Del("Accept")
	checkProblem(t, s.do(r), http.StatusUnauthorized, job.NotAuthenticated)
}

func TestFaultOfTheAuthenticatorIsNotALogin(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.Authenticator = broken{o.Authenticator} })
	checkProblem(t, s.do(browse("/")), http.StatusInternalServerError, job.Internal)
	checkProblem(t, s.do(request("GET", "/api/v1/status", "")), http.StatusInternalServerError, job.Internal)
}

type broken struct{ httpapi.Authenticator }

func (broken) Authenticate(*http.Request) (fleet.Actor, bool, error) {
	return fleet.Actor{}, false, io.ErrUnexpectedEOF
}

func TestStreamEndsWithItsReadersAccess(t *testing.T) {
	for name, keepalive := range map[string]time.Duration{"told": time.Hour, "looked for": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(o *httpapi.Options) { o.Keepalive = keepalive })
			stream := openStream(t, s.url+"/api/v1/events")
			stream.next(t)
			s.door.mu.Lock()
			delete(s.door.actors, adminToken)
			if keepalive == time.Hour {
				close(s.door.changed)
				s.door.changed = nil
			}
			s.door.mu.Unlock()
			stream.ended(t)
		})
	}
}

func TestStreamOutlivesAFaultOfTheAuthenticator(t *testing.T) {
	flaky := &flaky{}
	s := serve(t, func(o *httpapi.Options) {
		flaky.Authenticator = o.Authenticator
		o.Authenticator, o.Keepalive = flaky, 5*time.Millisecond
	})
	stream := openStream(t, s.url+"/api/v1/events")
	for comments := 0; comments < 5; {
		line, ok := stream.line(t)
		if !ok {
			t.Fatal("the stream was cut")
		}
		if strings.HasPrefix(line, ":") {
			comments++
		}
	}
}

// flaky knows who asks once, and then has a fault.
type flaky struct {
	httpapi.Authenticator
	asked bool // the guard asks before the stream is watched
}

func (f *flaky) Authenticate(r *http.Request) (fleet.Actor, bool, error) {
	if f.asked {
		return fleet.Actor{}, false, io.ErrUnexpectedEOF
	}
	f.asked = true
	return f.Authenticator.Authenticate(r)
}

func TestPlainHTTPIsForThisMachineOnly(t *testing.T) {
	s := serve(t, withPages)
	from := func(remote, method, path string) *httptest.ResponseRecorder {
		r := request(method, path, "")
		r.RemoteAddr = remote
		return s.do(r)
	}
	for _, remote := range []string{"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"} {
		if answer := from(remote, "GET", "/api/v1/whoami"); answer.Code != http.StatusOK {
			t.Errorf("from %s: status %d", remote, answer.Code)
		}
	}
	for _, remote := range []string{"10.0.0.7:1", "[2001:db8::1]:1", "[::ffff:10.0.0.7]:1", "@", ""} {
		for _, path := range []string{"/", "/api/v1/status?x=1", "/metrics", "/login"} {
			answer := from(remote, "GET", path)
			if got := answer.Header().Get("Location"); answer.Code != http.StatusPermanentRedirect || got != "https://127.0.0.1:8440"+path {
				t.Errorf("%s from %s: %d to %s", path, remote, answer.Code, got)
			}
			checkProblem(t, from(remote, "POST", path), http.StatusForbidden, job.NotAllowed)
		}
	}
	r := request("GET", "/", "")
	r.RemoteAddr, r.Host = "10.0.0.7:1", "evil.example"
	checkProblem(t, s.do(r), http.StatusForbidden, job.NotAllowed) // no redirect to a foreign name
}

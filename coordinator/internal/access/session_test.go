package access_test

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestSessionCookie(t *testing.T) {
	for name, encrypted := range map[string]bool{"borgfleet_session": false, "__Host-borgfleet_session": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.user(t, "alice", bus.Operator)
			recorder, r := httptest.NewRecorder(), request("")
			if encrypted {
				r.TLS = &tls.ConnectionState{}
			}
			if err := w.StartSession(recorder, r, "alice"); err != nil {
				t.Fatal(err)
			}
			cookie := recorder.Result().Cookies()[0]
			want := name + "=" + cookie.Value + "; Path=/; Max-Age=604800; HttpOnly; "
			if encrypted {
				want += "Secure; "
			}
			same(t, "cookie", want+"SameSite=Lax", recorder.Header().Get("Set-Cookie"))
			same(t, "length of its value", 43, len(cookie.Value))
			r.AddCookie(cookie)
			w.wantActor(t, "signed in", r, "operator:alice", bus.Operator)

			r.TLS = map[bool]*tls.ConnectionState{true: nil, false: {}}[encrypted]
			w.wantActor(t, "over the other kind of connection", r, "", "")
		})
	}
}

func TestNobody(t *testing.T) {
	w := newWorld(t)
	w.wantActor(t, "no credentials", request(""), "", "")
	r := request("")
	r.Header.Set("Authorization", "Basic YWxpY2U6eA==")
	w.wantActor(t, "another scheme", r, "", "")
	r = request("")
	r.AddCookie(&http.Cookie{Name: "borgfleet_session", Value: "x"})
	w.wantActor(t, "an unknown cookie", r, "", "")
	for _, token := range []string{"x", "bft_x", " "} {
		_, known, err := w.Authenticate(request(token))
		if known {
			t.Errorf("token %q is known", token)
		}
		wantFailure(t, err, job.NotAuthenticated)
	}
	wantFailure(t, w.StartSession(httptest.NewRecorder(), request(""), "nobody"), job.NotFound)
}

// TestSessionFixation: what somebody else knows is worth nothing after signing
// in, nor what one had before.
func TestSessionFixation(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "eve", bus.Viewer)
	planted := w.signIn(t, "eve")
	recorder := httptest.NewRecorder()
	if err := w.StartSession(recorder, planted, "alice"); err != nil {
		t.Fatal(err)
	}
	w.wantActor(t, "the planted session", planted, "", "")
	r := request("")
	r.AddCookie(recorder.Result().Cookies()[0])
	w.wantActor(t, "the new session", r, "operator:alice", bus.Admin)
}

func TestSessionsEndByThemselves(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	idle, used := w.signIn(t, "alice"), w.signIn(t, "alice")
	for hour := range 7*24/6 - 1 {
		w.advance(6 * time.Hour)
		w.wantActor(t, "used", used, "operator:alice", bus.Admin)
		if hour == 0 { // the other one was last used 6 hours ago
			continue
		}
		w.wantActor(t, "idle", idle, "", "")
	}
	w.advance(6*time.Hour - time.Second)
	w.wantActor(t, "a second before seven days", used, "operator:alice", bus.Admin)
	w.advance(time.Second)
	w.wantActor(t, "after seven days", used, "", "")

	w.signIn(t, "alice")
	sessions, err := w.store.Sessions()
	if err != nil || len(sessions) != 1 {
		t.Errorf("%d sessions are stored, %v; those that are over should be gone", len(sessions), err)
	}
}

func TestUseOfASessionIsSeldomStored(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	r := w.signIn(t, "alice")
	writes := w.writes(t, func() {
		for range 3600 {
			w.advance(time.Second)
			w.wantActor(t, "used", r, "operator:alice", bus.Admin)
		}
	})
	same(t, "transactions in an hour of use", uint64(4), writes)
}

func TestSessionsOfOneUserAreBounded(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Viewer)
	other, first := w.signIn(t, "bob"), w.signIn(t, "alice")
	var last *http.Request
	for range 50 {
		w.advance(time.Second)
		last = w.signIn(t, "alice")
	}
	w.wantActor(t, "the oldest", first, "", "")
	w.wantActor(t, "the newest", last, "operator:alice", bus.Admin)
	w.wantActor(t, "another's", other, "operator:bob", bus.Viewer)
	sessions, err := w.store.Sessions()
	if err != nil || len(sessions) != 51 {
		t.Errorf("%d sessions, %v", len(sessions), err)
	}
}

func TestEndSession(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	r, other := w.signIn(t, "alice"), w.signIn(t, "alice")
	for range 2 { // the second time there is none
		recorder := httptest.NewRecorder()
		if err := w.EndSession(recorder, r); err != nil {
			t.Fatal(err)
		}
		same(t, "cookie", "borgfleet_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", recorder.Header().Get("Set-Cookie"))
	}
	w.wantActor(t, "signed out", r, "", "")
	w.wantActor(t, "the other session", other, "operator:alice", bus.Admin)
	same(t, "audit", []string{"operator:alice logout user/alice done"}, w.audit(t, "logout"))
}

func TestSessionsSurviveARestart(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	r := w.signIn(t, "alice")
	w.restart(t, access.CheapCost)
	w.wantActor(t, "after a restart", r, "operator:alice", bus.Admin)
}

// TestStreamOfARemovedUser is an event stream: what is written arrives at once,
// and the stream learns that its reader has gone.
func TestStreamOfARemovedUser(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	r := w.signIn(t, "alice")
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		for {
			changed := w.Changed() // before looking, so that nothing is missed
			_, known, err := w.Authenticate(in)
			if err != nil || !known {
				return
			}
			_, _ = out.Write([]byte("known\n"))
			_ = http.NewResponseController(out).Flush()
			select {
			case <-changed:
			case <-in.Context().Done():
				return
			}
		}
	}))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = r.Header
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	if !lines.Scan() || lines.Text() != "known" {
		t.Fatalf("the stream begins with %q, %v", lines.Text(), lines.Err())
	}
	w.user(t, "bob", bus.Admin)
	if err := w.RemoveUser(t.Context(), root, "alice"); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // ends with the stream
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b)
	w.user(b, "alice", bus.Admin)
	for name, r := range map[string]*http.Request{"session": w.signIn(b, "alice"), "token": w.login(b, "alice")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, known, err := w.Authenticate(r); !known || err != nil {
					b.Fatal(known, err)
				}
			}
		})
	}
}

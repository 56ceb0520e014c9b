package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestChangePassword(t *testing.T) {
	w := rich().as(bus.Viewer)
	wantPage(t, "account", w.get(t, "/account"), http.StatusOK, "<h1>viewer</h1>", "Your role is <b>viewer</b>.", `autocomplete="current-password"`, "borgfleet passwd", `aria-current="page">viewer</a>`)
	form := url.Values{"old_password": {"correct horse"}, "password": {"battery staple"}, "again": {"battery staple"}}
	got := w.post(t, "/account/password", form)
	wantRedirect(t, "changed", got, "/account?changed=1")
	if cookie := got.Header().Get("Set-Cookie"); cookie != "session=viewer" {
		t.Errorf("cookie %q, want a new session of viewer", cookie)
	}
	if diff := cmp.Diff([]string{"password of operator:viewer http 192.0.2.1"}, w.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	wantPage(t, "told", w.get(t, "/account?changed=1"), http.StatusOK, "Your password was changed.", `role="status"`)
	wantRedirect(t, "reload", w.get(t, "/account/password"), "/account")
}

func TestRefusedChangeOfPassword(t *testing.T) {
	w := rich()
	for name, test := range map[string]struct {
		old, fresh, again string
		want              string
	}{
		"old":    {"wrong-one", "battery staple", "battery staple", `<p class="fault">The old password is wrong. An admin can`},
		"short":  {"correct horse", "x-short", "x-short", `<p class="fault">The password is too short. At least 8 characters</p>`},
		"differ": {"correct horse", "battery staple", "battery stable", "<p>The two passwords differ</p>"},
	} {
		got := w.post(t, "/account/password", url.Values{"old_password": {test.old}, "password": {test.fresh}, "again": {test.again}})
		wantPage(t, name, got, http.StatusBadRequest, test.want, `role="alert"`, `action="/account/password"`)
		for _, typed := range []string{test.old, test.fresh, test.again} {
			if strings.Contains(got.Body.String(), typed) {
				t.Errorf("%s: the page repeats a password", name)
			}
		}
		if got.Header().Get("Set-Cookie") != "" || got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: a refused change must start no session, and must not be kept", name)
		}
	}
	form := url.Values{"old_password": {"correct horse"}, "password": {"battery staple"}, "again": {"battery staple"}}
	w.denied = job.Fail(job.TooMany, "there were too many attempts to give the password").WithHint("try again in 30 s")
	wantPage(t, "too many", w.post(t, "/account/password", form), http.StatusTooManyRequests, "There were too many attempts", "Try again in 30 s")
	w.denied = job.Fail(job.Internal, "the store is broken")
	wantPage(t, "broken", w.post(t, "/account/password", form), http.StatusInternalServerError, "The store is broken")
	if len(w.did) > 0 {
		t.Errorf("did %v", w.did)
	}
}

func TestAccountWithoutPassword(t *testing.T) {
	for _, name := range []string{fleet.Local, "token:ci"} {
		w := rich()
		w.reader = &fleet.Actor{Name: name, Role: bus.Admin}
		got := w.get(t, "/account")
		wantPage(t, name, got, http.StatusOK, "is not a person, and has no password")
		if strings.Contains(got.Body.String(), "/account/password") {
			t.Errorf("%s is offered to change a password", name)
		}
	}
}

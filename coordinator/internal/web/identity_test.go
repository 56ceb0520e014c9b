package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// wantPage checks an answer: its status, that its markup is right, and what it
// says.
func wantPage(t *testing.T, what string, got *httptest.ResponseRecorder, status int, texts ...string) {
	t.Helper()
	page := got.Body.String()
	checkMarkup(t, what, page)
	if got.Code != status {
		t.Errorf("%s: status %d, want %d", what, got.Code, status)
	}
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("%s does not say %q", what, text)
		}
	}
}

// wantRedirect checks that an answer leads to another page.
func wantRedirect(t *testing.T, what string, got *httptest.ResponseRecorder, to string) {
	t.Helper()
	if got.Code != http.StatusSeeOther || got.Header().Get("Location") != to {
		t.Errorf("%s: status %d to %q, want 303 to %q", what, got.Code, got.Header().Get("Location"), to)
	}
}

// wantShownOnce checks that a secret is in an answer that nobody keeps.
func wantShownOnce(t *testing.T, what string, got *httptest.ResponseRecorder, secret, page string) {
	t.Helper()
	wantPage(t, what, got, http.StatusOK, secret, `data-reload="`+page+`"`)
	if got.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s: Cache-Control is %q, want no-store", what, got.Header().Get("Cache-Control"))
	}
}

func TestSignIn(t *testing.T) {
	w := rich()
	wantPage(t, "login", w.get(t, "/login?next=/jobs%3Fhost=web1"), http.StatusOK, `name="next" value="/jobs?host=web1"`, `autocomplete="current-password"`)
	got := w.post(t, "/login", url.Values{"name": {"alice"}, "password": {"correct horse"}, "next": {"/jobs?host=web1"}})
	wantRedirect(t, "login", got, "/jobs?host=web1")
	if cookie := got.Header().Get("Set-Cookie"); cookie != "session=alice" {
		t.Errorf("cookie %q, want a session of alice", cookie)
	}
	if diff := cmp.Diff([]string{"login alice http 10.0.0.7"}, w.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	wantRedirect(t, "logout", w.post(t, "/logout", nil), "/login")
	wantRedirect(t, "reload of logout", w.get(t, "/logout"), "/")
}

func TestRefusedSignIn(t *testing.T) {
	w := rich()
	got := w.post(t, "/login", url.Values{"name": {"alice"}, "password": {"wrong-one"}, "next": {"/jobs"}})
	wantPage(t, "wrong password", got, http.StatusUnauthorized, "<p>The name or the password is wrong.</p>", `value="alice"`, `value="/jobs"`, `role="alert"`)
	if strings.Contains(got.Body.String(), "wrong-one") || got.Header().Get("Set-Cookie") != "" || got.Header().Get("Cache-Control") != "no-store" {
		t.Error("a refused sign-in must not repeat the password, start a session, or be kept")
	}
	w.denied = job.Fail(job.TooMany, "too many attempts from your address").WithHint("try again in 30 s")
	wantPage(t, "too many", w.post(t, "/login", url.Values{"name": {"alice"}}), http.StatusTooManyRequests, "Too many attempts from your address. Try again in 30 s.")
	w.denied = job.Fail(job.Internal, "the store is broken")
	wantPage(t, "broken", w.post(t, "/login", url.Values{"name": {"alice"}}), http.StatusInternalServerError, "The store is broken")
}

func TestSignInLeadsNowhereElse(t *testing.T) {
	for _, next := range []string{
		"//evil.example.net", `/\evil.example.net`, `\\evil`, "https://evil.example.net", "javascript:alert(1)", "evil", "", "/login", "/login/oidc",
		"/logout", "/setup/x", "/live?path=/", "/\tevil", "http:/evil", "///evil",
	} {
		w := rich()
		wantRedirect(t, next, w.post(t, "/login", url.Values{"name": {"alice"}, "password": {"correct horse"}, "next": {next}}), "/")
		if page := w.get(t, "/login?next="+url.QueryEscape(next)).Body.String(); !strings.Contains(page, `name="next" value="/"`) {
			t.Errorf("the form passes %q on", next)
		}
	}
}

func TestOtherWayToSignIn(t *testing.T) {
	w := rich()
	if strings.Contains(w.get(t, "/login").Body.String(), "/login/oidc") {
		t.Error("another way to sign in is offered although there is none")
	}
	w.oidc = "Example & Sons"
	wantPage(t, "login", w.get(t, "/login?next=/jobs"), http.StatusOK, `href="/login/oidc?next=%2Fjobs">Sign in with Example &amp; Sons</a>`)
}

func TestSetUp(t *testing.T) {
	w := empty()
	w.link = "secret-1"
	wantPage(t, "first", w.get(t, "/setup/secret-1"), http.StatusOK, "Set up borgfleet", "<b>admin</b>", `autocomplete="new-password"`)
	form := url.Values{"name": {" alice "}, "password": {"correct horse"}, "again": {"correct house"}}
	got := w.post(t, "/setup/secret-1", form)
	wantPage(t, "two passwords", got, http.StatusBadRequest, "The two passwords differ", `value="alice"`)
	if strings.Contains(got.Body.String(), "correct ho") {
		t.Error("the page repeats the password")
	}
	form["password"], form["again"] = []string{"x"}, []string{"x"}
	wantPage(t, "short", w.post(t, "/setup/secret-1", form), http.StatusBadRequest, "is too short", "At least 8 characters", `class="fault"`)
	form["password"], form["again"] = []string{"correct horse"}, []string{"correct horse"}
	got = w.post(t, "/setup/secret-1", form)
	wantRedirect(t, "set-up", got, "/")
	if cookie := got.Header().Get("Set-Cookie"); cookie != "session=alice" {
		t.Errorf("cookie %q, want a session of alice", cookie)
	}
	for _, got := range []*httptest.ResponseRecorder{w.get(t, "/setup/secret-1"), w.post(t, "/setup/secret-1", form)} {
		wantPage(t, "spent", got, http.StatusNotFound, "This link no longer works", "borgfleet user link", "borgfleet user add NAME --role admin", `href="/login"`)
	}
	w.link, w.linkFor = "secret-2", "bob"
	wantPage(t, "invited", w.get(t, "/setup/secret-2"), http.StatusOK, "Welcome, bob", `value="bob"`, "readonly")
	form["name"] = []string{"mallory"}
	w.post(t, "/setup/secret-2", form)
	if last := w.did[len(w.did)-1]; last != "setup bob http 10.0.0.7" {
		t.Errorf("%q: whom a link is for is not up to who uses it", last)
	}
}

// Whoever the server around lets through without a role sees nothing.
func TestNobodySeesNothing(t *testing.T) {
	w := rich().as("")
	for _, address := range addresses() {
		wantRedirect(t, address, w.get(t, address), "/login"+nextOf(address))
	}
	if got := w.get(t, "/live?path=/"); got.Code != http.StatusUnauthorized {
		t.Errorf("live: status %d, want 401", got.Code)
	}
	for _, address := range []string{"/enrol", "/hosts/web1/backup", "/people/users", "/jobs/" + string(failedBackup) + "/retry", "/hosts/web1/remove"} {
		wantPage(t, address, w.post(t, address, url.Values{"confirm": {"web1"}}), http.StatusUnauthorized, "You are not signed in", `href="/login"`)
	}
	if len(w.did) > 0 || len(w.submitted) > 0 {
		t.Errorf("done: %v %v", w.did, w.submitted)
	}
}

func nextOf(address string) string {
	if address == "/" {
		return ""
	}
	return "?next=" + url.QueryEscape(address)
}

func TestPagesHideWhatWouldBeRefused(t *testing.T) {
	action := regexp.MustCompile(`<form[^>]* method="post"[^>]*>`)
	for _, address := range addresses() {
		page := rich().as(bus.Viewer).get(t, address).Body.String()
		for _, form := range action.FindAllString(page, -1) {
			if !regexp.MustCompile(`action="(/logout|/account/password)"`).MatchString(form) {
				t.Errorf("%s: a viewer is offered %s", address, form)
			}
		}
		if needs := regexp.MustCompile(`href="[^"]*/(restore|mount|compare|download|delete|repair|prune|check|compact|verify|force-unmount)["?]`).FindString(page); needs != "" {
			t.Errorf("%s: a viewer is offered %s", address, needs)
		}
		page = rich().as(bus.Operator).get(t, address).Body.String()
		asked := strings.HasSuffix(address, "/prune") || strings.HasSuffix(address, "/force-unmount") || strings.HasSuffix(address, "/pause") || strings.HasPrefix(address, "/alerts/silence") // pages that ask are sent to themselves
		for _, form := range action.FindAllString(page, -1) {
			if asked && !strings.HasPrefix(address, "/repositories/") {
				continue
			}
			if !regexp.MustCompile(`action="(/logout|/account/password|/jobs/\w+/(cancel|retry)|/hosts/[\w-]+/(backup|verify)|/repositories/[\w-]+/(run|refresh|check|compact|prune|verify|mount)|/jobs/\w+/unmount|/plans/[\w-]+/(run|resume|accept|restore-test)|/runs/\w+/cancel|/silences/\w+/end|/repositories/web1-main/archives/[^/"]+/(files(\?path=[^"]*)?|restore|mount|compare))"`).MatchString(form) {
				t.Errorf("%s: an operator is offered %s", address, form)
			}
		}
		for _, only := range []string{`href="/people"`, `href="/audit"`, `href="/enrol"`, `/remove"`, `value="init"`, `/delete?`, `/delete"`, `/repair`, `name="accept_moved"`, "--repair", `name="archive" type="checkbox"`} {
			if strings.Contains(page, only) && address != "/jobs" && !strings.HasPrefix(address, "/jobs?") {
				t.Errorf("%s: an operator is offered %s", address, only)
			}
		}
	}
	wantPage(t, "job of an operator", rich().as(bus.Operator).get(t, "/jobs/"+string(failedBackup)), http.StatusOK, `/retry"`, "operator</span>", `aria-label="Sign out operator, operator"`)
	if page := rich().as(bus.Operator).get(t, "/jobs/"+string(initJob)).Body.String(); strings.Contains(page, `/retry"`) {
		t.Error("an operator is offered to create a repository once more")
	}
	wantPage(t, "host of an admin", rich().get(t, "/hosts/web1"), http.StatusOK, `href="/hosts/web1/remove"`, "Back up now", `href="/people"`, `href="/account"`, "alice</a>")
}

func TestAdminPagesRefuseOthers(t *testing.T) {
	for _, role := range []bus.Role{bus.Viewer, bus.Operator} {
		w := rich().as(role)
		for _, address := range []string{"/people", "/people/users/bob", "/audit", "/audit?verify=1", "/enrol", "/enrol?wait=web1&since=0", "/hosts/web1/remove", "/people/tokens/T1/remove", "/repositories/nas/break-lock?host=db1", "/new-plan", "/plans/web1-daily/change", "/plans/web1-daily/remove", "/notifications", "/notifications/targets/ops/remove", "/notifications/rules/nights/remove"} {
			wantPage(t, address, w.get(t, address), http.StatusForbidden, "Not allowed", "needs the role admin")
			if got := w.get(t, "/live?path="+url.QueryEscape(address)); strings.Contains(got.Body.String(), "fragments\":{\"") {
				t.Errorf("%s: the stream tells a %s what the page does not", address, role)
			}
		}
		w.post(t, "/hosts/web1/remove", url.Values{"confirm": {"web1"}})
		if len(w.did) > 0 {
			t.Errorf("a %s did %v", role, w.did)
		}
	}
	w := rich()
	w.refuse = job.Fail(job.NotAllowed, "only an admin may do that").WithHint("you are an operator")
	for address, form := range map[string]url.Values{
		"/hosts/web1/backup": {"repository": {"nas"}, "paths": {"/etc"}}, "/enrol": {"host": {"web7"}}, "/people/users": {"name": {"dan"}},
		"/people/users/bob/role": {"role": {"admin"}}, "/hosts/web1/remove": {"confirm": {"web1"}}, "/jobs/" + string(failedBackup) + "/retry": nil,
	} {
		wantPage(t, address, w.post(t, address, form), http.StatusForbidden, "nly an admin may do that", "ou are an operator")
	}
}

func TestAddHost(t *testing.T) {
	w := rich()
	form := url.Values{"key": {keyOf(t, w.get(t, "/enrol").Body.String(), "/enrol")}, "host": {" web7 "}, "replace": {"1"}}
	handler := w.handler(t)
	first := send(handler, "/enrol", form)
	waits := "/enrol?since=" + "1795356442000" + "&amp;wait=web7"
	wantShownOnce(t, "command", first, enrolLine, waits)
	wantPage(t, "command", first, http.StatusOK, "Waiting for web7", "until <time", `data-live="`+waits+`"`, "<noscript>")
	wantRedirect(t, "sent again", send(handler, "/enrol", form), strings.ReplaceAll(waits, "&amp;", "&"))
	if diff := cmp.Diff([]string{"token for web7 1h0m0s replace"}, w.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	reloaded := w.get(t, strings.ReplaceAll(waits, "&amp;", "&"))
	wantPage(t, "reloaded", reloaded, http.StatusOK, "Waiting for web7", "make a new one")
	if strings.Contains(reloaded.Body.String(), enrolLine) {
		t.Error("a reload shows the token once more")
	}
	bad := w.post(t, "/enrol", url.Values{"host": {"Web"}, "replace": {"1"}})
	wantPage(t, "bad name", bad, http.StatusBadRequest, "cannot be a name", `value="Web"`, " checked", `class="fault"`)
	wantPage(t, "bad address", w.get(t, "/enrol?wait=web7&since=now"), http.StatusBadRequest, "not a time")
}

// keyOf is the key of the form that is sent to an address.
func keyOf(t *testing.T, page, action string) string {
	t.Helper()
	match := regexp.MustCompile(`action="` + action + `">\s*<input type="hidden" name="key" value="([^"]+)">`).FindStringSubmatch(page)
	if match == nil {
		t.Fatalf("the form to %s has no key", action)
	}
	return match[1]
}

// send sends a form to a handler that stays.
func send(handler http.Handler, address string, form url.Values) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func TestWaitForHost(t *testing.T) {
	w := rich()
	messages := w.listen(t, "/enrol?wait=web7&since=1795356442000")
	until(t, messages, "the wait", func(m message) bool { return strings.Contains(m.Fragments["enrol-head"], "Waiting for web7") })
	fresh := host("web7", "", 0)
	fresh.EnrolledAt, fresh.Online, fresh.Facts.SeenAt = pointer(noon.Add(time.Second)), false, noon
	w.change(feed.Update{Type: feed.HostChanged, Host: "web7"}, func() { w.hosts = append(w.hosts, fresh) })
	m := until(t, messages, "the identity", func(m message) bool { return m.Fragments["enrol-head"] != "" })
	if !strings.Contains(m.Fragments["enrol-head"], "web7 is enrolled") || strings.Contains(m.raw, "1.2.4") {
		t.Errorf("got %s", m.raw)
	}
	seen := *fresh.Facts
	seen.SeenAt = noon.Add(2 * time.Second)
	w.change(feed.Update{Type: feed.HostChanged, Host: "web7"}, func() {
		last := &w.hosts[len(w.hosts)-1]
		last.Online, last.Facts = true, &seen
	})
	m = until(t, messages, "the agent", anything)
	if m.Title != "web7 is connected" || !strings.Contains(m.Fragments["enrol-state"], "1.2.4") || !strings.Contains(m.Fragments["enrol-state"], `href="/hosts/web7"`) {
		t.Errorf("got %s", m.raw)
	}
}

// A host that is replaced is known, and may be connected with its old agent.
func TestWaitForReplacement(t *testing.T) {
	w := rich()
	w.hosts[0].EnrolledAt = pointer(noon.AddDate(0, -1, 0))
	address := "/enrol?wait=db1&since=1795356442000"
	wantPage(t, "old agent", w.get(t, address), http.StatusOK, "Waiting for db1")
	w.hosts[0].EnrolledAt = pointer(noon)
	wantPage(t, "new identity", w.get(t, address), http.StatusOK, "db1 is enrolled")
	w.hosts[0].Facts.SeenAt = noon.Add(time.Second)
	wantPage(t, "new agent", w.get(t, address), http.StatusOK, "db1 is connected")
	w.now = noon.Add(2 * time.Hour)
	wantPage(t, "expired", w.get(t, "/enrol?wait=web7&since=1795356442000"), http.StatusOK, "has expired", `href="/enrol?host=web7"`)
}

func TestPeople(t *testing.T) {
	page := rich().get(t, "/people")
	wantPage(t, "people", page, http.StatusOK, "3 people may sign in", `href="/people/users/bob"`, "invited", "1 h ago", "22 Jan 2027", "expired", "revoked",
		`href="/people/tokens/T1/remove"`, `href="/people/credentials/eve/revoke"`, "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4")
	if strings.Contains(page.Body.String(), "/people/credentials/old/revoke") {
		t.Error("what is revoked can be revoked again")
	}
	wantPage(t, "bob", rich().get(t, "/people/users/bob"), http.StatusOK, "has never signed in", "bob&#39;s laptop", `<option value="operator" selected>`, `href="/audit?by=operator%3Abob"`)
	wantPage(t, "nobody", rich().get(t, "/people/users/nobody"), http.StatusNotFound, "There is no user")
}

func TestSecretsAreShownOnce(t *testing.T) {
	tests := []struct {
		address, page, secret, did string
		form                       url.Values
	}{
		{"/people/users", "/people", "http://example.com/setup/" + linkToken, "add user dan operator", url.Values{"name": {"dan"}, "role": {"operator"}}},
		{"/people/tokens", "/people", apiToken, "add token ci admin 720h0m0s", url.Values{"name": {"ci"}, "role": {"admin"}, "days": {"30"}}},
		{"/people/credentials", "/people", "SECRET-CREDENTIALS", "mint dan viewer", url.Values{"name": {"dan"}, "role": {"viewer"}}},
		{"/people/users/bob/link", "/people/users/bob", "http://example.com/setup/" + linkToken, "link bob", url.Values{}},
	}
	for _, test := range tests {
		w := rich()
		handler := w.handler(t)
		test.form.Set("key", keyOf(t, w.get(t, test.page).Body.String(), test.address))
		wantShownOnce(t, test.address, send(handler, test.address, test.form), test.secret, test.page)
		wantRedirect(t, test.address+" again", send(handler, test.address, test.form), test.page)
		if diff := cmp.Diff([]string{test.did}, w.did); diff != "" {
			t.Errorf("%s: did (-want +got):\n%s", test.address, diff)
		}
		wantRedirect(t, test.address+" read", w.get(t, test.address), test.page)
		if strings.Contains(w.get(t, test.page).Body.String(), "SECRET") {
			t.Errorf("%s: the page shows the secret later on", test.address)
		}
	}
}

func TestRefusedGrantKeepsWhatWasTyped(t *testing.T) {
	w := rich()
	w.refuse = job.Invalid("name", "%q cannot be a name", "D an")
	for _, address := range []string{"/people/users", "/people/tokens", "/people/credentials"} {
		got := w.post(t, address, url.Values{"name": {"D an"}, "role": {"operator"}, "days": {"7"}})
		wantPage(t, address, got, http.StatusBadRequest, `value="D an"`, `<option value="operator" selected>`, "<details open>", "cannot be a name")
		if strings.Count(got.Body.String(), "<details open>") != 1 || strings.Contains(got.Body.String(), "SECRET") {
			t.Errorf("%s: want the one form open that was sent, and no secret", address)
		}
	}
	wantPage(t, "days", rich().post(t, "/people/tokens", url.Values{"name": {"x"}, "days": {"-1"}}), http.StatusBadRequest, "not a number of days")
	w.refuse = job.Fail(job.Conflict, "alice is the last admin who can sign in")
	wantPage(t, "role", w.post(t, "/people/users/alice/role", url.Values{"role": {"viewer"}}), http.StatusConflict, "Alice is the last admin", `data-build`)
	wantRedirect(t, "role read", w.get(t, "/people/users/alice/role"), "/people/users/alice")
	good := rich()
	wantRedirect(t, "role", good.post(t, "/people/users/bob/role", url.Values{"role": {"admin"}}), "/people/users/bob")
	if !slices.Equal(good.did, []string{"role bob admin"}) {
		t.Errorf("did %v", good.did)
	}
}

func TestRemovalIsConfirmed(t *testing.T) {
	tests := []struct{ address, says, ask, did, after string }{
		{"/hosts/web1/remove", "connection is cut at once", "web1", "remove host web1", "/hosts"},
		{"/people/users/bob/remove", "signed out everywhere", "", "remove user bob", "/people"},
		{"/people/tokens/T1/remove", "is refused from now on", "", "remove token T1", "/people"},
		{"/people/credentials/eve/revoke", "are cut at once", "", "revoke eve", "/people"},
	}
	for _, test := range tests {
		w := rich()
		wantPage(t, test.address, w.get(t, test.address), http.StatusOK, test.says, "borgfleet --data /srv/borgfleet", `class="btn danger"`)
		if test.ask != "" {
			wantPage(t, test.address, w.post(t, test.address, url.Values{"confirm": {"web"}}), http.StatusBadRequest, "Type <code>web1</code> to confirm", `value="web"`)
		}
		if len(w.did) > 0 {
			t.Errorf("%s: did %v before it was confirmed", test.address, w.did)
		}
		w.refuse = job.Fail(job.Conflict, "not now")
		wantPage(t, test.address, w.post(t, test.address, url.Values{"confirm": {test.ask}}), http.StatusConflict, "Not now")
		w.refuse = nil
		wantRedirect(t, test.address, w.post(t, test.address, url.Values{"confirm": {test.ask}}), test.after)
		if !slices.Equal(w.did, []string{test.did}) {
			t.Errorf("%s: did %v, want %s", test.address, w.did, test.did)
		}
	}
	wantPage(t, "host", rich().get(t, "/hosts/web1/remove"), http.StatusOK, "queued jobs are dropped", "archives stay")
	for _, address := range []string{"/hosts/nobody/remove", "/people/users/nobody/remove", "/people/tokens/T9/remove", "/people/credentials/old/revoke"} {
		wantPage(t, address, rich().get(t, address), http.StatusNotFound)
		wantPage(t, address, rich().post(t, address, url.Values{"confirm": {"nobody"}}), http.StatusNotFound)
	}
}

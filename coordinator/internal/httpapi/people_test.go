package httpapi_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const sealBody = `{"sealed":{"web1":{"sender":"XSENDER","ciphertext":"c2VhbGVk","seal_key":"XKEY"}}}`

// as sends a request with another token; "" is none.
func (s *served) as(token, method, path, body string) *httptest.ResponseRecorder {
	r := request(method, path, body)
	r.Header.Del("Authorization")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return s.do(r)
}

// ask sends a request that must go well, and returns its answer.
func (s *served) ask(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	answer := s.do(request(method, "/api/v1"+path, body))
	if answer.Code >= 300 {
		t.Fatalf("%s %s: status %d: %s", method, path, answer.Code, answer.Body)
	}
	if answer.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s may be stored by a cache", method, path)
	}
	if answer.Code == http.StatusNoContent {
		return nil
	}
	return decode[map[string]any](t, answer.Body.Bytes())
}

func check(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestPeople(t *testing.T) {
	s := serve(t, nil)
	bob := map[string]any{
		"name": "bob", "role": "viewer", "created_at": "2026-11-22T02:00:00Z", "created_by": "operator:local", "has_password": false, "last_login": nil,
	}
	added := s.ask(t, "POST", "/users", `{"name":"bob","role":"viewer"}`)
	check(t, "link", "https://backup.example.net:8440/setup/secret-link", added["setup_url"])
	check(t, "end of link", "2026-11-23T02:00:00Z", added["setup_expires_at"])
	delete(added, "setup_url")
	delete(added, "setup_expires_at")
	check(t, "added", bob, added)
	check(t, "list", map[string]any{"users": []any{bob}}, s.ask(t, "GET", "/users", ""))
	check(t, "link", map[string]any{
		"setup_url": "https://backup.example.net:8440/setup/secret-link-2", "setup_expires_at": "2026-11-23T02:00:00Z",
	}, s.ask(t, "POST", "/users/bob/link", ""))
	bob["role"] = "admin"
	check(t, "changed", bob, s.ask(t, "PATCH", "/users/bob", `{"role":"admin"}`))
	s.ask(t, "DELETE", "/users/bob", "")
	check(t, "list", map[string]any{"users": []any{}}, s.ask(t, "GET", "/users", ""))
}

func TestTokens(t *testing.T) {
	s := serve(t, nil)
	added := s.ask(t, "POST", "/tokens", `{"name":"ci","role":"operator"}`)
	check(t, "token", "secret-of-t1", added["token"])
	check(t, "lifetime", 90*24*time.Hour, s.door.lifetime)
	delete(added, "token")
	check(t, "list", map[string]any{"tokens": []any{added}}, s.ask(t, "GET", "/tokens", ""))
	s.ask(t, "POST", "/tokens", `{"name":"ci","role":"operator","expires_seconds":60}`)
	check(t, "lifetime", time.Minute, s.door.lifetime)
	s.ask(t, "DELETE", "/tokens/t1", "")
	check(t, "list", map[string]any{"tokens": []any{}}, s.ask(t, "GET", "/tokens", ""))
}

func TestNATSCredentials(t *testing.T) {
	s := serve(t, nil)
	minted := s.ask(t, "POST", "/nats-credentials", `{"name":"alice","role":"viewer"}`)
	check(t, "credentials", "secret-seed\nof alice", minted["credentials"])
	delete(minted, "credentials")
	check(t, "list", map[string]any{"credentials": []any{minted}}, s.ask(t, "GET", "/nats-credentials", ""))
	s.ask(t, "DELETE", "/nats-credentials/alice", "")
	minted["revoked_at"] = "2026-11-22T02:00:00Z"
	check(t, "list", map[string]any{"credentials": []any{minted}}, s.ask(t, "GET", "/nats-credentials", ""))
}

func TestEnrolmentTokens(t *testing.T) {
	s := serve(t, nil)
	check(t, "issued", map[string]any{
		"id": "e1", "host": "web1", "replace": true, "created_at": "2026-11-22T02:00:00Z", "created_by": "operator:local",
		"expires_at": "2026-11-22T02:02:00Z", "spent_at": nil,
		"token": "secret-enrolment", "url": "tls://127.0.0.1:4222", "command": "enroll --token secret-enrolment",
	}, s.ask(t, "POST", "/enrolment-tokens", `{"host":"web1","expires_seconds":120,"replace":true}`))
	s.ask(t, "DELETE", "/enrolment-tokens/e1", "")
	s.ask(t, "POST", "/enrolment-tokens", `{"host":"web2"}`)
	check(t, "lifetime", time.Hour, s.door.lifetime)
	listed := s.ask(t, "GET", "/enrolment-tokens", "")["tokens"].([]any)
	if len(listed) != 1 || at(listed[0], "host") != "web2" || at(listed[0], "token") != nil {
		t.Errorf("list %v", listed)
	}
}

func TestAudit(t *testing.T) {
	s := serve(t, nil)
	check(t, "no entries", map[string]any{"entries": []any{}, "before": 7.0}, s.ask(t, "GET", "/audit", ""))
	check(t, "filter", fleet.AuditFilter{Limit: 100}, s.door.filter)
	s.door.entries = []fleet.AuditEntry{{Number: 1, At: exampleDay, By: "operator:alice", From: "http 10.0.0.7", Action: "host.add", Object: "host/web1", Outcome: "done", Hash: "ab"}}
	page := s.ask(t, "GET", "/audit?by=operator:alice&action=host.&object=host/web1&before=9&limit=1", "")
	check(t, "filter", fleet.AuditFilter{By: "operator:alice", Action: "host.", Object: "host/web1", Before: 9, Limit: 1}, s.door.filter)
	check(t, "page", []any{map[string]any{
		"number": 1.0, "at": "2026-11-22T02:00:00Z", "by": "operator:alice", "from": "http 10.0.0.7", "action": "host.add",
		"object": "host/web1", "outcome": "done", "hash": "ab",
	}}, page["entries"])
	check(t, "proof", map[string]any{"entries": 7.0, "head": "abc", "intact": true, "broken_at": 0.0, "message": "fine"}, s.ask(t, "GET", "/audit/verify", ""))
}

func TestLoginGivesATokenThatLogoutEnds(t *testing.T) {
	s := serve(t, nil)
	answer := s.as("", "POST", "/api/v1/login", `{"name":"alice","password":"correct horse","token_name":"laptop"}`)
	check(t, "login", map[string]any{
		"token": "secret-of-login-1", "expires_at": "2026-12-22T02:00:00Z", "name": "operator:alice", "role": "operator",
	}, decode[map[string]any](t, answer.Body.Bytes()))
	check(t, "attempts", []string{"alice http 127.0.0.1"}, s.door.attempts)
	check(t, "its name", "laptop", s.door.tokens[0].Name)
	who := s.as("secret-of-login-1", "GET", "/api/v1/whoami", "")
	check(t, "who am I", map[string]any{"name": "operator:alice", "role": "operator", "from": "http 127.0.0.1"}, decode[map[string]any](t, who.Body.Bytes()))
	if answer := s.as("secret-of-login-1", "POST", "/api/v1/logout", ""); answer.Code != http.StatusNoContent {
		t.Errorf("logout: %d %s", answer.Code, answer.Body)
	}
	checkProblem(t, s.as("secret-of-login-1", "GET", "/api/v1/whoami", ""), http.StatusUnauthorized, job.NotAuthenticated)
	checkProblem(t, s.as(adminToken, "POST", "/api/v1/logout", ""), http.StatusBadRequest, job.InvalidRequest)
}

func TestChangingOnesPassword(t *testing.T) {
	s := serve(t, nil)
	checkProblem(t, s.as(adminToken, "POST", "/api/v1/password", `{"old_password":"guess","new_password":"another one"}`), http.StatusBadRequest, job.InvalidRequest)
	if answer := s.as(adminToken, "POST", "/api/v1/password", `{"old_password":"`+goodPassword+`","new_password":"another one"}`); answer.Code != http.StatusNoContent {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	check(t, "chosen", []string{"operator:local chose another one"}, s.door.attempts)
}

func TestLoginsAreLimitedAndCounted(t *testing.T) {
	s := serve(t, nil)
	for i, want := range []int{401, 401, 200, 429, 429} {
		password := map[bool]string{true: goodPassword, false: "guess"}[want != 401]
		answer := s.as("", "POST", "/api/v1/login", `{"name":"alice","password":"`+password+`"}`)
		if answer.Code != want {
			t.Errorf("attempt %d: status %d, want %d: %s", i, answer.Code, want, answer.Body)
		}
		if wait := answer.Header().Get("Retry-After"); (wait != "") != (want == 429) {
			t.Errorf("attempt %d: Retry-After %q", i, wait)
		}
	}
	text := scrape(t, s)
	for _, line := range []string{`{outcome="good"} 1`, `{outcome="refused"} 2`, `{outcome="limited"} 2`, `{outcome="failed"} 0`} {
		if !strings.Contains(text, "\nborgfleet_logins_total"+line) {
			t.Errorf("no borgfleet_logins_total%s", line)
		}
	}
}

func TestSealedPassphrases(t *testing.T) {
	s := serve(t, nil)
	want := map[string]fleet.SealedPassphrase{"web1": {Sealed: secret.Sealed{Sender: "XSENDER", Ciphertext: []byte("sealed")}, SealKey: "XKEY"}}
	added := s.ask(t, "POST", "/repositories", `{"name":"r","location":"/r","custody":"hosts",`+sealBody[1:])
	check(t, "custody", "hosts", added["custody"])
	check(t, "sealed", want, s.sealed)
	s.sealed = nil
	check(t, "hosts", []any{"web1"}, s.ask(t, "PATCH", "/repositories/r", sealBody)["sealed_for"])
	check(t, "location", any("/elsewhere"), s.ask(t, "PATCH", "/repositories/r", `{"location":"/elsewhere"}`)["location"])
	check(t, "sealed", want, s.sealed)
}

func TestWhatIsRefused(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	for name, test := range map[string]struct {
		token, method, path, body string
		status                    int
		code                      job.Code
	}{
		"unknown user":                {adminToken, "PATCH", "/users/nobody", `{"role":"admin"}`, 404, job.NotFound},
		"link for an unknown user":    {adminToken, "POST", "/users/nobody/link", "", 404, job.NotFound},
		"removal of an unknown user":  {adminToken, "DELETE", "/users/nobody", "", 404, job.NotFound},
		"unknown token":               {adminToken, "DELETE", "/tokens/x", "", 404, job.NotFound},
		"unknown credentials":         {adminToken, "DELETE", "/nats-credentials/x", "", 404, job.NotFound},
		"unknown enrolment token":     {adminToken, "DELETE", "/enrolment-tokens/x", "", 404, job.NotFound},
		"unknown repository":          {adminToken, "PATCH", "/repositories/other", sealBody, 404, job.UnknownRepository},
		"viewer lists users":          {viewerToken, "GET", "/users", "", 403, job.NotAllowed},
		"viewer adds a user":          {viewerToken, "POST", "/users", `{"name":"eve","role":"admin"}`, 403, job.NotAllowed},
		"viewer gives a role":         {viewerToken, "PATCH", "/users/bob", `{"role":"admin"}`, 403, job.NotAllowed},
		"viewer makes a link":         {viewerToken, "POST", "/users/bob/link", "", 403, job.NotAllowed},
		"viewer removes a user":       {viewerToken, "DELETE", "/users/bob", "", 403, job.NotAllowed},
		"viewer lists tokens":         {viewerToken, "GET", "/tokens", "", 403, job.NotAllowed},
		"viewer adds a token":         {viewerToken, "POST", "/tokens", `{"name":"x","role":"admin"}`, 403, job.NotAllowed},
		"viewer removes a token":      {viewerToken, "DELETE", "/tokens/t1", "", 403, job.NotAllowed},
		"viewer lists credentials":    {viewerToken, "GET", "/nats-credentials", "", 403, job.NotAllowed},
		"viewer mints credentials":    {viewerToken, "POST", "/nats-credentials", `{"name":"x","role":"admin"}`, 403, job.NotAllowed},
		"viewer revokes credentials":  {viewerToken, "DELETE", "/nats-credentials/x", "", 403, job.NotAllowed},
		"viewer lists enrolments":     {viewerToken, "GET", "/enrolment-tokens", "", 403, job.NotAllowed},
		"viewer enrols":               {viewerToken, "POST", "/enrolment-tokens", `{"host":"web9"}`, 403, job.NotAllowed},
		"viewer ends an enrolment":    {viewerToken, "DELETE", "/enrolment-tokens/e1", "", 403, job.NotAllowed},
		"viewer reads the audit":      {viewerToken, "GET", "/audit", "", 403, job.NotAllowed},
		"viewer verifies the audit":   {viewerToken, "GET", "/audit/verify", "", 403, job.NotAllowed},
		"viewer adds a host":          {viewerToken, "POST", "/hosts", `{"name":"web9"}`, 403, job.NotAllowed},
		"viewer seals":                {viewerToken, "PATCH", "/repositories/main", sealBody, 403, job.NotAllowed},
		"user without a name":         {adminToken, "POST", "/users", `{"name":"","role":"viewer"}`, 400, job.InvalidRequest},
		"user without a role":         {adminToken, "POST", "/users", `{"name":"bob"}`, 400, job.InvalidRequest},
		"user with an odd role":       {adminToken, "POST", "/users", `{"name":"bob","role":"root"}`, 400, job.InvalidRequest},
		"odd role":                    {adminToken, "PATCH", "/users/bob", `{"role":"root"}`, 400, job.InvalidRequest},
		"token for a second":          {adminToken, "POST", "/tokens", `{"name":"x","role":"viewer","expires_seconds":1}`, 400, job.InvalidRequest},
		"token that lives for ever":   {adminToken, "POST", "/tokens", `{"name":"x","role":"viewer","expires_seconds":9223372036854775807}`, 400, job.InvalidRequest},
		"credentials of an odd role":  {adminToken, "POST", "/nats-credentials", `{"name":"x","role":"agent"}`, 400, job.InvalidRequest},
		"enrolment for a month":       {adminToken, "POST", "/enrolment-tokens", `{"host":"web9","expires_seconds":2592000}`, 400, job.InvalidRequest},
		"enrolment of an odd host":    {adminToken, "POST", "/enrolment-tokens", `{"host":"a.b"}`, 400, job.InvalidRequest},
		"audit of no entries":         {adminToken, "GET", "/audit?limit=0", "", 400, job.InvalidRequest},
		"audit before a word":         {adminToken, "GET", "/audit?before=x", "", 400, job.InvalidRequest},
		"audit before a negative one": {adminToken, "GET", "/audit?before=-1", "", 400, job.InvalidRequest},
		"login without a password":    {"", "POST", "/login", `{"name":"alice"}`, 400, job.InvalidRequest},
		"logout of nobody":            {"", "POST", "/logout", "", 401, job.NotAuthenticated},
		"odd custody":                 {adminToken, "POST", "/repositories", `{"name":"r","location":"/r","custody":"me"}`, 400, job.InvalidRequest},
		"viewer moves":                {viewerToken, "PATCH", "/repositories/main", `{"location":"/x"}`, 403, job.NotAllowed},
		"unknown repository moves":    {adminToken, "PATCH", "/repositories/other", `{"location":"/x"}`, 404, job.UnknownRepository},
		"neither moved nor sealed":    {adminToken, "PATCH", "/repositories/main", `{}`, 400, job.InvalidRequest},
		"sealed for nobody":           {adminToken, "PATCH", "/repositories/main", `{"sealed":{}}`, 400, job.InvalidRequest},
		"sealed without a key":        {adminToken, "PATCH", "/repositories/main", `{"sealed":{"web1":{"sender":"X","ciphertext":""}}}`, 400, job.InvalidRequest},
		"sealed with more":            {adminToken, "PATCH", "/repositories/main", strings.Replace(sealBody, `"sender"`, `"secret":"x","sender"`, 1), 400, job.InvalidRequest},
		"another thing of a repo":     {adminToken, "PATCH", "/repositories/main", `{"encryption":"none"}`, 400, job.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			checkProblem(t, s.as(test.token, test.method, "/api/v1"+test.path, test.body), test.status, test.code)
		})
	}
	if n := len(s.door.users) + len(s.door.tokens) + len(s.door.credentials) + len(s.door.enrolments) + len(s.hosts) - 1; n != 0 {
		t.Errorf("%d things were made all the same", n)
	}
}

// TestSecretsAreNotLogged does everything that has a secret in its request or
// its answer, with the most talkative log.
func TestSecretsAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	s := serve(t, func(o *httpapi.Options) {
		o.Logger = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace})
		o.Mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	})
	s.ask(t, "POST", "/users", `{"name":"bob","role":"viewer"}`)
	s.ask(t, "POST", "/users/bob/link", "")
	s.ask(t, "POST", "/tokens", `{"name":"ci","role":"viewer"}`)
	s.ask(t, "POST", "/nats-credentials", `{"name":"ci","role":"viewer"}`)
	s.ask(t, "POST", "/enrolment-tokens", `{"host":"web1"}`)
	s.ask(t, "POST", "/login", `{"name":"alice","password":"`+goodPassword+`"}`)
	s.ask(t, "POST", "/repositories", `{"name":"r","location":"/r","passphrase":"secret-phrase"}`)
	for _, bad := range []string{`{"name":"alice","password":["secret-guess"]}`, `{"name":"alice","password":"secret-guess","x":1}`, `{"password":"secret-guess"`} {
		if answer := s.do(request("POST", "/api/v1/login", bad)); answer.Code != 400 || strings.Contains(answer.Body.String(), "secret-guess") {
			t.Errorf("%s: %d %s", bad, answer.Code, answer.Body)
		}
	}
	s.do(request("GET", "/setup/secret-link", ""))
	s.do(request("POST", "/setup/secret-link?x=secret-query", ""))
	for _, secret := range []string{"secret-", goodPassword, adminToken} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q was logged:\n%s", secret, &log)
		}
	}
	if !strings.Contains(log.String(), "path=/setup/[redacted]") {
		t.Errorf("the set-up is not in the log:\n%s", &log)
	}
}

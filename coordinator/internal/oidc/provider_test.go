package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"golang.org/x/oauth2"
)

// provider is a small identity provider that lets everybody in as alice. It is
// as strict as the specifications want.
type provider struct {
	oidctest.Server
	url  string
	key  *ecdsa.PrivateKey
	now  func() time.Time
	mu   sync.Mutex
	open map[string]url.Values // code → the request that it answers

	arrived, answer chan struct{} // set at the start: who wants a token tells, and waits

	// What a test changes.
	secret string
	post   bool                      // takes the client's secret in the form only
	away   bool                      // answers nothing
	change map[string]any            // in the ID token; nil removes a claim
	forge  func(token string) string // the signed ID token
	info   map[string]any            // at the endpoint for it; nil: there is none

	asked   map[string]int // by path: how often
	scope   string         // that was asked for last
	secrets []string       // that were given out
}

func newProvider(t testing.TB, now func() time.Time) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, now: now, open: map[string]url.Values{}, secret: "client & secret", asked: map[string]int{}}
	p.PublicKeys = []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "one", Algorithm: "ES256"}}
	p.Algorithms = []string{"ES256"}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	p.SetIssuer(server.URL)
	return p
}

// set changes what the provider does.
func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[path]
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" && p.arrived != nil {
		p.arrived <- struct{}{}
		<-p.answer
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[r.URL.Path]++
	switch {
	case p.away:
		http.Error(w, "away", http.StatusBadGateway)
	case r.URL.Path == "/auth":
		p.authorize(w, r)
	case r.URL.Path == "/token":
		p.token(w, r)
	case r.URL.Path == "/info":
		_ = json.NewEncoder(w).Encode(p.info)
	case r.URL.Path == "/.well-known/openid-configuration":
		p.discovery(w, r)
	default:
		p.Server.ServeHTTP(w, r)
	}
}

// discovery adds to the library's document.
func (p *provider) discovery(w http.ResponseWriter, r *http.Request) {
	recorder := httptest.NewRecorder()
	p.Server.ServeHTTP(recorder, r)
	var document map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &document); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	document["scopes_supported"] = []string{"openid", "profile", "groups"}
	if p.post {
		document["token_endpoint_auth_methods_supported"] = []string{"client_secret_post"}
	}
	if p.info != nil {
		document["userinfo_endpoint"] = p.url + "/info"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document)
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	back, err := url.Parse(query.Get("redirect_uri"))
	if err != nil || query.Get("client_id") != client || query.Get("response_type") != "code" ||
		query.Get("code_challenge_method") != "S256" || query.Get("nonce") == "" {
		http.Error(w, "a bad request: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	code := "code-" + rand.Text()
	p.open[code], p.scope, p.secrets = query, query.Get("scope"), append(p.secrets, code)
	answer := url.Values{"state": {query.Get("state")}, "code": {code}}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusSeeOther)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	id, secret = unescape(id), unescape(secret)
	if p.post {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if basic == p.post || id != client || secret != p.secret {
		refuse(w, "invalid_client")
		return
	}
	code := r.PostFormValue("code")
	request, known := p.open[code]
	delete(p.open, code)
	if !known || request.Get("redirect_uri") != r.PostFormValue("redirect_uri") ||
		oauth2.S256ChallengeFromVerifier(r.PostFormValue("code_verifier")) != request.Get("code_challenge") {
		refuse(w, "invalid_grant")
		return
	}
	token := p.idToken(request.Get("nonce"))
	access := "access-" + rand.Text()
	p.secrets = append(p.secrets, token, access)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": access, "token_type": "Bearer", "id_token": token})
}

func (p *provider) idToken(nonce string) string {
	claims := map[string]any{
		"iss": p.url, "aud": client, "sub": "4711", "nonce": nonce, "iat": p.now().Unix(), "exp": p.now().Add(time.Minute).Unix(),
		"preferred_username": "alice", "groups": []string{"staff", "backup-admins"},
	}
	maps.Copy(claims, p.change)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	text, _ := json.Marshal(claims) // of texts and numbers
	token := oidctest.SignIDToken(p.key, "one", "ES256", string(text))
	if p.forge != nil {
		token = p.forge(token)
	}
	return token
}

func unescape(text string) string {
	plain, _ := url.QueryUnescape(text) // what cannot be read is wrong
	return plain
}

// refuse says why, and repeats what it got, as a careless provider may.
func refuse(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(w, `{"error": %q, "error_description": "for the code code-"}`, code)
}

// wantNoSecrets looks for what was given out in a text.
func (p *provider) wantNoSecrets(t testing.TB, where, text string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, secret := range slices.Concat(p.secrets, []string{p.secret}) {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("%s has %q", where, secret)
		}
	}
}

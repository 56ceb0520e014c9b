package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

const password = "correct horse battery"

func tryDial(c *harness.Coordinator, credentials string) error {
	connection, err := nats.Connect(c.Bus, nats.UserCredentials(credentials), nats.RootCAs(c.CAFile()))
	if err == nil {
		connection.Close()
	}
	return err
}

// setupLink is what the first start printed.
func setupLink(t *testing.T, c *harness.Coordinator) string {
	t.Helper()
	link := regexp.MustCompile(`https?://\S+/setup/\S+`).FindString(c.Output())
	if link == "" {
		t.Fatalf("the first start prints no set-up link:\n%s", c.Output())
	}
	return link
}

// person is a browser without a screen: it keeps cookies, and follows nothing.
type person struct{ *http.Client }

func newPerson(t *testing.T) person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return person{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (p person) post(t *testing.T, address string, header http.Header, fields url.Values) *http.Response {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, address, strings.NewReader(fields.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := p.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func (p person) get(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/html")
	response, err := p.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// The first start prints a link that makes the first administrator, once.
// Without credentials nothing is shown; the session's cookie is of no use to a
// page of another origin.
func TestTheFirstAdministrator(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	link := setupLink(t, c)
	stranger := newPerson(t)
	for path, status := range map[string]int{
		"/": http.StatusSeeOther, "/audit": http.StatusSeeOther, "/api/v1/status": http.StatusUnauthorized, "/metrics": http.StatusUnauthorized,
		"/api/v1/events": http.StatusUnauthorized, "/healthz": http.StatusOK, "/readyz": http.StatusOK, "/login": http.StatusOK,
	} {
		if response, _ := stranger.get(t, c.HTTP+path); response.StatusCode != status {
			t.Errorf("GET %s without credentials: %s, want %d", path, response.Status, status)
		}
	}
	alice := newPerson(t)
	chosen := url.Values{"name": {"alice"}, "password": {password}, "again": {password}}
	if response := alice.post(t, link, nil, chosen); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("set-up: %s", response.Status)
	}
	if response := stranger.post(t, link, nil, chosen); response.StatusCode < 400 {
		t.Errorf("the link works twice: %s", response.Status)
	}
	signIn := url.Values{"name": {"alice"}, "password": {password}}
	if response := alice.post(t, c.HTTP+"/login", nil, signIn); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("login: %s", response.Status)
	}
	if response, page := alice.get(t, c.HTTP+"/people"); response.StatusCode != http.StatusOK || !strings.Contains(page, "alice") {
		t.Errorf("people: %s", response.Status)
	}
	evil := http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"cross-site"}}
	if response := alice.post(t, c.HTTP+"/logout", evil, nil); response.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin signed alice out: %s", response.Status)
	}
	c.Kill()
	c.Restart()
	if response, _ := alice.get(t, c.HTTP+"/people"); response.StatusCode != http.StatusOK {
		t.Errorf("the session did not survive a restart: %s", response.Status)
	}
	if strings.Contains(c.Output(), "/setup/") {
		t.Error("a set-up link is printed although there is an administrator")
	}
	if response := alice.post(t, c.HTTP+"/logout", nil, nil); response.StatusCode != http.StatusSeeOther {
		t.Errorf("logout: %s", response.Status)
	}
	if response, _ := alice.get(t, c.HTTP+"/"); response.StatusCode != http.StatusSeeOther {
		t.Errorf("after logout: %s", response.Status)
	}
}

// Roles count alike over HTTP and on the bus, for people, tokens and
// credentials, and the audit says who did what, and what was refused.
func TestRolesCountEverywhere(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	submit := `{"host":"web1","kind":"list","repository":"main"}`

	for role, may := range map[string]bool{"viewer": false, "operator": true} {
		token := strings.TrimSpace(c.MustCLI("token", "add", "ci-"+role, "--role", role))
		env := []string{"BORGFLEET_URL=" + c.HTTP, "BORGFLEET_TOKEN=" + token, "BORGFLEET_DATA="}
		cli := func(args ...string) harness.Result {
			return harness.Run(t, env, harness.Binary(t, "borgfleet"), args...)
		}
		if r := cli("status"); r.Code != 0 {
			t.Errorf("%s: status: %d %s", role, r.Code, r.Stderr)
		}
		if r := cli("job", "submit", submit); (r.Code == 0) != may || !may && (r.Code != 5 || !strings.Contains(r.Stderr, "operator")) {
			t.Errorf("%s: job submit: %d %s", role, r.Code, r.Stderr)
		}
		for _, forbidden := range [][]string{{"host", "add", "x"}, {"host", "remove", "web1", "--yes"}, {"user", "list"}, {"token", "add", "y", "--role", "admin"}, {"audit", "list"}, {"nats-creds", "z", "--role", "admin"}, {"repo", "remove", "main", "--yes"}} {
			if r := cli(forbidden...); r.Code != 5 {
				t.Errorf("%s: %v: exit code %d, %s", role, forbidden, r.Code, r.Stderr)
			}
		}
		file := filepath.Join(t.TempDir(), role+".creds")
		c.MustCLI("nats-creds", "bus-"+role, "--role", role, "-o", file)
		connection := c.Dial(file)
		reply, err := connection.Request("borgfleet.v1.jobs.submit", []byte(submit), 3*time.Second)
		if (err == nil) != may {
			t.Errorf("%s: submit on the bus: %v", role, err)
		}
		if may && strings.Contains(string(reply.Data), `"code"`) {
			t.Errorf("%s: submit on the bus: %s", role, reply.Data)
		}
		if _, err := connection.Request("borgfleet.v1.status", nil, harness.Patience); err != nil {
			t.Errorf("%s: status on the bus: %v", role, err)
		}
	}
	var page struct {
		Entries []struct{ By, From, Action, Object, Outcome string }
	}
	harness.Eventually(t, "the audit to tell all of it", func() error {
		if err := json.Unmarshal([]byte(c.MustCLI("audit", "list", "--limit", "200", "--json")), &page); err != nil {
			return err
		}
		said := ""
		for _, e := range page.Entries {
			said += fmt.Sprintf("%s|%s|%s|%s|%s\n", e.By, e.From, e.Action, e.Object, e.Outcome)
		}
		for _, want := range []string{
			"operator:local|http 127.0.0.1|borg.repository.init|repository/main|requested", "|borg.repository.init|repository/main|succeeded",
			"token:ci-operator|http 127.0.0.1|borg.archives.list|repository/main|requested",
			"operator:bus-operator|bus 127.0.0.1|borg.archives.list|repository/main|requested",
			"token:ci-viewer|http 127.0.0.1|", "|refused\n", "|host.enrol|host/web1|done",
		} {
			if !strings.Contains(said, want) {
				return fmt.Errorf("without %q:\n%s", want, said)
			}
		}
		return nil
	})
	if out := c.MustCLI("audit", "verify"); !strings.Contains(out, "each follows from the one before") {
		t.Errorf("audit verify: %s", out)
	}
	c.MustCLI("nats-creds", "bus-operator", "--revoke")
	if err := tryDial(c, latest(t, c, "bus-operator")); err == nil {
		t.Error("revoked credentials work")
	}
}

// latest mints nothing: it writes down credentials that were revoked, as the
// thief has them.
func latest(t *testing.T, c *harness.Coordinator, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".creds")
	c.MustCLI("nats-creds", name, "--role", "operator", "-o", file)
	if err := tryDial(c, file); err != nil {
		t.Fatalf("fresh credentials: %v", err)
	}
	c.MustCLI("nats-creds", name, "--revoke")
	return file
}

// login on another machine: the authority is accepted by its fingerprint, the
// token is kept privately, logout ends it.
func TestLoginElsewhere(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	alice := newPerson(t)
	chosen := url.Values{"name": {"alice"}, "password": {password}, "again": {password}}
	if response := alice.post(t, setupLink(t, c), nil, chosen); response.StatusCode != http.StatusSeeOther {
		t.Fatalf("set-up: %s", response.Status)
	}
	home := t.TempDir()
	file := filepath.Join(home, "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + home, "XDG_CONFIG_HOME=", "BORGFLEET_URL=", "BORGFLEET_DATA=", "BORGFLEET_TOKEN="}
	cli := func(args ...string) harness.Result {
		return harness.Run(t, env, harness.Binary(t, "borgfleet"), args...)
	}
	secure := strings.Replace(c.HTTP, "http:", "https:", 1)
	if r := cli("login", secure, "--user", "alice", "--password-file", file); r.Code != 2 || !strings.Contains(r.Stderr, "--fingerprint") {
		t.Errorf("login without the authority: %d %s", r.Code, r.Stderr)
	}
	if r := cli("login", secure, "--user", "alice", "--password-file", file, "--fingerprint", strings.Repeat("0", 64)); r.Code == 0 || !strings.Contains(r.Stderr, "another fingerprint") {
		t.Errorf("login with a wrong fingerprint: %d %s", r.Code, r.Stderr)
	}
	fingerprint := regexp.MustCompile(`ca_fingerprint[=" :]+([0-9a-f]{64})`).FindStringSubmatch(c.Output())
	if fingerprint == nil {
		t.Fatalf("the coordinator does not log its authority's fingerprint:\n%s", c.Output())
	}
	if r := cli("login", secure, "--user", "alice", "--password-file", file, "--fingerprint", fingerprint[1]); r.Code != 0 || !strings.Contains(r.Stdout, "alice (admin)") {
		t.Fatalf("login: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	stored := filepath.Join(home, ".config", "borgfleet", "login.json")
	if info, err := os.Stat(stored); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("stored login: %v (%v)", info, err)
	}
	if r := cli("whoami"); r.Code != 0 || !strings.Contains(r.Stdout, "operator:alice (admin)") {
		t.Errorf("whoami: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	fresh := filepath.Join(home, "fresh")
	if err := os.WriteFile(fresh, []byte("four other words entirely\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli("passwd", "--old-file", fresh, "--new-file", fresh); r.Code != 2 || !strings.Contains(r.Stderr, "is wrong") {
		t.Errorf("passwd with a wrong password: %d %s", r.Code, r.Stderr)
	}
	if r := cli("passwd", "--old-file", file, "--new-file", fresh); r.Code != 0 {
		t.Errorf("passwd: %d %s", r.Code, r.Stderr)
	}
	if r := cli("host", "add", "web1"); r.Code != 0 {
		t.Errorf("host add: %d %s", r.Code, r.Stderr)
	}
	data, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	if r := cli("logout"); r.Code != 0 {
		t.Errorf("logout: %d %s", r.Code, r.Stderr)
	}
	if err := os.WriteFile(stored, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli("status"); r.Code != 5 {
		t.Errorf("after logout the token still works: %d", r.Code)
	}
}

// With custody "hosts" the coordinator keeps a passphrase that it cannot read;
// and borg's key can be kept safe, for one reader.
func TestCustodyAndKeyExport(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddAgent("web2", harness.AgentOptions{})
	location := filepath.Join(t.TempDir(), "repository")
	c.MustCLI("repo", "add", "own", "--location", location, "--generate-passphrase", "--custody", "hosts", "--for", "web1")
	c.Init("web1", "own")
	refused := c.Submit(`{"host":"web2","kind":"list","repository":"own"}`)
	if j := c.Await(refused.ID, job.Failed); j.Failure == nil || !strings.Contains(j.Failure.Hint, "repo seal") {
		t.Errorf("a host that it is not sealed to: %+v", j.Failure)
	}
	var status struct {
		KeysNotExported []string `json:"keys_not_exported"`
	}
	if err := c.Get("/api/v1/status", &status); err != nil || len(status.KeysNotExported) != 1 {
		t.Errorf("keys never exported: %v (%v)", status.KeysNotExported, err)
	}
	file := filepath.Join(t.TempDir(), "own.key.age")
	c.MustCLI("repo", "key-export", "own", "--host", "web1", "--recipient", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "-o", file)
	if data, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(data), "-----BEGIN AGE ENCRYPTED FILE-----") {
		t.Errorf("exported key: %.60q (%v)", data, err)
	}
	if err := c.Get("/api/v1/status", &status); err != nil || len(status.KeysNotExported) != 0 {
		t.Errorf("keys never exported, after: %v (%v)", status.KeysNotExported, err)
	}
}

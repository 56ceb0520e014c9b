package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// badRequests are submissions that must be refused alike on every way in.
func badRequests() map[string]struct {
	body string
	code job.Code
	says string
} {
	type request = struct {
		body string
		code job.Code
		says string
	}
	submit := func(kind, host, repository, spec string) string {
		return fmt.Sprintf(`{"host":%q,"kind":%q,"repository":%q,"spec":%s}`, host, kind, repository, spec)
	}
	return map[string]request{
		"unknown host":       {submit("backup", "nohost", "main", `{"paths":["/etc"]}`), job.UnknownHost, "nohost"},
		"unknown repository": {submit("backup", "web1", "norepo", `{"paths":["/etc"]}`), job.UnknownRepository, "norepo"},
		"unknown kind":       {submit("explode", "web1", "main", `{}`), job.UnknownKind, "explode"},
		"unknown field":      {`{"host":"web1","kind":"compact","repository":"main","colour":"red"}`, job.InvalidRequest, "colour"},
		"unknown spec field": {submit("backup", "web1", "main", `{"paths":["/etc"],"colour":"red"}`), job.InvalidSpec, "colour"},
		"malformed JSON":     {`{"host":"web1",`, job.InvalidRequest, ""},
		"no paths":           {submit("backup", "web1", "main", `{"paths":[]}`), job.InvalidSpec, "paths"},
		"relative path":      {submit("backup", "web1", "main", `{"paths":["etc"]}`), job.InvalidSpec, "relative"},
		"nothing":            {`{}`, "", ""},
	}
}

// Bad input gets one clear error with a code and a hint, on the bus as over
// HTTP, and changes nothing.
func TestBadRequestsAreRefusedAlikeEverywhere(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	connection := c.NATS()
	for name, r := range badRequests() {
		t.Run(name, func(t *testing.T) {
			onBus, header := busError(t, connection, r.body)
			overHTTP := httpError(t, c, r.body)
			for way, got := range map[string]problem{"bus": onBus, "HTTP": overHTTP} {
				if got.Code == "" || r.code != "" && got.Code != r.code || !strings.Contains(got.Message+got.Detail, r.says) {
					t.Errorf("%s: %+v, want code %s that says %q", way, got, r.code, r.says)
				}
			}
			if onBus.Code != overHTTP.Code {
				t.Errorf("the bus says %s, HTTP says %s", onBus.Code, overHTTP.Code)
			}
			if header.Get("Nats-Service-Error-Code") == "" || header.Get("Nats-Service-Error") == "" {
				t.Errorf("the bus's headers are %v", header)
			}
		})
	}
	t.Run("10 MB", func(t *testing.T) {
		body := `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/` + strings.Repeat("a", 10<<20) + `"]}}`
		if got := httpError(t, c, body); got.Code != job.TooLarge {
			t.Errorf("HTTP: %+v", got)
		}
		if _, err := connection.Request("borgfleet.v1.jobs.submit", []byte(body), 10*time.Second); err == nil {
			t.Error("the bus took 10 MB")
		}
	})
	var page job.Page
	if err := c.Get("/api/v1/jobs", &page); err != nil || len(page.Jobs) != 0 {
		t.Errorf("refused requests left jobs: %+v (%v)", page.Jobs, err)
	}
}

type problem struct {
	Code    job.Code `json:"code"`
	Message string   `json:"message"` // bus
	Detail  string   `json:"detail"`  // HTTP
	Hint    string   `json:"hint"`
}

func busError(t *testing.T, connection *nats.Conn, body string) (problem, nats.Header) {
	t.Helper()
	reply, err := connection.Request("borgfleet.v1.jobs.submit", []byte(body), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var p problem
	decode(t, string(reply.Data), &p)
	return p, reply.Header
}

func httpError(t *testing.T, c *harness.Coordinator, body string) problem {
	t.Helper()
	response, err := c.Request(http.MethodPost, "/api/v1/jobs", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode < 400 || response.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("answered %s, %s", response.Status, response.Header.Get("Content-Type"))
	}
	var p problem
	decode(t, string(data), &p)
	return p
}

func TestBadQueriesAreRefused(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	for path, status := range map[string]int{
		"/api/v1/jobs?state=lost":                 http.StatusBadRequest,
		"/api/v1/jobs?kind=explode":               http.StatusBadRequest,
		"/api/v1/jobs?limit=100000":               http.StatusBadRequest,
		"/api/v1/jobs/nonsense":                   http.StatusBadRequest,
		"/api/v1/jobs/01JD9X7Q2M4T6W8Y0ABCDEFGHJ": http.StatusNotFound,
		"/api/v1/hosts/nohost":                    http.StatusNotFound,
		"/api/v1/repositories/norepo":             http.StatusNotFound,
		"/api/v1/nothing":                         http.StatusNotFound,
	} {
		response, err := c.Request(http.MethodGet, path, "")
		if err != nil {
			t.Fatal(err)
		}
		var p problem
		if err := json.NewDecoder(response.Body).Decode(&p); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		response.Body.Close()
		if response.StatusCode != status || p.Code == "" {
			t.Errorf("%s: %s %+v, want %d", path, response.Status, p, status)
		}
	}
}

// A job that cannot work says why, with a code and a hint, and the command
// line exits with 4.
func TestFailuresNameTheirCause(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("web1", harness.AgentOptions{})
	c.AddRepository("main")
	c.Init("web1", "main")
	var main struct{ Location string }
	decode(t, c.MustCLI("repo", "show", "main", "--json"), &main)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("not the passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.MustCLI("repo", "add", "wrong", "--location", main.Location, "--passphrase-file", wrong)
	c.MustCLI("repo", "add", "absent", "--location", "/does/not/exist", "--passphrase-file", wrong)
	for name, test := range map[string]struct {
		args string
		code job.Code
	}{
		"wrong passphrase":   {"backup --host web1 --repo wrong /etc", job.PassphraseWrong},
		"missing repository": {"backup --host web1 --repo absent /etc", job.RepositoryMissing},
		"repository exists":  {"repo init main --host web1", job.RepositoryExists},
		"missing archive":    {"archive show main --host web1 nothing", job.ArchiveMissing},
		"missing paths":      {"backup --host web1 --repo main /does/not/exist", job.PathMissing},
	} {
		t.Run(name, func(t *testing.T) {
			result := c.CLI(append(strings.Fields(test.args), "--json")...)
			if result.Code != 4 {
				t.Fatalf("exit code %d: %s%s", result.Code, result.Stdout, result.Stderr)
			}
			var j job.Job
			decode(t, result.Stdout, &j)
			if j.Failure == nil || j.Failure.Code != test.code || j.Failure.Message == "" || j.Failure.Hint == "" {
				t.Errorf("failure %+v, want %s", j.Failure, test.code)
			}
			if j.Attempt != 1 {
				t.Errorf("tried %d times", j.Attempt)
			}
		})
	}
}

func TestAHostWithoutBorgSaysSo(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	c.AddAgent("bare", harness.AgentOptions{Config: "borg: {binary: /does/not/exist/borg}\n"})
	c.AddRepository("main")
	result := c.CLI("repo", "init", "main", "--host", "bare", "--json")
	var j job.Job
	decode(t, result.Stdout, &j)
	if result.Code != 4 || j.Failure == nil || j.Failure.Code != job.BorgMissing || j.Failure.Hint == "" {
		t.Errorf("exit code %d, failure %+v", result.Code, j.Failure)
	}
	if out := c.MustCLI("host", "show", "bare"); !strings.Contains(out, "borg") || !strings.Contains(out, "/does/not/exist/borg") {
		t.Errorf("host show does not say it:\n%s", out)
	}
}

// serve ends with one line that says what, where and what to do.
func TestServeRefusesToStartBadly(t *testing.T) {
	t.Parallel()
	c := harness.StartCoordinator(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := func() string { return filepath.Join(t.TempDir(), "data") }
	free := []string{"--http", "127.0.0.1:0", "--bus", "127.0.0.1:0", "--depot", "127.0.0.1:0"}
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"HTTP port in use":     {[]string{"--data", fresh(), "--http", taken.Addr().String(), "--bus", "127.0.0.1:0"}, 1, taken.Addr().String()},
		"bus port in use":      {[]string{"--data", fresh(), "--http", "127.0.0.1:0", "--bus", taken.Addr().String()}, 1, taken.Addr().String()},
		"depot port in use":    {[]string{"--data", fresh(), "--http", "127.0.0.1:0", "--bus", "127.0.0.1:0", "--depot", taken.Addr().String()}, 1, taken.Addr().String()},
		"data in use":          {append([]string{"--data", c.Data}, free...), 1, "in use"},
		"data is a file":       {append([]string{"--data", plain}, free...), 1, plain},
		"expired certificate":  {append([]string{"--data", fresh(), "--config", certificate(t, -time.Hour)}, free...), 2, "expired"},
		"key without a file":   {[]string{"--data", fresh(), "--config", settings(t, "tls: {certificate_file: /x.pem}\n")}, 2, "tls.key_file"},
		"no such address":      {[]string{"--data", fresh(), "--http", "nowhere"}, 2, "http.listen"},
		"unknown flag":         {[]string{"--colour"}, 2, "--colour"},
		"configuration absent": {[]string{"--config", plain + ".yaml"}, 2, plain + ".yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			result := harness.Run(t, nil, harness.Binary(t, "borgfleet"), append([]string{"serve", "--log-level", "error"}, test.args...)...)
			lines := strings.Split(strings.TrimSpace(result.Stderr), "\n")
			last := lines[len(lines)-1]
			if result.Code != test.code || !strings.Contains(last, test.says) || !strings.HasPrefix(last, "borgfleet: ") {
				t.Errorf("exit code %d, want %d; last of %d lines: %s", result.Code, test.code, len(lines), last)
			}
		})
	}
	if err := c.Get("/api/v1/status", &struct{}{}); err != nil {
		t.Errorf("the running coordinator suffered: %v", err)
	}
}

// settings is a configuration file of the coordinator.
func settings(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "coordinator.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// certificate is a configuration file with a certificate that is good for the
// given time from now on.
func certificate(t *testing.T, life time.Duration) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "backup.example.net"}, DNSNames: []string{"backup.example.net"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(life), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"server.pem": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return settings(t, fmt.Sprintf("tls: {certificate_file: %s/server.pem, key_file: %s/server.key, ca_file: %s/server.pem}\n", dir, dir, dir))
}

// A data directory of somebody else's is refused. Root may write everywhere,
// so the coordinator is run as nobody.
func TestServeWithoutPermissionSaysSo(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "borgfleet-perm-") // the test's own directory is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	binary := filepath.Join(dir, "borgfleet")
	data, err := os.ReadFile(harness.Binary(t, "borgfleet"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, data, 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	argv := []string{binary, "serve", "--config", os.DevNull, "--data", filepath.Join(closed, "data"), "--http", "127.0.0.1:0", "--bus", "127.0.0.1:0", "--depot", "127.0.0.1:0"}
	if os.Getuid() == 0 {
		argv = append([]string{"setpriv", "--reuid", "nobody", "--clear-groups"}, argv...)
	}
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Fatal(err)
	}
	result := harness.Run(t, nil, argv[0], argv[1:]...)
	if result.Code != 5 || !strings.Contains(result.Stderr, "permission denied") || !strings.Contains(result.Stderr, closed) {
		t.Errorf("exit code %d: %s", result.Code, result.Stderr)
	}
}

// The command line tells wrong usage from an unreachable coordinator.
func TestCommandLineExitCodes(t *testing.T) {
	t.Parallel()
	binary := harness.Binary(t, "borgfleet")
	nowhere := fmt.Sprintf("http://127.0.0.1:%d", harness.FreePort(t))
	for name, test := range map[string]struct {
		args string
		code int
		says string
	}{
		"help":             {"--help", 0, ""},
		"version":          {"version", 0, ""},
		"unknown command":  {"frobnicate", 2, "frobnicate"},
		"missing argument": {"host show", 2, "name"},
		"unreachable":      {"status --url " + nowhere, 5, "not reachable"},
		"no coordinator":   {"status --data /does/not/exist", 5, "borgfleet serve"},
		"bad job id":       {"job show nonsense --url " + nowhere, 2, "nonsense"},
		"no passphrase":    {"repo add x --location /srv/x --url " + nowhere, 2, "--passphrase-file"},
	} {
		t.Run(name, func(t *testing.T) {
			result := harness.Run(t, []string{"BORGFLEET_URL=", "BORGFLEET_DATA="}, binary, strings.Fields(test.args)...)
			if result.Code != test.code || !strings.Contains(result.Stderr, test.says) {
				t.Errorf("exit code %d, want %d: %s", result.Code, test.code, result.Stderr)
			}
			if test.code != 0 && strings.Count(strings.TrimSpace(result.Stderr), "\n") > 0 {
				t.Errorf("more than one line of error:\n%s", result.Stderr)
			}
		})
	}
}

package cli_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// elsewhere is a coordinator with a certificate of its own authority, where
// alice may sign in.
type elsewhere struct {
	*coordinator
	ca          []byte // PEM
	fingerprint string
	password    string // file
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	isolate(t)
	e := &elsewhere{coordinator: &coordinator{answers: map[string]any{}}, password: filepath.Join(t.TempDir(), "password")}
	if err := os.WriteFile(e.password, []byte("swordfish\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(e)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{e.certify(t)}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	e.url = server.URL
	e.answers["POST /login"] = asker(func(_ *http.Request, body string) any {
		if !strings.Contains(body, `"name":"alice","password":"swordfish"`) {
			return job.Fail(job.NotAuthenticated, "the name or the password is wrong")
		}
		return map[string]any{"token": "bft_alice", "expires_at": at(0), "name": "operator:alice", "role": "operator"}
	})
	e.answers["GET /whoami"] = asker(func(r *http.Request, _ string) any {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer bft_")
		if !ok {
			return job.Fail(job.NotAuthenticated, "sign in first")
		}
		return map[string]any{"name": "operator:" + token, "role": "operator", "from": "http 127.0.0.1"}
	})
	e.answers["POST /logout"] = nil
	return e
}

// certify makes an authority, and a certificate for 127.0.0.1 that it signed.
func (e *elsewhere) certify(t *testing.T) tls.Certificate {
	t.Helper()
	template := func(number int64, isCA bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: big.NewInt(number).String()}, IsCA: isCA, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	root, rootKey, key := template(1, true), newKey(), newKey()
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template(2, false), root, key.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(rootDER)
	e.ca, e.fingerprint = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER}), hex.EncodeToString(sum[:])
	return tls.Certificate{Certificate: [][]byte{der, rootDER}, PrivateKey: key}
}

// stored is the file that login writes.
func stored(t *testing.T) string {
	t.Helper()
	dir, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "borgfleet", "login.json")
}

// bare runs a command line without saying where the coordinator is.
func bare(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return (&coordinator{}).run(t, stdin, args...)
}

func (e *elsewhere) login(t *testing.T, args ...string) result {
	t.Helper()
	return bare(t, "", append([]string{"login", e.url, "--user", "alice", "--password-file", e.password}, args...)...)
}

func (e *elsewhere) colons() string {
	var pairs []string
	for i := 0; i < len(e.fingerprint); i += 2 {
		pairs = append(pairs, e.fingerprint[i:i+2])
	}
	return strings.ToUpper(strings.Join(pairs, ":"))
}

// Nothing is sent to a coordinator before its authority is known to be right.
func TestWhomLoginTrusts(t *testing.T) {
	e := newElsewhere(t)
	ca, other := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "other.pem")
	for name, content := range map[string][]byte{ca: e.ca, other: newElsewhere(t).ca} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		args string
		code int
		says string
	}{
		"unknown":           {"", console.ExitUsage, "give --fingerprint"},
		"other fingerprint": {"--fingerprint " + strings.Repeat("0", 64), console.ExitUnreachable, "another fingerprint: " + e.fingerprint},
		"other authority":   {"--ca " + other, console.ExitUnreachable, "is not trusted"},
		"no such file":      {"--ca " + other + ".not", console.ExitFailed, "read --ca"},
		"fingerprint":       {"--fingerprint " + e.fingerprint, console.ExitDone, ""},
		"with colons":       {"--fingerprint " + e.colons(), console.ExitDone, ""},
		"authority":         {"--ca " + ca, console.ExitDone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e.asked = nil
			r := e.login(t, strings.Fields(test.args)...)
			if r.code != test.code || !strings.Contains(r.err, test.says) {
				t.Errorf("exit code %d, want %d, and %q:\n%s%s", r.code, test.code, test.says, r.out, r.err)
			}
			if test.code != console.ExitDone && len(e.asked) > 0 {
				t.Errorf("asked %v", e.asked)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	e := newElsewhere(t)
	if r := bare(t, "wrong\n", "login", e.url, "--user", "alice", "--password-file", "-", "--fingerprint", e.fingerprint); r.code != console.ExitUnreachable || !strings.Contains(r.err, "wrong") {
		t.Errorf("wrong password: exit code %d:\n%s", r.code, r.err)
	}
	if _, err := os.Stat(stored(t)); err == nil {
		t.Error("a wrong password was stored")
	}
	if r := bare(t, "", "login", e.url, "--user", "alice", "--fingerprint", e.fingerprint); r.code != console.ExitUsage || !strings.Contains(r.err, "--password-file") {
		t.Errorf("without a terminal: exit code %d:\n%s", r.code, r.err)
	}
	if err := os.MkdirAll(filepath.Dir(stored(t)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stored(t), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := e.login(t, "--fingerprint", e.fingerprint); r.code != 0 || !strings.Contains(r.out, "You are alice (operator) at "+e.url+" until 2026-11-2") {
		t.Fatalf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	var login struct{ URL, Token, CA string }
	content, err := os.ReadFile(stored(t))
	if err != nil || json.Unmarshal(content, &login) != nil || login.URL != e.url || login.Token != "bft_alice" || login.CA != string(e.ca) {
		t.Errorf("stored %s, %v", content, err)
	}
	if info, err := os.Stat(stored(t)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("stored with %v, %v", info.Mode(), err)
	}
	if r := e.login(t, "--fingerprint", e.fingerprint, "--json"); r.code != 0 || strings.Contains(r.out, "bft_") || !json.Valid([]byte(r.out)) {
		t.Errorf("as JSON: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if r := bare(t, "", "whoami"); r.code != 0 || r.out != "operator:alice (operator) at "+e.url+"\n" {
		t.Errorf("whoami: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
}

// The token ends there, and is forgotten here in any case.
func TestLogout(t *testing.T) {
	for name, test := range map[string]struct {
		answer any
		code   int
		says   string
	}{
		"good":     {nil, console.ExitDone, ""},
		"was over": {job.Fail(job.NotAuthenticated, "no such token"), console.ExitDone, ""},
		"refused":  {job.Fail(job.Unavailable, "stopping"), console.ExitUnreachable, "may still work at"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newElsewhere(t)
			e.answers["POST /logout"] = test.answer
			if r := e.login(t, "--fingerprint", e.fingerprint); r.code != 0 {
				t.Fatal(r.err)
			}
			r := bare(t, "", "logout")
			if r.code != test.code || !strings.Contains(r.err, test.says) || (test.code == 0) != strings.Contains(r.out, "Logged out of "+e.url) {
				t.Errorf("exit code %d, want %d:\n%s%s", r.code, test.code, r.out, r.err)
			}
			if last := e.asked[len(e.asked)-1]; last != "POST /logout" {
				t.Errorf("asked %s", last)
			}
			if _, err := os.Stat(stored(t)); err == nil {
				t.Error("the login is still there")
			}
		})
	}
}

// ownData makes a data directory on which a coordinator runs.
func ownData(t *testing.T, url string) string {
	t.Helper()
	data := t.TempDir()
	for name, content := range map[string]string{"endpoints.json": `{"http":"` + url + `"}`, "local.token": "bft_local\n"} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// Which coordinator is meant, and as whom it is asked.
func TestWhereTo(t *testing.T) {
	e := newElsewhere(t)
	if r := e.login(t, "--fingerprint", e.fingerprint); r.code != 0 {
		t.Fatal(r.err)
	}
	here := httptest.NewServer(e)
	defer here.Close()
	data := ownData(t, here.URL)
	for name, test := range map[string]struct {
		env  map[string]string
		want string // empty: not let in
	}{
		"login":                        {nil, "alice (operator) at " + e.url},
		"URL of the login":             {map[string]string{"BORGFLEET_URL": e.url + "/"}, "alice (operator) at " + e.url},
		"data goes before login":       {map[string]string{"BORGFLEET_DATA": data}, "local (operator) at " + here.URL},
		"no data":                      {map[string]string{"BORGFLEET_DATA": ""}, "alice (operator) at " + e.url},
		"URL of the data":              {map[string]string{"BORGFLEET_DATA": data, "BORGFLEET_URL": here.URL}, "local (operator) at " + here.URL},
		"URL of the login, with data":  {map[string]string{"BORGFLEET_DATA": data, "BORGFLEET_URL": e.url}, "alice (operator) at " + e.url},
		"token":                        {map[string]string{"BORGFLEET_TOKEN": "bft_ci\n"}, "ci (operator) at " + e.url},
		"token and URL":                {map[string]string{"BORGFLEET_TOKEN": "bft_ci", "BORGFLEET_URL": e.url}, "ci (operator) at " + e.url},
		"token and data":               {map[string]string{"BORGFLEET_TOKEN": "bft_ci", "BORGFLEET_DATA": data}, "ci (operator) at " + here.URL},
		"nothing known of the address": {map[string]string{"BORGFLEET_URL": here.URL}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			r := bare(t, "", "whoami")
			if test.want == "" && !strings.Contains(r.err, "borgfleet login "+here.URL) {
				t.Errorf("it does not say how to sign in: %s", r.err)
			}
			if (test.want == "") != (r.code == console.ExitUnreachable) || !strings.Contains(r.out, test.want) {
				t.Errorf("exit code %d, want %q:\n%s%s", r.code, test.want, r.out, r.err)
			}
		})
	}
	t.Setenv("BORGFLEET_DATA", data)
	if r := e.login(t, "--fingerprint", e.fingerprint); r.code != 0 || !strings.Contains(r.err, "goes before this login") {
		t.Errorf("login beside a data directory: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
}

// A login that cannot be read says how to mend it.
func TestSpoiltLogin(t *testing.T) {
	e := newElsewhere(t)
	if err := os.MkdirAll(filepath.Dir(stored(t)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stored(t), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := bare(t, "", "status"); r.code != console.ExitFailed || !strings.Contains(r.err, "borgfleet login makes it anew") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if r := e.login(t, "--fingerprint", e.fingerprint); r.code != 0 {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

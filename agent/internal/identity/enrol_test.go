package identity_test

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

func TestEnrolWritesAnIdentityThatWorks(t *testing.T) {
	ca := newAuthority(t)
	c, p := newCoordinator(t, ca.serve(t, asIs), ca), newPlace(t)
	enrolled, err := identity.Enrol(t.Context(), p.enrolment(c.token()))
	if err != nil {
		t.Fatal(err)
	}
	if err := enrolled.Finish(); err != nil {
		t.Fatal(err)
	}
	want := []string{c.url(), "tls://backup.example.net:4222"} // the one that worked first, and no websocket beside it
	if diff := cmp.Diff(want, enrolled.URLs); diff != "" || enrolled.Host != "web1" {
		t.Errorf("host %s, addresses (-want +got):\n%s", enrolled.Host, diff)
	}
	if skew := enrolled.Skew - time.Hour; skew.Abs() > patience.Most {
		t.Errorf("skew %s; want an hour", enrolled.Skew)
	}
	for name, mode := range map[string]os.FileMode{
		"etc/agent.creds": 0o600, "etc/signer.pub": 0o644, "etc/ca.pem": 0o644, "data/seal.key": 0o600, "data/ssh/depot": 0o600, "data/ssh/depot.pub": 0o644,
	} {
		info, err := os.Stat(filepath.Join(filepath.Dir(p.dir), name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, error %v; want mode %v", name, info, err, mode)
		}
	}
	if _, err := os.Stat(filepath.Join(p.data, "enrol")); err == nil {
		t.Error("keys still wait")
	}
	request := c.asked[0]
	credentials, err := identity.ReadCredentials(enrolled.Files.Credentials, "web1")
	if err != nil || credentials.Public != request.PublicKey {
		t.Errorf("credentials %+v, error %v", credentials, err)
	}
	if public, err := identity.CheckSealKey(p.data); err != nil || public != request.SealKey {
		t.Errorf("seal key %s, error %v", public, err)
	}
	if text, err := os.ReadFile(filepath.Join(p.data, "ssh/depot.pub")); err != nil || strings.TrimSpace(string(text)) != request.SSHKey {
		t.Errorf("SSH key %s, error %v", text, err)
	}
	private, err := os.ReadFile(filepath.Join(p.data, "ssh/depot"))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := ssh.ParsePrivateKey(private); err != nil || strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))) != request.SSHKey {
		t.Errorf("private SSH key: %v", err)
	}
	trust, err := identity.Trust(enrolled.Files.CA)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := identity.Connect(enrolled.URLs, bus.ConnectOptions{Name: "web1", Credentials: enrolled.Files.Credentials, TLS: trust})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestEnrolAgainGoesOnWithTheSameKeys(t *testing.T) {
	ca := newAuthority(t)
	c, p := newCoordinator(t, ca.serve(t, asIs), ca), newPlace(t)
	token := c.token()
	c.change(func() { c.failure = job.Fail(job.Unavailable, "not now").WithHint("later") })
	_, err := identity.Enrol(t.Context(), p.enrolment(token))
	wantFailure(t, err, job.Unavailable)
	c.change(func() { c.failure = nil })
	for range 2 { // the second: as if it had been interrupted before agent.yaml was written
		if _, err := identity.Enrol(t.Context(), p.enrolment(token)); err != nil {
			t.Fatal(err)
		}
	}
	other, err := identity.Enrol(t.Context(), p.enrolment(c.token()))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for i, request := range c.asked {
		keys[request.PublicKey] = true
		if (i < 3) != (request.PublicKey == c.asked[0].PublicKey) {
			t.Errorf("request %d came with the key %s", i, request.PublicKey)
		}
	}
	if len(keys) != 2 {
		t.Errorf("%d identities for two tokens", len(keys))
	}
	if err := other.Finish(); err != nil {
		t.Fatal(err)
	}
	ring, err := os.ReadFile(filepath.Join(p.data, "seal.key"))
	if err != nil || len(strings.Fields(string(ring))) != 2 {
		t.Errorf("the seal key of before is gone (%v)", err)
	}
}

func TestNothingIsSentToAServerThatIsNotTheCoordinator(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, test := range map[string]struct {
		server authority
		change func(*x509.Certificate)
		url    func(string) string
		code   job.Code
		says   string
	}{
		"another authority": {other, asIs, nil, job.NotAllowed, "is not the coordinator that made the token"},
		"expired": {ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, nil,
			job.NotAllowed, "expired on"},
		"not yet valid": {ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, nil,
			job.NotAllowed, "is not valid before"},
		"other names": {ca, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"backup.example.net"}, nil }, nil,
			job.NotAllowed, "is not for"},
		"nothing answers": {ca, asIs, func(string) string { return closed.Addr().String() }, job.Unavailable, "nothing usable answers"},
		"no such name":    {ca, asIs, func(string) string { return "tls://no-such-host.invalid:4222" }, job.Unavailable, "cannot be resolved"},
		"no address":      {ca, asIs, func(string) string { return "http://127.0.0.1" }, job.InvalidRequest, "url"},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := newCoordinator(t, test.server.serve(t, test.change), ca), newPlace(t)
			e := p.enrolment(c.token())
			if test.url != nil {
				e.URL = test.url(c.url())
			}
			_, err := identity.Enrol(t.Context(), e)
			if failure := wantFailure(t, err, test.code); !strings.Contains(failure.Message, test.says) {
				t.Errorf("failure %v; want %q", failure, test.says)
			}
			if len(c.asked) > 0 {
				t.Error("the request was sent")
			}
			if left, _ := filepath.Glob(filepath.Join(p.dir, "*")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestAServerWithoutTLSIsNotTrusted(t *testing.T) {
	ca := newAuthority(t)
	c, p := newCoordinator(t, nil, ca), newPlace(t)
	e := p.enrolment(c.token())
	e.URL = "nats://" + c.server.Addr().String()
	_, err := identity.Enrol(t.Context(), e)
	wantFailure(t, err, job.NotAllowed)
	e.Token.Fingerprint = [32]byte{} // the system's authorities
	e.URL = "nats://192.0.2.1:4222"
	_, err = identity.Enrol(t.Context(), e)
	wantFailure(t, err, job.InvalidRequest)
	e.URL = "nats://" + c.server.Addr().String() // but this very machine is
	if _, err := identity.Enrol(t.Context(), e); err != nil {
		t.Error(err)
	}
}

func TestAnAnswerForAnotherHostIsNotTaken(t *testing.T) {
	ca := newAuthority(t)
	c, p := newCoordinator(t, ca.serve(t, asIs), ca), newPlace(t)
	e := p.enrolment(c.token())
	e.Host = "db1"
	if _, err := identity.Enrol(t.Context(), e); err == nil {
		t.Error("no error")
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if c.asked[0].Host != "db1" {
		t.Errorf("asked as %q", c.asked[0].Host)
	}
}

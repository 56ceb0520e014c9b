package identity_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestWhyAnEnrolledHostDoesNotConnect is about certificates that change, or
// clocks, after the host was enrolled.
func TestWhyAnEnrolledHostDoesNotConnect(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := identity.Trust(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		server     authority
		change     func(*x509.Certificate)
		says, hint string
	}{
		"another authority": {other, asIs, "not signed by the authority that this host trusts", "enrol this host again"},
		"expired":           {ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, "expired on", "clock"},
		"not yet valid":     {ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, "is not valid before", "clock"},
		"other names":       {ca, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"b.example"}, nil }, "but for b.example", "tls.names"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCoordinator(t, test.server.serve(t, test.change), ca)
			_, err := identity.Connect([]string{c.url()}, bus.ConnectOptions{Name: "web1", TLS: trust})
			failure := wantFailure(t, err, job.NotAllowed)
			if !strings.Contains(failure.Message, test.says) || !strings.Contains(failure.Hint, test.hint) {
				t.Errorf("failure %v", failure)
			}
		})
	}
}

func TestBadFilesAreSaid(t *testing.T) {
	_, p, r := enrolled(t)
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	seal := filepath.Join(p.data, "seal.key")
	write(seal, "SXNONSENSE\n", 0o600)
	_, err := identity.OpenRing(p.data, hclog.NewNullLogger())
	wantFailure(t, err, job.IntegrityError)
	write(seal, "SXNONSENSE\n", 0o644)
	_, err = identity.CheckSealKey(p.data)
	wantFailure(t, err, job.PermissionDenied)
	write(r.Credentials, "nonsense", 0o600)
	_, err = identity.ReadCredentials(r.Credentials, "web1")
	wantFailure(t, err, job.InvalidRequest)
	write(r.Credentials, "nonsense", 0o640)
	_, err = identity.ReadCredentials(r.Credentials, "web1")
	wantFailure(t, err, job.PermissionDenied)
	_, err = identity.ReadCredentials(r.Credentials+".missing", "web1")
	wantFailure(t, err, job.NotAllowed)
	_, err = identity.Signer(r.Credentials, "web1")
	wantFailure(t, err, job.InvalidRequest)
	_, err = identity.Trust(r.Credentials)
	wantFailure(t, err, job.InvalidRequest)
}

func TestARingThatWasDamagedMeanwhileIsKept(t *testing.T) {
	_, p, _ := enrolled(t)
	ring, err := identity.OpenRing(p.data, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	before := ring.Public()
	if err := os.WriteFile(filepath.Join(p.data, "seal.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ring.Public() != before {
		t.Error("the keys are gone")
	}
}

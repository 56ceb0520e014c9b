package authority_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/authority"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/hashicorp/go-hclog"
)

// signer is somebody else's authority.
type signer struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

// sign makes a certificate; the zero signer signs with the certificate's own
// key.
func (s signer) sign(t testing.TB, key crypto.Signer, template x509.Certificate) signer {
	t.Helper()
	template.BasicConstraintsValid = true
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = start.Add(-day), start.Add(90*day)
	}
	parent, with := s.certificate, s.key
	if with == nil {
		parent, with = &template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), with)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, certificate}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// root returns an authority; serve returns a server's certificate of it.
func root(t testing.TB, name string) signer {
	t.Helper()
	return signer{}.sign(t, newKey(t), x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: start.Add(-day), NotAfter: start.Add(900 * day),
	})
}

func (s signer) serve(t testing.TB, key crypto.Signer, until time.Time) signer {
	t.Helper()
	return s.sign(t, key, x509.Certificate{
		DNSNames: []string{"backup.example.net"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: start.Add(-day), NotAfter: until,
	})
}

func certificates(chain ...signer) []byte {
	var text bytes.Buffer
	for _, s := range chain {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: s.certificate.Raw})
	}
	return text.Bytes()
}

func private(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// give writes a certificate with its key, and who signed it if that is given,
// and returns options that name the files.
func give(t testing.TB, server signer, chain []byte, ca []byte) authority.Options {
	t.Helper()
	dir := t.TempDir()
	o := options(filepath.Join(dir, "unused"))
	o.CertificateFile, o.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, o.CertificateFile, chain)
	write(t, o.KeyFile, private(t, server.key))
	if ca != nil {
		o.CAFile = filepath.Join(dir, "ca.pem")
		write(t, o.CAFile, ca)
	}
	return o
}

// TestGivenKeys shakes hands with certificates for keys of each kind.
func TestGivenKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey, "ECDSA": newKey(t), "Ed25519": edKey} {
		t.Run(name, func(t *testing.T) {
			ca := root(t, "theirs")
			server := ca.serve(t, key, start.Add(90*day))
			a := open(t, give(t, server, certificates(server), certificates(ca)))
			client, peer := net.Pipe()
			defer client.Close()
			defer peer.Close()
			go func() { _ = tls.Server(peer, a.ServerConfig()).Handshake() }()
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(a.CA())
			conn := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: "backup.example.net", Time: func() time.Time { return start }})
			if err := conn.Handshake(); err != nil {
				t.Fatal(err)
			}
			chain := conn.ConnectionState().PeerCertificates
			if sha256.Sum256(chain[len(chain)-1].Raw) != a.Fingerprint() || !chain[len(chain)-1].Equal(ca.certificate) {
				t.Error("the chain does not carry the authority")
			}
		})
	}
}

func TestGivenCertificateThatSystemsTrust(t *testing.T) {
	ca := root(t, "public")
	server := ca.serve(t, newKey(t), start.Add(90*day))
	o := give(t, server, certificates(server), nil)
	a := open(t, o)
	if a.CA() != nil || a.Fingerprint() != [32]byte{} || !a.Expires().Equal(start.Add(90*day)) || len(shown(t, a)) != 1 {
		t.Errorf("CA %q, fingerprint %x, expires %s", a.CA(), a.Fingerprint(), a.Expires())
	}
	if _, err := os.Stat(o.Dir); !os.IsNotExist(err) {
		t.Error("an authority was made beside it")
	}
}

func TestGivenIntermediate(t *testing.T) {
	ca := root(t, "theirs")
	intermediate := ca.sign(t, newKey(t), x509.Certificate{
		Subject: pkix.Name{CommonName: "between"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	})
	server := intermediate.serve(t, newKey(t), start.Add(90*day))
	a := open(t, give(t, server, certificates(server, intermediate), certificates(ca)))
	if chain := shown(t, a); len(chain) != 3 || !chain[2].Equal(ca.certificate) {
		t.Errorf("the chain has %d certificates", len(chain))
	}
	_, err := authority.Open(give(t, server, certificates(server), certificates(ca)))
	wantFailure(t, err, job.InvalidRequest, "does not lead to one in", "whole chain")
}

func TestGivenSelfSigned(t *testing.T) {
	server := signer{}.serve(t, newKey(t), start.Add(90*day))
	a := open(t, give(t, server, certificates(server), certificates(server)))
	if chain := shown(t, a); len(chain) != 1 {
		t.Errorf("the chain has %d certificates", len(chain))
	}
	trusts(t, a, "backup.example.net", start)
}

func TestOpenRefusesGivenFiles(t *testing.T) {
	ca := root(t, "theirs")
	server := ca.serve(t, newKey(t), start.Add(90*day))
	for name, test := range map[string]struct {
		spoil      func(t *testing.T, o *authority.Options)
		code       job.Code
		says, hint string
	}{
		"no certificate": {func(t *testing.T, o *authority.Options) { remove(t, o.CertificateFile) },
			job.KeyMissing, "tls.certificate_file", "put it there"},
		"no key":       {func(t *testing.T, o *authority.Options) { remove(t, o.KeyFile) }, job.KeyMissing, "tls.key_file", "put it there"},
		"no authority": {func(t *testing.T, o *authority.Options) { remove(t, o.CAFile) }, job.KeyMissing, "tls.ca_file", "put it there"},
		"a directory":  {func(t *testing.T, o *authority.Options) { o.CertificateFile = t.TempDir() }, job.NotAllowed, "tls.certificate_file", "can read"},
		"key open to others": {func(t *testing.T, o *authority.Options) {
			if err := os.Chmod(o.KeyFile, 0o644); err != nil {
				t.Fatal(err)
			}
		}, job.NotAllowed, "open to others (mode 0644)", "chmod 600"},
		"another key": {func(t *testing.T, o *authority.Options) { write(t, o.KeyFile, private(t, newKey(t))) },
			job.InvalidRequest, "private key does not match", "belongs to"},
		"no PEM": {func(t *testing.T, o *authority.Options) { write(t, o.CertificateFile, server.certificate.Raw) },
			job.InvalidRequest, "cannot be used", "PEM"},
		"authority is no PEM": {func(t *testing.T, o *authority.Options) { write(t, o.CAFile, []byte("x")) }, job.InvalidRequest, "tls.ca_file", "PEM"},
		"authority's key":     {func(t *testing.T, o *authority.Options) { write(t, o.CAFile, private(t, ca.key)) }, job.InvalidRequest, "tls.ca_file", "PEM"},
		"another authority": {func(t *testing.T, o *authority.Options) { write(t, o.CAFile, certificates(root(t, "other"))) },
			job.InvalidRequest, "does not lead to one in", "signed"},
		"expired": {func(_ *testing.T, o *authority.Options) { o.Now = func() time.Time { return start.Add(90 * day) } },
			job.InvalidRequest, "has expired on 2027-02-20", "renew it"},
		"not yet valid": {func(_ *testing.T, o *authority.Options) { o.Now = func() time.Time { return start.Add(-2 * day) } },
			job.InvalidRequest, "is not valid before", "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			o := give(t, server, certificates(server), certificates(ca))
			test.spoil(t, &o)
			_, err := authority.Open(o)
			wantFailure(t, err, test.code, test.says, test.hint)
		})
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestGivenFilesThatCannotBeRead(t *testing.T) {
	server := signer{}.serve(t, newKey(t), start.Add(90*day))
	o := give(t, server, certificates(server), nil)
	if err := os.Chmod(o.CertificateFile, 0); err != nil {
		t.Fatal(err)
	}
	asNobody(func() {
		_, err := authority.Open(o)
		wantFailure(t, err, job.NotAllowed, "permission denied", "can read")
	})
}

// TestRunTakesUpChangedFiles changes the files as somebody does who renews a
// certificate, also one after the other and wrongly.
func TestRunTakesUpChangedFiles(t *testing.T) {
	ca := root(t, "theirs")
	first := ca.serve(t, newKey(t), start.Add(90*day))
	second := ca.serve(t, newKey(t), start.Add(180*day))
	o := give(t, first, certificates(first), certificates(ca))
	synctest.Test(t, func(t *testing.T) {
		log := &journal{}
		o.Logger = hclog.New(&hclog.LoggerOptions{Output: log})
		a := open(t, o)
		running(t, a)
		uses := func(what string, server signer, complaints int) {
			t.Helper()
			pass(5 * time.Minute)
			if !shown(t, a)[0].Equal(server.certificate) {
				t.Errorf("%s: the wrong certificate is shown", what)
			}
			if n := strings.Count(log.String(), "not renewed"); n != complaints {
				t.Errorf("%s: the log has %d complaints, want %d:\n%s", what, n, complaints, log.String())
			}
		}
		uses("nothing changed", first, 0)
		write(t, o.CertificateFile, certificates(second))
		uses("certificate without its key", first, 1)
		write(t, o.KeyFile, private(t, second.key))
		uses("both", second, 1)
		write(t, o.CertificateFile, []byte("nothing"))
		uses("broken", second, 2)
		remove(t, o.CertificateFile)
		uses("lost", second, 3)
		write(t, o.CertificateFile, certificates(root(t, "other").serve(t, second.key, start.Add(90*day))))
		uses("of another authority", second, 4)
		write(t, o.CertificateFile, certificates(second))
		uses("mended", second, 4)
		if !a.Expires().Equal(start.Add(180 * day)) {
			t.Errorf("expires %s", a.Expires())
		}
	})
}

package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/job"
)

// certificate makes a self-signed certificate for 127.0.0.1, and its PEM.
func certificate(t *testing.T, from, until time.Time) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	good, goodPEM := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldPEM := certificate(t, now.Add(-2*time.Hour), now.Add(-time.Hour))
	early, earlyPEM := certificate(t, now.Add(time.Hour), now.Add(2*time.Hour))
	for name, test := range map[string]struct {
		certificate tls.Certificate
		ca          []byte
		host        string
		says, hint  string // empty: it works
	}{
		"of the authority that is trusted": {good, goodPEM, "127.0.0.1", "", ""},
		"of an unknown authority":          {good, nil, "127.0.0.1", "is not trusted", "borgfleet login"},
		"of another authority":             {good, oldPEM, "127.0.0.1", "is not trusted", "CA"},
		"for another name":                 {good, goodPEM, "localhost", "is not for this name", "tls.names"},
		"expired":                          {old, oldPEM, "127.0.0.1", "expired at " + now.Add(-time.Hour).UTC().Format("2006-01-02"), "clock"},
		"not valid yet":                    {early, earlyPEM, "127.0.0.1", "is not valid before", "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler(t, newBackend()))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{test.certificate}}
			server.Config.ErrorLog = log.New(nowhere{}, "", 0)
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			defer server.CloseClientConnections()
			c, err := client.New(client.Options{URL: strings.Replace(server.URL, "127.0.0.1", test.host, 1), CA: test.ca})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Status(t.Context())
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			unreachable, ok := errors.AsType[*client.UnreachableError](err)
			if !ok || !strings.Contains(err.Error(), test.says) || !strings.Contains(unreachable.Hint(), test.hint) {
				t.Errorf("%v", err)
			}
		})
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func TestTLSToAPlainServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	c, err := client.New(client.Options{URL: strings.Replace(server.URL, "http:", "https:", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "is not reachable") {
		t.Errorf("error %v", err)
	}
}

func TestCAWithoutACertificate(t *testing.T) {
	if _, err := client.New(client.Options{URL: "https://backup.example.net", CA: []byte("nothing")}); job.AsFailure(err).Code != job.InvalidRequest {
		t.Errorf("error %v", err)
	}
}

// TestNothingGoesOverTheNetworkInClear: a password or token would.
func TestNothingGoesOverTheNetworkInClear(t *testing.T) {
	for url, fine := range map[string]bool{
		"http://127.0.0.1:8440": true, "http://localhost:8440": true, "http://[::1]:8440": true, "https://backup.example.net": true,
		"http://backup.example.net": false, "http://10.0.0.7:8440": false, "http://localhost.example.net": false,
	} {
		if _, err := client.New(client.Options{URL: url}); (err == nil) != fine {
			t.Errorf("%s: %v", url, err)
		}
	}
}

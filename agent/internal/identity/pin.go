package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// errPin says that the server does not show the certificate that the token
// names.
var errPin = errors.New("the server does not show the authority that the token names")

// pinned trusts nothing but the certificate with this SHA-256, which the server
// must send in its chain: the host has not got it yet. Whatever does not chain
// to it, within its days and under this name, ends before anything is sent.
func pinned(fingerprint [sha256.Size]byte, name string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         name,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyPinned(state.PeerCertificates, fingerprint, name)
		},
	}
}

func verifyPinned(chain []*x509.Certificate, fingerprint [sha256.Size]byte, name string) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, certificate := range chain {
		if sha256.Sum256(certificate.Raw) == fingerprint {
			roots.AddCert(certificate)
			found = true
			continue
		}
		between.AddCert(certificate)
	}
	if !found {
		return errPin
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: name, CurrentTime: time.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// enrolTrust returns how the server at an address is checked before the token's
// secret is spent there; nil means that there is no TLS, which only this very
// machine is trusted with.
func enrolTrust(address *url.URL, fingerprint [sha256.Size]byte) (*tls.Config, error) {
	if fingerprint != [sha256.Size]byte{} {
		return pinned(fingerprint, address.Hostname()), nil
	}
	if address.Scheme == "tls" || address.Scheme == "wss" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	if bus.IsLoopback(address.Hostname()) {
		return nil, nil
	}
	return nil, job.Fail(job.InvalidRequest, "%s is an address without TLS", address.Redacted()).
		WithHint("use the tls:// address of the bus; without TLS only this machine itself can be reached")
}

// parseAddress reads an address of the bus. A bare host, with or without a
// port, is taken for tls://.
func parseAddress(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "tls://" + text
	}
	address, err := url.Parse(text)
	if err == nil && address.Hostname() != "" && address.User == nil {
		switch address.Scheme {
		case "nats", "tls", "ws", "wss":
			return address, nil
		}
	}
	return nil, job.Invalid("url", "is not an address of a bus").
		WithHint("use one such as tls://backup.example.net:4222 or wss://backup.example.net:8443")
}

// overWeb reports whether an address is a websocket's: one client cannot use
// both kinds.
func overWeb(address string) bool {
	return strings.HasPrefix(address, "ws://") || strings.HasPrefix(address, "wss://")
}

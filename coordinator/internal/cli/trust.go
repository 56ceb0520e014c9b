package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/job"
)

// authority is a certificate authority that this machine does not know.
type authority struct{ certificate *x509.Certificate }

func (a *authority) fingerprint() string {
	sum := sha256.Sum256(a.certificate.Raw)
	return hex.EncodeToString(sum[:])
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// trustTimeout bounds one TLS handshake.
const trustTimeout = 10 * time.Second

// unknownAuthority returns the authority that signed the certificate at an
// address, if this machine does not trust that by itself; else nil. Nothing but
// a TLS handshake is sent.
func unknownAuthority(ctx context.Context, address string) (*authority, error) {
	target, err := url.Parse(address)
	if err != nil || target.Scheme != "https" || target.Host == "" {
		return nil, nil // plain, or not an address: the client says so
	}
	err = handshake(ctx, target, &tls.Config{})
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		return nil, nil // trusted; other faults are found, and told, by the client
	}
	var root *x509.Certificate
	err = handshake(ctx, target, &tls.Config{
		InsecureSkipVerify: true, // only to look at it; nothing is sent before a person agrees
		VerifyConnection: func(state tls.ConnectionState) error {
			last := state.PeerCertificates[len(state.PeerCertificates)-1]
			if !last.IsCA {
				return job.Fail(job.NotAllowed, "%s does not send the certificate of its authority", address).
					WithHint("give the authority with --ca FILE")
			}
			root = last
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &authority{certificate: root}, nil
}

func handshake(ctx context.Context, target *url.URL, config *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	host, port := target.Hostname(), target.Port()
	if port == "" {
		port = "443"
	}
	config.ServerName = host
	connection, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		if _, isNetwork := errors.AsType[*net.OpError](err); isNetwork && ctx.Err() == nil {
			return &client.UnreachableError{URL: target.String(), Err: err}
		}
		return err
	}
	return connection.Close()
}

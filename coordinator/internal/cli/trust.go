package cli

import (
	"bytes"
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

// authority is the last certificate that a server shows: that of its
// certificate authority, if it shows its whole chain.
type authority struct {
	certificate *x509.Certificate
	known       bool // this machine trusts the chain, or rejects it for another reason
}

func (a authority) fingerprint() string {
	sum := sha256.Sum256(a.certificate.Raw)
	return hex.EncodeToString(sum[:])
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// signs reports whether to trust it is more than to trust one certificate that
// will be renewed.
func (a authority) signs() bool {
	return a.certificate.IsCA || bytes.Equal(a.certificate.RawIssuer, a.certificate.RawSubject)
}

// trustTimeout bounds one TLS handshake.
const trustTimeout = 10 * time.Second

// shownAuthority asks an https address for its certificates. Nothing but a TLS
// handshake is sent.
func shownAuthority(ctx context.Context, address string) (authority, error) {
	target, err := url.Parse(address)
	if err != nil || target.Scheme != "https" || target.Hostname() == "" {
		return authority{}, job.Invalid("url", "%q is not an https address", address)
	}
	chain, err := handshake(ctx, target)
	if err != nil {
		if ctx.Err() != nil {
			return authority{}, context.Cause(ctx)
		}
		return authority{}, &client.UnreachableError{URL: address, Err: err}
	}
	between := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		between.AddCert(certificate)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: target.Hostname(), Intermediates: between})
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	return authority{certificate: chain[len(chain)-1], known: !unknown}, nil
}

func handshake(ctx context.Context, target *url.URL) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	port := target.Port()
	if port == "" {
		port = "443"
	}
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName:         target.Hostname(),
		InsecureSkipVerify: true, // only to look at it: nothing is sent
	}}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(target.Hostname(), port))
	if err != nil {
		return nil, err
	}
	defer connection.Close() // nothing was said
	return connection.(*tls.Conn).ConnectionState().PeerCertificates, nil
}

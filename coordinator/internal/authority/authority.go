// Package authority gives the coordinator its TLS certificate: one of its own
// authority, which it makes at the first start and which hosts trust by its
// fingerprint, or one that was given in files. Either is renewed while the
// coordinator runs.
//
// The authority is one file with key and certificate, so that after a crash it
// is there or not. It signs nothing but the server's certificate. When it is
// lost, every host has to be told of a new one: it belongs into the backup of
// the data directory.
package authority

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options are what an authority is opened with.
type Options struct {
	Dir   string   // for what it makes; not used with a given certificate
	Names []string // DNS names and IP addresses of the server

	CertificateFile string // PEM with its chain; empty: the authority makes one
	KeyFile         string // PEM, of the certificate
	CAFile          string // PEM, who signed it; empty: an authority that every system trusts

	Now    func() time.Time // nil: time.Now
	Logger hclog.Logger
}

// Authority is the server's certificate and who vouches for it. It is safe for
// concurrent use.
type Authority struct {
	source      source
	current     atomic.Pointer[tls.Certificate]
	ca          []byte
	fingerprint [sha256.Size]byte
	logger      hclog.Logger
}

// source is where certificates come from.
type source interface {
	// next returns the certificate that takes the place of the current one,
	// which is nil at first; nil when that one goes on.
	next(current *tls.Certificate) (*tls.Certificate, error)
}

// checkInterval is how often Run looks whether the certificate is to be
// renewed, or was.
const checkInterval = time.Minute

// Open makes the authority and the server's certificate when they are not
// there, or takes the given ones. Faults that an operator can mend are a
// *job.Failure.
func Open(options Options) (*Authority, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	a := &Authority{logger: options.Logger.Named("authority")}
	var err error
	var roots []*x509.Certificate
	if options.CertificateFile != "" {
		a.source, roots, err = openGiven(options)
	} else {
		a.source, roots, err = openOwn(options, a.logger)
	}
	if err != nil {
		return nil, err
	}
	first, err := a.source.next(nil)
	if err != nil {
		return nil, err
	}
	a.current.Store(first)
	if len(roots) > 0 {
		a.ca, a.fingerprint = encodeCertificates(roots), sha256.Sum256(roots[0].Raw)
	}
	return a, nil
}

// ServerConfig is for everything that listens: it shows the newest certificate,
// with who signed it, so that a host that knows only the fingerprint finds it.
func (a *Authority) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.current.Load(), nil },
	}
}

// CA returns what clients have to trust, as PEM; nil when they trust it anyway,
// because the certificate was given without a CA file.
func (a *Authority) CA() []byte { return bytes.Clone(a.ca) }

// Fingerprint returns the SHA-256 of the authority's certificate (DER), of the
// first one if a CA file has several; zero when CA returns nil.
func (a *Authority) Fingerprint() [sha256.Size]byte { return a.fingerprint }

// Expires returns when the certificate in use ends.
func (a *Authority) Expires() time.Time { return a.current.Load().Leaf.NotAfter }

// Run renews the authority's own certificate when two thirds of its life are
// over, and takes up given files that have changed, until ctx ends. While that
// does not work, the certificate in use stays, and the log says why.
func (a *Authority) Run(ctx context.Context) error {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		fresh, err := a.source.next(a.current.Load())
		switch {
		case err != nil && err.Error() != said: // not every minute
			said = err.Error()
			a.logger.Error("certificate not renewed", "expires", a.Expires(), "err", err)
		case err == nil && fresh != nil:
			said = ""
			a.current.Store(fresh)
			a.logger.Info("certificate renewed", "expires", a.Expires())
		}
	}
}

// IssueElsewhere makes a key and a certificate for a server of ours that does
// not run in the coordinator: both, with who signed it, as one PEM text. It is
// signed by the coordinator's own authority, good for two years, and nobody
// renews it. ca is what clients have to trust. The server's certificate
// is left alone, so the coordinator may run.
func IssueElsewhere(options Options) (pem, ca []byte, err error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	issuer := &own{dir: options.Dir, names: options.Names, life: elsewhereLife, now: options.Now, logger: options.Logger}
	if err := issuer.open(filepath.Join(options.Dir, authorityFile)); err != nil {
		return nil, nil, err
	}
	if pem, err = issuer.sign(); err != nil {
		return nil, nil, err
	}
	return pem, encodeCertificates([]*x509.Certificate{issuer.authority.Leaf}), nil
}

// encodeCertificates returns certificates as PEM.
func encodeCertificates(certificates []*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, certificate := range certificates {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}) // a buffer takes it all
	}
	return text.Bytes()
}

package authority

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/hashicorp/go-hclog"
)

const (
	authorityFile = "authority.pem" // key and certificate of the authority
	serverFile    = "server.pem"    // key and certificate of the server

	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 90 * 24 * time.Hour
	elsewhereLife = 2 * 365 * 24 * time.Hour // of a certificate that nobody renews by itself
	backdate      = 24 * time.Hour           // for hosts whose clock is behind
)

// own is the coordinator's own authority.
type own struct {
	dir       string
	authority tls.Certificate
	names     []string
	life      time.Duration // of the server's certificate
	now       func() time.Time
	logger    hclog.Logger
}

// openOwn reads the authority, or makes it when nothing of it is there.
func openOwn(options Options, logger hclog.Logger) (source, []*x509.Certificate, error) {
	if err := makeDir(options.Dir); err != nil {
		return nil, nil, err
	}
	o := &own{dir: options.Dir, names: options.Names, life: serverLife, now: options.Now, logger: logger}
	err := o.open(filepath.Join(o.dir, authorityFile))
	return o, []*x509.Certificate{o.authority.Leaf}, err
}

func (o *own) open(path string) error {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, other := os.Lstat(filepath.Join(o.dir, serverFile)); other == nil {
			return job.Fail(job.KeyMissing, "the authority that hosts trust, %s, is not there", path).
				WithHint("put it back from your backup; %s", o.anew())
		}
		if data, err = o.found(path); err == nil {
			o.logger.Info("authority made", "path", path)
		}
	}
	if err != nil {
		return err
	}
	o.authority, err = tls.X509KeyPair(data, data)
	if err == nil && !o.authority.Leaf.IsCA {
		err = errors.New("it may not sign others")
	}
	if err != nil {
		return job.Fail(job.KeyMissing, "%s does not hold an authority's key and its certificate: %s", path, err).
			WithHint("put it back from your backup; %s", o.anew())
	}
	return nil
}

// anew says what it takes to have another authority.
func (o *own) anew() string {
	return "or remove " + o.dir + " to begin with a new one, and enrol every host again"
}

// found makes the authority.
func (o *own) found(path string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	now := o.now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "borgfleet " + hex.EncodeToString(random[:])}, // tells several apart
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	data, err := encode(key, certificate)
	if err != nil {
		return nil, err
	}
	return data, writePrivate(path, data)
}

// next implements source.
func (o *own) next(current *tls.Certificate) (*tls.Certificate, error) {
	path := filepath.Join(o.dir, serverFile)
	if current == nil {
		stored, err := o.read(path)
		if err != nil {
			return nil, err
		}
		if o.good(stored) {
			return stored, nil
		}
	}
	if o.good(current) {
		return nil, nil
	}
	return o.issue(path)
}

// read returns the stored certificate, nil when there is none that can be used:
// a new one is as good.
func (o *own) read(path string) (*tls.Certificate, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	stored, err := tls.X509KeyPair(data, data)
	if err == nil {
		err = stored.Leaf.CheckSignatureFrom(o.authority.Leaf)
	}
	if err != nil {
		o.logger.Warn("the server's certificate cannot be used, a new one is made", "path", path, "err", err)
		return nil, nil
	}
	return &stored, nil
}

// good reports whether a certificate needs no successor yet.
func (o *own) good(certificate *tls.Certificate) bool {
	if certificate == nil {
		return false
	}
	leaf, now := certificate.Leaf, o.now()
	renew := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
	if leaf.NotAfter.Equal(o.authority.Leaf.NotAfter) {
		renew = leaf.NotAfter // there is none that lasts longer
	}
	return now.After(leaf.NotBefore) && now.Before(renew) &&
		slices.Equal(namesOf(leaf), namesOf(o.template()))
}

// template is the server's certificate as it should be now.
func (o *own) template() *x509.Certificate {
	now := o.now()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "borgfleet coordinator"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(o.life),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if end := o.authority.Leaf.NotAfter; template.NotAfter.After(end) {
		template.NotAfter = end // later, nobody would believe it
	}
	for _, name := range o.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// namesOf returns all names of a certificate, sorted.
func namesOf(certificate *x509.Certificate) []string {
	names := slices.Clone(certificate.DNSNames)
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// issue makes the server's certificate and stores it.
func (o *own) issue(path string) (*tls.Certificate, error) {
	data, err := o.sign()
	if err != nil {
		return nil, err
	}
	if err := writePrivate(path, data); err != nil {
		return nil, err
	}
	issued, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	return &issued, nil
}

// sign makes a key and a certificate for it, with who signed it, as PEM.
func (o *own) sign() ([]byte, error) {
	if end := o.authority.Leaf.NotAfter; !o.now().Before(end) {
		return nil, job.Fail(job.Unavailable, "the authority that hosts trust has expired on %s", end.Format(time.DateOnly)).
			WithHint("see that the clock is right; %s", o.anew())
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server's key: %w", err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, o.template(), o.authority.Leaf, key.Public(), o.authority.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("make the server's certificate: %w", err)
	}
	return encode(key, certificate, o.authority.Leaf.Raw)
}

// encode returns a key and certificates as PEM.
func encode(key crypto.Signer, certificates ...[]byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	var text bytes.Buffer
	blocks := []*pem.Block{{Type: "PRIVATE KEY", Bytes: der}}
	for _, certificate := range certificates {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	}
	for _, block := range blocks {
		if err := pem.Encode(&text, block); err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
	}
	return text.Bytes(), nil
}

package authority

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// given is a certificate that somebody else renews.
type given struct {
	Options
	roots []*x509.Certificate // who signed it; none: an authority that every system trusts
	seen  [sha256.Size]byte   // of the files that were read last
}

// openGiven reads who signed the certificate. That is not read again: hosts
// know its fingerprint.
func openGiven(options Options) (source, []*x509.Certificate, error) {
	g := &given{Options: options}
	if options.CAFile == "" {
		return g, nil, nil
	}
	data, err := readGiven("tls.ca_file", options.CAFile, os.ReadFile)
	if err != nil {
		return nil, nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			g.roots = nil
			break
		}
		g.roots = append(g.roots, certificate)
	}
	if len(g.roots) == 0 {
		return nil, nil, job.Fail(job.InvalidRequest, "tls.ca_file %s does not hold certificates", options.CAFile).
			WithHint("it must be PEM, and every block in it a CERTIFICATE")
	}
	return g, g.roots, nil
}

// next implements source: it reads the files, and judges them when they are not
// those that it has judged before.
func (g *given) next(*tls.Certificate) (*tls.Certificate, error) {
	chain, err := readGiven("tls.certificate_file", g.CertificateFile, os.ReadFile)
	if err != nil {
		return nil, err
	}
	key, err := readGiven("tls.key_file", g.KeyFile, readPrivate)
	if err != nil {
		return nil, err
	}
	content := sha256.Sum256(slices.Concat(chain, []byte{0}, key))
	if content == g.seen {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, job.Fail(job.InvalidRequest, "tls.certificate_file %s and tls.key_file %s cannot be used: %s", g.CertificateFile, g.KeyFile, err).
			WithHint("both must be PEM, the key without a passphrase, and the first certificate the one that the key belongs to")
	}
	if err := g.check(&pair); err != nil {
		return nil, err
	}
	g.seen = content
	return &pair, nil
}

// check refuses what clients would refuse, and lets the chain carry who signed
// it.
func (g *given) check(pair *tls.Certificate) error {
	leaf, now := pair.Leaf, g.Now()
	switch {
	case !now.Before(leaf.NotAfter):
		return job.Fail(job.InvalidRequest, "the certificate in %s has expired on %s", g.CertificateFile, leaf.NotAfter.Format(time.DateOnly)).
			WithHint("renew it; or remove tls.certificate_file, and the coordinator makes one of its own")
	case now.Before(leaf.NotBefore):
		return job.Fail(job.InvalidRequest, "the certificate in %s is not valid before %s", g.CertificateFile, leaf.NotBefore.Format(time.RFC3339)).
			WithHint("see that the clock is right")
	case len(g.roots) == 0:
		return nil
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, root := range g.roots {
		options.Roots.AddCert(root)
	}
	for _, der := range pair.Certificate[1:] {
		if certificate, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(certificate)
		}
	}
	if _, err := leaf.Verify(options); err != nil {
		return job.Fail(job.InvalidRequest, "the certificate in %s does not lead to one in %s: %s", g.CertificateFile, g.CAFile, err).
			WithHint("give the authority that signed it, and its whole chain in tls.certificate_file; a new authority takes a restart")
	}
	for _, root := range g.roots {
		if !slices.ContainsFunc(pair.Certificate, func(der []byte) bool { return bytes.Equal(der, root.Raw) }) {
			pair.Certificate = append(pair.Certificate, root.Raw)
		}
	}
	return nil
}

// readGiven reads a file that the configuration names.
func readGiven(field, path string, read func(string) ([]byte, error)) ([]byte, error) {
	data, err := read(path)
	if _, told := errors.AsType[*job.Failure](err); told {
		return nil, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, job.Fail(job.KeyMissing, "%s %s is not there", field, path).
			WithHint("put it there, or remove the keys below tls, and the coordinator makes a certificate of its own")
	}
	if err != nil {
		return nil, job.Fail(job.NotAllowed, "%s cannot be read: %s", field, err).
			WithHint("it must be a file that the coordinator's user can read")
	}
	return data, nil
}

package daemon

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/shared/job"
)

// identity is who this host is to others.
type identity struct {
	signer     string        // the coordinator's public signing key
	sealKey    nkeys.KeyPair // curve key that secrets are sealed to
	sealPublic string
	hostID     string // BORG_HOST_ID: names this host in borg's locks
}

func loadIdentity(c config.Config) (identity, error) {
	var id identity
	var err error
	if err = CheckCredentials(c.Bus.CredentialsFile, c.Host); err != nil {
		return id, err
	}
	if id.signer, err = Signer(c.Bus.SignerFile, c.Host); err != nil {
		return id, err
	}
	if id.sealKey, err = sealKey(filepath.Join(c.Data, "seal.key")); err != nil {
		return id, err
	}
	if id.sealPublic, err = id.sealKey.PublicKey(); err != nil {
		return id, fmt.Errorf("public seal key: %w", err)
	}
	id.hostID, err = hostID(filepath.Join(c.Data, "host-id"), c.Host)
	return id, err
}

// CheckCredentials returns nil, or a *job.Failure when the credentials file
// cannot be read or is open to others.
func CheckCredentials(path, host string) error {
	file, err := os.Open(path)
	if err != nil {
		return unreadable("credentials", path, host, err)
	}
	defer file.Close() // read only
	info, err := file.Stat()
	if err != nil {
		return unreadable("credentials", path, host, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return job.Fail(job.PermissionDenied, "credentials %s are open to others (mode %04o)", path, mode).
			WithHint("chmod 600 %s", path)
	}
	return nil
}

// Signer reads the coordinator's public signing key.
func Signer(path, host string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", unreadable("the coordinator's signing key", path, host, err)
	}
	signer := strings.TrimSpace(string(data))
	if _, err := nkeys.FromPublicKey(signer); err != nil {
		return "", job.Fail(job.InvalidRequest, "%s does not hold a public signing key", path).
			WithHint("copy signer.pub from the coordinator's data directory, agents/%s, again", host)
	}
	return signer, nil
}

func unreadable(what, path, host string, err error) *job.Failure {
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		err = cause.Err
	}
	failure := job.Fail(job.NotAllowed, "read %s %s: %s", what, path, err)
	if errors.Is(err, os.ErrNotExist) {
		return failure.WithHint("run \"borgfleet host add %s\" on the coordinator and copy agents/%s from its data directory, or name the file in agent.yaml", host, host)
	}
	return failure.WithHint("run the agent as the user that owns the file, usually root")
}

// sealKey loads the host's curve key, which it makes at the first start.
func sealKey(path string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newSealKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read seal key: %w", err)
	}
	key, err := nkeys.FromCurveSeed(bytes.TrimSpace(seed))
	if err != nil {
		return nil, job.Fail(job.IntegrityError, "seal key %s is damaged: %s", path, err).
			WithHint("move it away and start again: a new one is made, and secrets are sealed to that")
	}
	return key, nil
}

func newSealKey(path string) (nkeys.KeyPair, error) {
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, fmt.Errorf("make seal key: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, fmt.Errorf("encode seal key: %w", err)
	}
	if err := renameio.WriteFile(path, append(seed, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("store seal key: %w", err)
	}
	return key, nil
}

const hostIDMark = "@borgfleet-"

// hostID returns the name by which borg's locks know this host. It must never
// change while locks may be held, and never be shared: borg takes a lock of its
// own host whose process is gone for dead, and removes it.
func hostID(path, host string) (string, error) {
	data, err := os.ReadFile(path)
	id := strings.TrimSpace(string(data))
	if _, random, ok := strings.Cut(id, hostIDMark); err == nil && ok && len(random) >= 8 && !strings.ContainsAny(id, " \n/\x00") {
		return id, nil // also under another host name: locks may still bear it
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read host id: %w", err)
	}
	id = host + hostIDMark + strings.ToLower(rand.Text())
	if err := renameio.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("store host id: %w", err)
	}
	return id, nil
}

// Trust returns how the bus's certificate is checked; nil means by the system's
// authorities.
func Trust(caFile string) (*tls.Config, error) {
	if caFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read bus.ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, job.Fail(job.InvalidRequest, "bus.ca_file %s holds no certificate", caFile).
			WithHint("it must be a PEM file, beginning with -----BEGIN CERTIFICATE-----")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

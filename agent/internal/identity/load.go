package identity

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

const hostIDMark = "@borgfleet-"

// HostID returns the name by which borg's locks know this host (BORG_HOST_ID),
// which it makes at the first call. It must never change while locks may be
// held, and never be shared: borg takes a lock of its own host whose process is
// gone for dead, and removes it.
func HostID(data, host string) (string, error) {
	path := filepath.Join(data, "host-id")
	text, err := os.ReadFile(path)
	id := strings.TrimSpace(string(text))
	if _, random, ok := strings.Cut(id, hostIDMark); err == nil && ok && len(random) >= 8 && !strings.ContainsAny(id, " \n/\x00") {
		return id, nil // also under another host name: locks may still bear it
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read host id: %w", err)
	}
	id = host + hostIDMark + strings.ToLower(rand.Text())
	if err := WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
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
		return nil, job.Fail(job.NotAllowed, "read bus.ca_file %s: %s", caFile, cause(err)).
			WithHint("it was written when this host was enrolled; enrol again to get it back")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, job.Fail(job.InvalidRequest, "bus.ca_file %s holds no certificate", caFile).
			WithHint("it must be a PEM file, beginning with -----BEGIN CERTIFICATE-----")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

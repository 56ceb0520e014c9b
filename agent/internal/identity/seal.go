package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// keptSealKeys bounds how many seal keys are kept: what was sealed to an older
// one must be entered again.
const keptSealKeys = 8

func sealFile(data string) string { return filepath.Join(data, "seal.key") }

// addSealKey makes the seal key the newest, if it is not there yet.
func (k Keys) addSealKey(data string) error {
	if err := makeDir(data); err != nil {
		return err
	}
	before, err := os.ReadFile(sealFile(data))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return denied("read seal key", err)
	}
	seeds := bytes.Fields(before)
	for _, seed := range seeds {
		if bytes.Equal(seed, k.seal) {
			return nil
		}
	}
	seeds = append([][]byte{k.seal}, seeds...)
	seeds = seeds[:min(len(seeds), keptSealKeys)]
	return WriteFile(sealFile(data), append(bytes.Join(seeds, []byte("\n")), '\n'), 0o600)
}

// Ring is the host's seal keys as the file has them: keys that a command
// changes are used by the running agent at once. It is safe for concurrent use.
type Ring struct {
	path   string
	logger hclog.Logger

	mu    sync.Mutex
	ring  *secret.Ring
	asOf  time.Time // modification time of the file that was read
	fault string    // why the file could not be read when it was looked at last
}

// OpenRing reads the seal keys in a data directory; a host that has none yet
// gets one.
func OpenRing(data string, logger hclog.Logger) (*Ring, error) {
	if _, err := os.Stat(sealFile(data)); errors.Is(err, fs.ErrNotExist) {
		keys, err := makeKeys()
		if err == nil {
			err = keys.addSealKey(data)
		}
		if err != nil {
			return nil, err
		}
	}
	r := &Ring{path: sealFile(data), logger: logger.Named("identity")}
	return r, r.read()
}

// CheckSealKey returns the public seal key of a data directory, "" if there is
// none yet.
func CheckSealKey(data string) (string, error) {
	if _, err := os.Stat(sealFile(data)); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	r := &Ring{path: sealFile(data)}
	if err := r.read(); err != nil {
		return "", err
	}
	return r.ring.Public(), nil
}

func (r *Ring) read() error {
	info, err := os.Stat(r.path)
	if err != nil {
		return denied("read seal key", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return job.Fail(job.PermissionDenied, "seal key %s is open to others (mode %04o)", r.path, mode).WithHint("chmod 600 %s", r.path)
	}
	text, err := os.ReadFile(r.path)
	if err != nil {
		return denied("read seal key", err)
	}
	ring, err := secret.ParseRing(text)
	if err != nil {
		return job.Fail(job.IntegrityError, "seal key %s is damaged: %s", r.path, err).
			WithHint("move it away and start again: a new one is made, and secrets are sealed to that")
	}
	r.ring, r.asOf = ring, info.ModTime()
	return nil
}

// Public returns the newest public key, which secrets are to be sealed to.
func (r *Ring) Public() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	return r.ring.Public()
}

// Open opens a sealed secret, with whichever key fits. The error is
// [secret.ErrNotOurs].
func (r *Ring) Open(sealed secret.Sealed, purpose secret.Purpose) (secret.Value, error) {
	r.mu.Lock()
	r.look()
	ring := r.ring
	r.mu.Unlock()
	return ring.Open(sealed, purpose)
}

// look reads the file if it has changed. One that cannot be read changes
// nothing, and is spoken of once.
func (r *Ring) look() {
	info, err := os.Stat(r.path)
	if err == nil && info.ModTime().Equal(r.asOf) {
		return
	}
	if err == nil {
		err = r.read()
	}
	fault := ""
	if err != nil {
		fault = fmt.Sprint(err)
	}
	if fault != r.fault && err != nil {
		r.logger.Error("read the changed seal key; the one before is still used", "err", err)
	}
	if fault == "" {
		r.logger.Info("the seal key was changed")
	}
	r.fault = fault
}

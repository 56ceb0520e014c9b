package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/renameio/v2"
)

// Files in a host's credentials directory.
const (
	credentialsFile = "agent.creds"
	signerFile      = "signer.pub"
)

// writeCredentials writes what an agent needs to connect, and returns the
// directory. What an earlier, unfinished attempt left there is removed.
func (r *Registry) writeCredentials(host string, credentials []byte) (string, error) {
	dir := filepath.Join(r.options.CredentialsDir, host)
	err := r.removeCredentials(host)
	if err == nil {
		err = writeFiles(dir, map[string][]byte{
			credentialsFile: credentials, signerFile: []byte(r.options.SignerPublicKey + "\n"),
		})
	}
	if err != nil {
		return "", job.Fail(job.Unavailable, "the credentials of host %s cannot be written: %s", host, err).
			WithHint("the coordinator's user must be able to write to its data directory, and there must be space")
	}
	return dir, nil
}

// writeFiles writes files that only their owner may read into a new directory,
// and returns when all of it is on disk.
func writeFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, data := range files {
		if err := renameio.WriteFile(filepath.Join(dir, name), data, 0o600, renameio.WithTempDir(dir)); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

func syncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(handle.Sync(), handle.Close())
}

func (r *Registry) removeCredentials(host string) error {
	if err := os.RemoveAll(filepath.Join(r.options.CredentialsDir, host)); err != nil {
		return fmt.Errorf("remove credentials of host %s: %w", host, err)
	}
	return nil
}

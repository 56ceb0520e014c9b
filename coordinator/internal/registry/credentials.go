package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"
)

// Files in a host's credentials directory.
const (
	credentialsFile = "agent.creds"
	signerFile      = "signer.pub"
)

// writeCredentials writes what an agent needs to connect, and returns the
// directory. What an unfinished addition or removal left there is ended.
func (r *Registry) writeCredentials(host string, credentials []byte) (string, error) {
	dir := filepath.Join(r.options.CredentialsDir, host)
	r.revokeLeftover(filepath.Join(dir, credentialsFile), host)
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

// endCredentials revokes the credentials of a host that was removed, and
// deletes its files. Files of credentials that still work are left, so that
// adding the host again revokes them.
func (r *Registry) endCredentials(host fleet.Host) error {
	if err := r.options.Revoker.RevokeAgent(host.PublicKey); err != nil {
		r.logger.Error("credentials of a removed host still work", "host", host.Name, "key", host.PublicKey, "err", err)
		cause := job.AsFailure(err)
		return job.Fail(job.Unavailable, "host %s was removed, but its credentials still work: %s", host.Name, cause.Message).
			WithHint("%s", cmp.Or(cause.Hint, "add the host again and remove it once more; see the coordinator's log"))
	}
	if err := r.removeCredentials(host.Name); err != nil {
		r.logger.Error("credentials of a removed host are revoked, and their files are still there", "host", host.Name, "err", err)
	}
	return nil
}

// revokeLeftover revokes the credentials in a file, if there is one, so that
// nobody else can speak for a host of the same name.
func (r *Registry) revokeLeftover(path, host string) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = r.revoke(text)
	}
	if err != nil {
		r.logger.Warn("earlier credentials of a host may still work", "host", host, "path", path, "err", err)
	}
}

func (r *Registry) revoke(credentials []byte) error {
	pair, err := nkeys.ParseDecoratedUserNKey(credentials)
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	defer pair.Wipe()
	key, err := pair.PublicKey()
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	return r.options.Revoker.RevokeAgent(key)
}

func (r *Registry) removeCredentials(host string) error {
	if err := os.RemoveAll(filepath.Join(r.options.CredentialsDir, host)); err != nil {
		return fmt.Errorf("remove credentials of host %s: %w", host, err)
	}
	return nil
}

// Package vault encrypts secrets at rest with a key that is kept in a file
// outside the database: who has only one of the two has nothing.
//
// The key comes from the service manager when it gives one: the systemd
// credential [Credential]. Then it need not lie readable on the disk beside the
// database, as systemd keeps it sealed to the machine's TPM until the service
// starts. To change over, seal the key file, tell the unit, and remove the file:
//
//	systemd-creds encrypt --name=borgfleet-secrets-key secrets.key borgfleet-secrets-key.cred
//	LoadCredentialEncrypted=borgfleet-secrets-key:/etc/borgfleet/borgfleet-secrets-key.cred
package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Vault encrypts and decrypts. It is safe for concurrent use.
type Vault struct {
	keyFile    string
	credential bool // it is the service manager's
	identity   *age.X25519Identity
}

// Credential is the name of the systemd credential that takes the place of the
// key file.
const Credential = "borgfleet-secrets-key"

// Open reads the key (an age X25519 identity): from the systemd credential
// [Credential] if there is one, else from the key file, which has the mode 0600.
// When neither is there, the file is made if mayCreate is set, which must only
// be so while no secret is stored. Faults that an operator can mend are a
// *job.Failure.
func Open(keyFile string, mayCreate bool) (*Vault, error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		path := filepath.Join(dir, Credential)
		value, err := readCredential(path)
		if !errors.Is(err, fs.ErrNotExist) {
			v, err := with(path, value, err)
			if err == nil {
				v.credential = true
			}
			return v, err
		}
	}
	value, err := secret.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if !mayCreate {
			return nil, job.Fail(job.KeyMissing, "the key file %s is not there, and secrets are stored that only it can open", keyFile).
				WithHint("put it back from your copy; without it the passphrases must be entered again")
		}
		if err := create(keyFile); err != nil {
			return nil, fmt.Errorf("make key file %s: %w", keyFile, err)
		}
		value, err = secret.ReadFile(keyFile)
	}
	return with(keyFile, value, err)
}

// FromCredential reports whether the key came from the service manager.
func (v *Vault) FromCredential() bool { return v.credential }

// readCredential reads a file that the service manager has put where only its
// service can go. It may show rights of the group, which are an access list's.
func readCredential(path string) (secret.Value, error) {
	file, err := os.Open(path)
	if err != nil {
		return secret.Value{}, err
	}
	defer file.Close() // read only: nothing to lose
	info, err := file.Stat()
	if err != nil {
		return secret.Value{}, err
	}
	if mode := info.Mode().Perm(); mode&0o037 != 0 {
		return secret.Value{}, fmt.Errorf("the credential %s is open to others (mode %04o)", path, mode)
	}
	return secret.Read(file)
}

// with returns a vault with the key that was read from a file.
func with(keyFile string, value secret.Value, err error) (*Vault, error) {
	if err != nil {
		return nil, job.Fail(job.NotAllowed, "the key file cannot be used: %s", err).
			WithHint("it must be readable by the coordinator's user, and by nobody else")
	}
	identity, err := parse(value)
	if err != nil {
		return nil, job.Fail(job.KeyMissing, "%s does not hold an age secret key: %s", keyFile, err).
			WithHint("put it back from your copy; it has one line that begins with AGE-SECRET-KEY-1")
	}
	return &Vault{keyFile: keyFile, identity: identity}, nil
}

// parse finds the one identity in a key file. Its errors never carry a line of
// the file.
func parse(file secret.Value) (*age.X25519Identity, error) {
	var found *age.X25519Identity
	for line := range strings.Lines(string(file.Reveal())) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		identity, err := age.ParseX25519Identity(line)
		if err != nil {
			return nil, errors.New("a line is not a key")
		}
		if found != nil {
			return nil, errors.New("more than one key")
		}
		found = identity
	}
	if found == nil {
		return nil, errors.New("no key")
	}
	return found, nil
}

// create writes a fresh identity so that it is whole and on disk under its
// name before anything is encrypted to it, and never replaces a file.
func create(keyFile string) (err error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	dir := filepath.Dir(keyFile)
	file, err := os.CreateTemp(dir, ".secrets-*.key") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = fmt.Fprintf(file, "# Encrypts the secrets in the database beside it. Keep a copy elsewhere.\n# created: %s\n# public key: %s\n%s\n",
		time.Now().UTC().Format(time.RFC3339), identity.Recipient(), identity)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), keyFile); err != nil {
		return err
	}
	return disk.SyncDir(dir)
}

// Encrypt returns the value as an age file.
func (v *Vault) Encrypt(value secret.Value) ([]byte, error) {
	var out bytes.Buffer
	writer, err := age.Encrypt(&out, v.identity.Recipient())
	if err != nil {
		return nil, fmt.Errorf("encrypt secret: %w", err)
	}
	if _, err := writer.Write(value.Reveal()); err != nil {
		return nil, fmt.Errorf("encrypt secret: %w", err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("encrypt secret: %w", err)
	}
	return out.Bytes(), nil
}

// Decrypt opens what Encrypt made. A *job.Failure says that it was made with
// another key, or is damaged.
func (v *Vault) Decrypt(ciphertext []byte) (secret.Value, error) {
	reader, err := age.Decrypt(bytes.NewReader(ciphertext), v.identity)
	if _, other := errors.AsType[*age.NoIdentityMatchError](err); other {
		return secret.Value{}, job.Fail(job.KeyMissing, "a stored secret was encrypted with another key than %s", v.keyFile).
			WithHint("put back the key file that belongs to this database")
	}
	if err != nil {
		return secret.Value{}, damaged()
	}
	plain, err := io.ReadAll(io.LimitReader(reader, secret.MaxBytes+1))
	if err != nil || len(plain) > secret.MaxBytes {
		return secret.Value{}, damaged()
	}
	return secret.New(plain), nil
}

func damaged() *job.Failure {
	return job.Fail(job.Internal, "a stored secret is damaged").
		WithHint("restore the database from a snapshot, or enter the passphrase again")
}

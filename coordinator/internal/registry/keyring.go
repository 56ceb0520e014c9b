package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Vault encrypts passphrases at rest. It is safe for concurrent use.
type Vault interface {
	Encrypt(value secret.Value) ([]byte, error)
	Decrypt(ciphertext []byte) (secret.Value, error)
}

// Keyring holds the repositories' passphrases: encrypted in the store, by a key
// that is not there. It is safe for concurrent use.
type Keyring struct {
	store *store.Store
	vault Vault
}

// NewKeyring returns the keyring of what the store holds.
func NewKeyring(s *store.Store, vault Vault) *Keyring { return &Keyring{store: s, vault: vault} }

// Passphrase returns a repository's passphrase, empty if it has none. Hand it to
// nothing but a sealing function. An unknown repository, one whose passphrase
// only hosts can read, and a wrong key file are a *job.Failure.
func (k *Keyring) Passphrase(_ context.Context, name string) (secret.Value, error) {
	repository, err := readRepository(k.store, name)
	if err != nil || !repository.HasPassphrase {
		return secret.Value{}, err
	}
	if repository.Custody == fleet.CustodyHosts {
		return secret.Value{}, job.Fail(job.NotAllowed, "only its hosts can read the passphrase of repository %s", name).
			WithHint("it was sealed to each of them where it was typed in")
	}
	ciphertext, ok, err := k.store.Secret(secretName(name))
	if err != nil {
		return secret.Value{}, fmt.Errorf("read passphrase of repository %s: %w", name, err)
	}
	if !ok {
		return secret.Value{}, job.Fail(job.Internal, "the passphrase of repository %s is not stored", name).
			WithHint("remove the repository here and add it again with its passphrase; its data is not touched")
	}
	value, err := k.vault.Decrypt(ciphertext)
	if err != nil {
		return secret.Value{}, fmt.Errorf("decrypt passphrase of repository %s: %w", name, err)
	}
	return value, nil
}

// put returns the change that stores a passphrase.
func (k *Keyring) put(repository string, passphrase secret.Value) (store.Change, error) {
	ciphertext, err := k.vault.Encrypt(passphrase)
	if err != nil {
		return nil, fmt.Errorf("encrypt passphrase of repository %s: %w", repository, err)
	}
	return store.PutSecret(secretName(repository), ciphertext), nil
}

// delete returns the change that removes a passphrase.
func (k *Keyring) delete(repository string) store.Change {
	return store.DeleteSecret(secretName(repository))
}

// secretName is where a repository's passphrase is stored.
func secretName(repository string) string { return "repository/" + repository }

// generate makes a passphrase of 52 letters and digits without look-alikes, of
// 260 random bits.
func generate() secret.Value { return secret.FromString(rand.Text() + rand.Text()) }

// checkCustody checks that the passphrase comes in the way that its custody
// asks for.
func checkCustody(repository fleet.Repository, asked fleet.NewRepository) error {
	switch repository.Custody {
	case fleet.CustodyCoordinator:
		if len(asked.Sealed) > 0 {
			return job.Invalid("sealed", "given, but the coordinator is to keep the passphrase").
				WithHint("leave it out, or choose the custody %q", fleet.CustodyHosts)
		}
		return checkPassphrase(repository.Encryption, asked)
	case fleet.CustodyHosts:
		switch {
		case !repository.Encryption.NeedsPassphrase():
			return job.Invalid("custody", "encryption %s uses no passphrase", repository.Encryption).
				WithHint("leave custody out, or choose another encryption")
		case asked.Generate || !asked.Passphrase.Empty():
			return job.Invalid("passphrase", "with custody %q the coordinator must never see it", fleet.CustodyHosts).
				WithHint("give it sealed to each host, as borgfleet repo add --custody hosts does")
		}
		return nil
	default:
		return job.Invalid("custody", "%q is none", repository.Custody).
			WithHint("%q or %q", fleet.CustodyCoordinator, fleet.CustodyHosts)
	}
}

// checkPassphrase checks that there is a passphrase if, and only if, the mode
// needs one, and that it reaches borg as it is.
func checkPassphrase(encryption job.Encryption, asked fleet.NewRepository) error {
	given := !asked.Passphrase.Empty()
	switch {
	case given && asked.Generate:
		return job.Invalid("passphrase", "given, and one is to be made as well").WithHint("choose one of the two")
	case !encryption.NeedsPassphrase() && (given || asked.Generate):
		return job.Invalid("passphrase", "encryption %s uses none", encryption).WithHint("leave it out, or choose another encryption")
	case encryption.NeedsPassphrase() && !given && !asked.Generate:
		return job.Invalid("passphrase", "encryption %s needs one", encryption).
			WithHint("give the repository's passphrase, or let a strong one be made (generate_passphrase, --generate-passphrase)")
	}
	plain := asked.Passphrase.Reveal()
	switch {
	case len(plain) > secret.MaxBytes:
		return job.Invalid("passphrase", "longer than %d bytes", secret.MaxBytes)
	case !utf8.Valid(plain):
		return job.Invalid("passphrase", "not UTF-8 text")
	case strings.ContainsFunc(string(plain), unicode.IsControl):
		return job.Invalid("passphrase", "has a line end or another control character").WithHint("borg would not get it as it is")
	}
	return nil
}

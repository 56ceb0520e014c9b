package registry

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"golang.org/x/crypto/ssh"
)

// sharedKey is where the key is stored that the coordinator shows to every host
// without one of its own.
const sharedKey = "ssh"

// ownKey is where a host's own key is stored.
func ownKey(host string) string { return "ssh/" + host }

// SSHKey returns the private key, in PEM form, with which the coordinator logs
// in to a host: the host's own, or the one for all. Hand it to nothing but an SSH
// client. Refusals are *job.Failure.
func (r *Registry) SSHKey(_ context.Context, name string) (secret.Value, error) {
	host, known := r.roster.get(name)
	switch {
	case !known:
		return secret.Value{}, fleet.UnknownHost(name)
	case host.SSH == nil:
		return secret.Value{}, job.Fail(job.Conflict, "host %s is not reached over SSH", name)
	case !host.SSH.OwnKey:
		return r.sharedSSHKey()
	}
	key, found, err := r.options.Keyring.sshKey(ownKey(name))
	if err == nil && !found {
		err = job.Fail(job.Internal, "the key of host %s is not stored", name).
			WithHint("give it another one: borgfleet host set %s --identity-file FILE", name)
	}
	return key, err
}

// SharedSSHSigner returns the signer of the key for all hosts; it is made at the
// first call.
func (r *Registry) SharedSSHSigner(context.Context) (ssh.Signer, error) {
	key, err := r.sharedSSHKey()
	if err != nil {
		return nil, err
	}
	return parseSSHKey(key)
}

// SharedSSHKey returns the public part of the key that the coordinator shows to
// every host without one of its own, in authorized_keys form.
func (r *Registry) SharedSSHKey(ctx context.Context) (publicKey string, err error) {
	signer, err := r.SharedSSHSigner(ctx)
	if err != nil {
		return "", err
	}
	return authorizedKey(signer.PublicKey()), nil
}

// sharedSSHKey returns the key for all hosts; it is made at the first call.
func (r *Registry) sharedSSHKey() (secret.Value, error) {
	r.making.Lock()
	defer r.making.Unlock()
	key, found, err := r.options.Keyring.sshKey(sharedKey)
	if err != nil || found {
		return key, err
	}
	if key, err = makeSSHKey(); err != nil {
		return secret.Value{}, err
	}
	put, err := r.options.Keyring.putSSHKey(sharedKey, key)
	if err != nil {
		return secret.Value{}, err
	}
	if err := r.apply(put); err != nil {
		return secret.Value{}, fmt.Errorf("store the SSH key for all hosts: %w", err)
	}
	return key, nil
}

// sshKey returns a stored private key.
func (k *Keyring) sshKey(name string) (key secret.Value, found bool, err error) {
	ciphertext, found, err := k.store.Secret(name)
	if err != nil || !found {
		return secret.Value{}, false, err
	}
	if key, err = k.vault.Decrypt(ciphertext); err != nil {
		return secret.Value{}, false, fmt.Errorf("decrypt SSH key %s: %w", name, err)
	}
	return key, true, nil
}

// putSSHKey returns the change that stores a private key.
func (k *Keyring) putSSHKey(name string, key secret.Value) (store.Change, error) {
	ciphertext, err := k.vault.Encrypt(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt SSH key %s: %w", name, err)
	}
	return store.PutSecret(name, ciphertext), nil
}

// forgetSSHKey returns the change that removes a host's own private key, if it has
// one.
func (k *Keyring) forgetSSHKey(host string) store.Change { return store.DeleteSecret(ownKey(host)) }

// makeSSHKey makes a private key in PEM form.
func makeSSHKey() (secret.Value, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return secret.Value{}, fmt.Errorf("make SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "borgfleet")
	if err != nil {
		return secret.Value{}, fmt.Errorf("encode SSH key: %w", err)
	}
	return secret.New(pem.EncodeToMemory(block)), nil
}

// parseSSHKey reads a private key. Refusals are *job.Failure.
func parseSSHKey(key secret.Value) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(key.Reveal())
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, job.Invalid("key", "the private key is protected by a passphrase").
			WithHint("the coordinator uses it when nobody is there; it keeps it encrypted. Give it without the passphrase, or let it make one")
	}
	if err != nil { // whose words might quote the key
		return nil, job.Invalid("key", "is not a private key that SSH knows").
			WithHint("give one in PEM form, as ssh-keygen -t ed25519 makes it")
	}
	return signer, nil
}

// authorizedKey returns a public key in authorized_keys form, without a comment.
func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

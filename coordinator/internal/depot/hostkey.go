package depot

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// hostKey reads the server's key, and makes one when there is none yet.
func hostKey(file string) (ssh.Signer, error) {
	text, err := secret.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(file); err != nil {
			return nil, fmt.Errorf("make the depot's key: %w", err)
		}
		text, err = secret.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("the depot's key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(text.Reveal())
	if err != nil {
		return nil, job.Fail(job.KeyMissing, "%s is not a private key for SSH: %s", file, err).
			WithHint("put it back from your copy; if it is removed, another one is made at the next start, which hosts are told with their next job")
	}
	return signer, nil
}

func makeKey(file string) error {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "borgfleet depot")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(file, pem.EncodeToMemory(block), 0o600, renameio.WithStaticPermissions(0o600))
}

// keyText writes a public key as authorized_keys has it, without a comment.
func keyText(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/disk"
)

// Keys are the private keys of one identity.
type Keys struct {
	bus  []byte // seed of the bus identity
	seal []byte // seed of the curve key that secrets are sealed to
	ssh  []byte // private key for the depot, as OpenSSH stores it

	Public    string // of the bus ("U…")
	SealKey   string // public curve key ("X…")
	SSHPublic string // in authorized_keys form
}

// Files of keys that wait.
const (
	busSeedFile  = "bus.seed"
	sealSeedFile = "seal.seed"
	sshKeyFile   = "ssh.key"
)

// pendingKeys returns the keys that wait in dir, which it makes if there are
// none: who asks again after a crash asks with the same ones.
func pendingKeys(dir string) (Keys, error) {
	keys, err := readKeys(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if keys, err = makeKeys(); err != nil {
		return Keys{}, err
	}
	return keys, keys.save(dir)
}

func makeKeys() (Keys, error) {
	user, err := nkeys.CreateUser()
	if err != nil {
		return Keys{}, fmt.Errorf("make bus identity: %w", err)
	}
	curve, err := nkeys.CreateCurveKeys()
	if err != nil {
		return Keys{}, fmt.Errorf("make seal key: %w", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Keys{}, fmt.Errorf("make SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "borgfleet-agent")
	if err != nil {
		return Keys{}, fmt.Errorf("encode SSH key: %w", err)
	}
	keys := Keys{ssh: pem.EncodeToMemory(block)}
	if keys.bus, err = user.Seed(); err != nil {
		return Keys{}, fmt.Errorf("encode bus identity: %w", err)
	}
	if keys.seal, err = curve.Seed(); err != nil {
		return Keys{}, fmt.Errorf("encode seal key: %w", err)
	}
	return keys.complete()
}

// complete fills in the public parts.
func (k Keys) complete() (Keys, error) {
	user, err := nkeys.FromSeed(k.bus)
	if err == nil {
		k.Public, err = user.PublicKey()
	}
	if err != nil {
		return Keys{}, fmt.Errorf("read bus identity: %w", err)
	}
	curve, err := nkeys.FromCurveSeed(k.seal)
	if err == nil {
		k.SealKey, err = curve.PublicKey()
	}
	if err != nil {
		return Keys{}, fmt.Errorf("read seal key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(k.ssh)
	if err != nil {
		return Keys{}, fmt.Errorf("read SSH key: %w", err)
	}
	k.SSHPublic = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return k, nil
}

// save writes the keys as a new directory that is there with all of them or
// not at all.
func (k Keys) save(dir string) error {
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	draft, err := os.MkdirTemp(parent, ".keys-*") // mode 0700
	if err != nil {
		return denied("make directory for keys", err)
	}
	defer os.RemoveAll(draft) // when it was not renamed
	for name, data := range k.files() {
		if err := WriteFile(filepath.Join(draft, name), data, 0o600); err != nil {
			return err
		}
	}
	if err := os.Rename(draft, dir); err != nil {
		return fmt.Errorf("keep keys: %w", err)
	}
	return disk.SyncDir(parent)
}

func (k Keys) files() map[string][]byte {
	return map[string][]byte{busSeedFile: k.bus, sealSeedFile: k.seal, sshKeyFile: k.ssh}
}

func readKeys(dir string) (Keys, error) {
	var keys Keys
	for name, field := range map[string]*[]byte{busSeedFile: &keys.bus, sealSeedFile: &keys.seal, sshKeyFile: &keys.ssh} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return Keys{}, fmt.Errorf("read keys: %w", err)
		}
		*field = data
	}
	keys.bus, keys.seal = bytes.TrimSpace(keys.bus), bytes.TrimSpace(keys.seal)
	return keys.complete()
}

// install puts the SSH key, and the seal key before those that are there
// already, to where the agent uses them.
func (k Keys) install(data string) error {
	if err := k.addSealKey(data); err != nil {
		return err
	}
	return k.installSSH(data)
}

func (k Keys) installSSH(data string) error {
	dir := filepath.Join(data, "ssh")
	if err := makeDir(dir); err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(dir, "depot"), k.ssh, 0o600); err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, "depot.pub"), []byte(k.SSHPublic+"\n"), 0o644)
}

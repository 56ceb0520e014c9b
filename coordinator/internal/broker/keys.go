package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/disk"
)

// keyring holds every private key of the embedded bus, and the signer of
// orders. With a cluster that somebody else has laid out it holds the signer.
type keyring struct {
	operator nkeys.KeyPair
	accounts map[string]nkeys.KeyPair // by account
	roles    map[string]nkeys.KeyPair // scoped signing keys by role
	signer   nkeys.KeyPair
}

// own reports whether the accounts are ours to mint in, rather than those of a
// cluster that somebody else has laid out.
func (k *keyring) own() bool { return k.operator != nil }

// operators returns the roles of operators by the public keys that mint them.
func (k *keyring) operators() map[string]bus.Role {
	known := map[string]bus.Role{}
	for _, role := range bus.Roles() {
		known[public(k.roles[string(role)])] = role
	}
	return known
}

const (
	keysDir   = "keys"
	keySuffix = ".nk"
)

// generation is that of the set of keys: 2 since operators have an account of
// their own and hosts enrol. The first has no file that says so.
const (
	generation     = "2"
	generationFile = "generation"
)

// openKeys reads the keys below dir, or makes all of them when there are none.
// A set of an older generation gets what it never had, once. Otherwise an
// incomplete set is never mended: credentials minted with a lost key would stop
// to work without a word.
func openKeys(dir string) (*keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make bus directory: %w", err)
	}
	path := filepath.Join(dir, keysDir)
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = makeKeys(dir, path)
	} else if err == nil {
		err = upgradeKeys(path)
	}
	if err != nil {
		return nil, fmt.Errorf("bus keys: %w", err)
	}
	return readKeys(path)
}

// upgradeKeys adds the keys that came with this generation to a set of the
// first. After a crash it goes on where it was.
func upgradeKeys(path string) error {
	found, err := os.ReadFile(filepath.Join(path, generationFile))
	if err == nil && string(bytes.TrimSpace(found)) != generation {
		return fmt.Errorf("%s is of generation %q: it was made by a newer version of borgfleet", path, bytes.TrimSpace(found))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{"account-" + operatorsAccount, "role-" + enrolRole} {
		if err := addKey(filepath.Join(path, name+keySuffix), nkeys.PrefixByteAccount); err != nil {
			return err
		}
	}
	return errors.Join(writeGeneration(path), disk.SyncDir(path))
}

// addKey makes a key that appears whole or not at all, unless it is there.
func addKey(path string, prefix nkeys.PrefixByte) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	making := path + ".new"
	if err := errors.Join(removeStale(making), makeKey(making, prefix)); err != nil {
		return err
	}
	return errors.Join(os.Rename(making, path), disk.SyncDir(filepath.Dir(path)))
}

func writeGeneration(path string) error {
	return renameio.WriteFile(filepath.Join(path, generationFile), []byte(generation+"\n"), 0o600)
}

func readKeys(path string) (*keyring, error) {
	ring := &keyring{accounts: map[string]nkeys.KeyPair{}, roles: map[string]nkeys.KeyPair{}}
	var err error
	read := func(name string, prefix nkeys.PrefixByte) nkeys.KeyPair {
		pair, fault := readKey(filepath.Join(path, name+keySuffix), prefix)
		err = errors.Join(err, fault)
		return pair
	}
	ring.operator = read("operator", nkeys.PrefixByteOperator)
	ring.signer = read("signer", nkeys.PrefixByteServer)
	for _, name := range accountNames() {
		ring.accounts[name] = read("account-"+name, nkeys.PrefixByteAccount)
	}
	for _, role := range roleNames() {
		ring.roles[role] = read("role-"+role, nkeys.PrefixByteAccount)
	}
	if err != nil {
		return nil, fmt.Errorf("read bus keys: %w", err)
	}
	return ring, nil
}

func readKey(path string, prefix nkeys.PrefixByte) (nkeys.KeyPair, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: restore it from a backup; without it issued credentials do not work any more", path)
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if nkeys.Prefix(public) != prefix {
		return nil, fmt.Errorf("%s holds a key of another kind (%c…)", path, public[0])
	}
	return pair, nil
}

// makeKeys writes a whole new set beside its place and then moves it there, so
// that a crash leaves either all keys or none.
func makeKeys(dir, path string) (err error) {
	making, err := os.MkdirTemp(dir, "keys.new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(making))
		}
	}()
	for name, prefix := range keyNames() {
		if err := makeKey(filepath.Join(making, name+keySuffix), prefix); err != nil {
			return err
		}
	}
	if err := errors.Join(writeGeneration(making), disk.SyncDir(making)); err != nil {
		return err
	}
	if err := os.Rename(making, path); err != nil {
		return err
	}
	return disk.SyncDir(dir)
}

func keyNames() map[string]nkeys.PrefixByte {
	names := map[string]nkeys.PrefixByte{"operator": nkeys.PrefixByteOperator, "signer": nkeys.PrefixByteServer}
	for _, name := range accountNames() {
		names["account-"+name] = nkeys.PrefixByteAccount
	}
	for _, role := range roleNames() {
		names["role-"+role] = nkeys.PrefixByteAccount
	}
	return names
}

func makeKey(path string, prefix nkeys.PrefixByte) error {
	pair, err := nkeys.CreatePair(prefix)
	if err != nil {
		return err
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(seed, '\n'))
	return errors.Join(err, file.Sync(), file.Close())
}

// keysOf returns the keys below dir if they are those of an account AGENTS that
// is given by its public key, and nil if they are not or there are none. They
// are when the cluster is an embedded server that was exported.
func keysOf(dir, agents string) (*keyring, error) {
	if !Exists(dir) {
		return nil, nil
	}
	keys, err := openKeys(dir)
	if err != nil || public(keys.accounts[agentsAccount]) != agents {
		return nil, err
	}
	return keys, nil
}

// Exists reports whether an embedded server has ever run with dir.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, keysDir))
	return err == nil
}

// openSigner reads or makes the one key that is ours with a cluster that
// somebody else has laid out.
func openSigner(dir string) (*keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make bus directory: %w", err)
	}
	path := filepath.Join(dir, "external-signer"+keySuffix)
	if err := addKey(path, nkeys.PrefixByteServer); err != nil {
		return nil, fmt.Errorf("make the key that signs orders: %w", err)
	}
	signer, err := readKey(path, nkeys.PrefixByteServer)
	if err != nil {
		return nil, fmt.Errorf("read the key that signs orders: %w", err)
	}
	return &keyring{signer: signer}, nil
}

func removeStale(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

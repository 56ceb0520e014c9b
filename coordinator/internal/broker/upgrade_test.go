package broker_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// newKeys are those that version 0.1.0 did not have.
var newKeys = []string{"account-operators.nk", "role-enroll.nk", "generation"}

// oldDir is a directory as version 0.1.0 left it.
func oldDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bus")
	b := start(t, broker.Options{Dir: dir})
	b.Close()
	for _, name := range newKeys {
		if err := os.Remove(filepath.Join(dir, "keys", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestKeysOfVersion010GetWhatTheyNeverHadOnce(t *testing.T) {
	dir := oldDir(t)
	b := start(t, broker.Options{Dir: dir})
	connection, _ := operator(t, b, bus.Viewer)
	flush(t, connection)
	stranger(t, b)
	b.Close()
	for _, name := range newKeys[:2] {
		missing := filepath.Join(dir, "keys", name)
		kept, err := os.ReadFile(missing)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(missing); err != nil {
			t.Fatal(err)
		}
		if _, err := broker.Start(t.Context(), broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: logger(t)}); err == nil || !strings.Contains(err.Error(), missing+" is missing") {
			t.Errorf("start without %s: %v", name, err)
		}
		if err := os.WriteFile(missing, kept, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, broker.Options{Dir: dir})
}

func TestAnUpgradeThatWasInterruptedGoesOn(t *testing.T) {
	dir := oldDir(t)
	start(t, broker.Options{Dir: dir}).Close()
	account := filepath.Join(dir, "keys", "account-operators.nk")
	kept, err := os.ReadFile(account)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.Remove(filepath.Join(dir, "keys", "generation")), os.Remove(filepath.Join(dir, "keys", "role-enroll.nk")),
		os.WriteFile(filepath.Join(dir, "keys", "role-enroll.nk.new"), []byte("half"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	start(t, broker.Options{Dir: dir}).Close()
	if now, err := os.ReadFile(account); err != nil || string(now) != string(kept) {
		t.Errorf("a key that was there was made again (%v)", err)
	}
}

func TestKeysThatCannotBeUpgraded(t *testing.T) {
	dir := oldDir(t)
	missing := filepath.Join(dir, "keys", "role-agent.nk")
	if err := os.Remove(missing); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Start(t.Context(), broker.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: logger(t)}); err == nil || !strings.Contains(err.Error(), missing+" is missing") {
		t.Errorf("an old key is missing: %v", err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old key was replaced (%v)", err)
	}
	newer := filepath.Join(t.TempDir(), "bus")
	start(t, broker.Options{Dir: newer}).Close()
	if err := os.WriteFile(filepath.Join(newer, "keys", "generation"), []byte("3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Start(t.Context(), broker.Options{Dir: newer, Listen: "127.0.0.1:0", Logger: logger(t)}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("keys of a newer version: %v", err)
	}
}

func TestOperatorCredentialsOfAnotherAccountAreReplaced(t *testing.T) {
	b := start(t, broker.Options{})
	old, _ := hostKeys(t, b, "web1") // of an account where operators are not
	path := credentialsFile(t, old)
	if err := b.WriteOperatorCredentials(path, "local", bus.Admin); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	token, err := nkeys.ParseDecoratedJWT(now)
	if err != nil {
		t.Fatal(err)
	}
	if name, role, known := b.Operator(token); name != "local" || role != bus.Admin || !known {
		t.Errorf("they stand for %q, %q (%v)", name, role, known)
	}
	connection, _ := client(t, b, now)
	flush(t, connection)
}

package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// stateCopy returns a copy of a state, as a coordinator sends it.
func stateCopy(t *testing.T, recipient string) []byte {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, state.DatabaseFile), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.WriteFile(filepath.Join(dir, state.KeyFile), []byte("key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keeper := state.New(state.Options{Dir: dir, Store: s, Outside: []string{"the key in the safe"}, Logger: hclog.NewNullLogger()})
	copied, err := keeper.BackupState(t.Context(), fleet.Actor{Name: fleet.Local}, fleet.StateBackup{Recipient: recipient})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	_, err = copied.Content.WriteTo(&out)
	if err := errors.Join(err, copied.Content.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestStateBackup(t *testing.T) {
	c := newCoordinator(t)
	c.answers["POST /state"] = raw{
		header: map[string]string{"Borgfleet-Snapshot-At": at(0).Format(time.RFC3339Nano), "Borgfleet-Outside": "the key in the safe"},
		body:   "the copy",
	}
	path := filepath.Join(t.TempDir(), "state")
	got := c.run(t, "", "state", "backup", path)
	if text, err := os.ReadFile(path); got.code != 0 || err != nil || string(text) != "the copy" {
		t.Fatalf("%+v, %q, %v", got, text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, want := range []string{path, "8 B", "whoever has it has every key", "the key in the safe"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("it does not say %q:\n%s", want, got.out)
		}
	}
	if got := c.run(t, "", "state", "backup", path); got.code != 2 || !strings.Contains(got.err, "--force") {
		t.Errorf("over a file: %+v", got)
	}
	if got := c.run(t, "", "state", "backup", path, "--force", "--logs", "--json"); got.code != 0 || !json.Valid([]byte(got.out)) {
		t.Errorf("with --force: %+v", got)
	}
	if asked := c.asked[len(c.asked)-1]; asked != `POST /state {"logs":true}` {
		t.Errorf("asked %s", asked)
	}
	if got := c.run(t, "", "state", "backup", "-"); got.code != 0 || got.out != "the copy" || !strings.Contains(got.err, "whoever has it") {
		t.Errorf("to standard output: %+v", got)
	}
}

func TestStateBackupThatFailsLeavesNothing(t *testing.T) {
	c := newCoordinator(t)
	dir := t.TempDir()
	if got := c.run(t, "", "state", "backup", filepath.Join(dir, "state")); got.code == 0 {
		t.Errorf("%+v", got)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	got := c.run(t, "", "state", "backup", filepath.Join(dir, "state"), "--recipient", identity.String())
	if got.code == 0 || strings.Contains(got.err, identity.String()) || strings.Contains(strings.Join(c.asked, "\n"), identity.String()) {
		t.Errorf("an identity was passed on: %+v", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestStateRestore(t *testing.T) {
	c := newCoordinator(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	copied, key := filepath.Join(from, "state.age"), filepath.Join(from, "key.txt")
	err = errors.Join(
		os.WriteFile(copied, stateCopy(t, identity.Recipient().String()), 0o600),
		os.WriteFile(key, []byte(identity.String()+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if got := c.run(t, "", "state", "restore", copied, "--data", data); got.code == 0 || !strings.Contains(got.err, "--identity") {
		t.Errorf("without an identity: %+v", got)
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it left %s: %v", data, err)
	}
	got := c.run(t, "", "state", "restore", copied, "--data", data, "--identity", key)
	if got.code != 0 || !strings.Contains(got.out, "the key in the safe") || strings.Contains(got.out, "What was there") {
		t.Errorf("%+v", got)
	}
	if text, err := os.ReadFile(filepath.Join(data, state.KeyFile)); string(text) != "key\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if got := c.run(t, "", "state", "restore", copied, "--data", data, "--identity", key); got.code != 2 || !strings.Contains(got.err, "--yes") {
		t.Errorf("over a state: %+v", got)
	}
	got = c.run(t, "", "state", "restore", copied, "--data", data, "--identity", key, "--yes")
	if got.code != 0 || !strings.Contains(got.out, "What was there is in "+data+"/before-restore-") {
		t.Errorf("over a state, with --yes: %+v", got)
	}
	if len(c.asked) != 0 {
		t.Errorf("it asked a coordinator: %q", c.asked)
	}
}

package state_test

import (
	"bytes"
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
	"github.com/borgfleet/borgfleet/shared/job"
)

var (
	snapshotDay = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	restoreDay  = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

// local is the owner of the data directory.
func local() fleet.Actor { return fleet.Actor{Name: fleet.Local, From: "http 127.0.0.1"} }

// put writes files below a directory; an empty text makes a directory.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// files returns all that is below a directory, but databases, by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) == ".db" {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = string(text)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// coordinator is a data directory with an open store.
type coordinator struct {
	dir   string
	store *store.Store
}

const (
	logOfDone = "logs/gh/01JD9X7Q2M4T6W8Y0ABCDEFGGH.jsonl.zst"
	logOfOpen = "logs/gj/01JD9X7Q2M4T6W8Y0ABCDEFGGJ.jsonl"
)

// newCoordinator returns one with everything that a copy has, and with what it
// shall not have.
func newCoordinator(t *testing.T) *coordinator {
	t.Helper()
	c := &coordinator{dir: filepath.Join(t.TempDir(), "data")}
	put(t, c.dir, map[string]string{
		"secrets.key": "the key\n", "bus/keys/operator.nk": "SO1\n", "bus/keys/role-agent.nk": "SA1\n", "bus/keys/generation": "2\n",
		"bus/revoked.json": `{"UOLD":"2026-01-01T00:00:00Z"}`, "bus/revoked-operators.json": `{}`,
		"tls/authority.pem": "authority 1", "tls/server.pem": "server 1",
		logOfDone: "packed", logOfOpen: "plain",
		"depot_host_key": "depot 1", "host-id": "coordinator@1", "borg/.config/borg/keys/main": "borg key 1",
		"borg/.cache/borg/abc/files": "a cache", "hosts/web2/journal.bolt": "a journal",
		"bus/store/jetstream/A/streams/EVENTS/msgs/1.blk": "events", "endpoints.json": "{}", "local.token": "t", "operator.creds": "c",
	})
	c.open(t)
	return c
}

func (c *coordinator) open(t *testing.T) {
	t.Helper()
	var err error
	if c.store, err = store.Open(filepath.Join(c.dir, state.DatabaseFile), hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.store.Close() }) // closed already by some
}

func (c *coordinator) addHost(t *testing.T, name string) {
	t.Helper()
	_, err := c.store.Apply(
		store.CreateHost(fleet.Host{Name: name, Mode: fleet.ModeAgent}),
		store.AppendAudit(fleet.AuditEntry{At: snapshotDay, By: "operator:alice", Action: "host.add", Object: "host/" + name, Outcome: "done"}))
	if err != nil {
		t.Fatal(err)
	}
}

func (c *coordinator) hosts(t *testing.T) (names []string) {
	t.Helper()
	hosts, err := c.store.Hosts()
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range hosts {
		names = append(names, host.Name)
	}
	return names
}

func (c *coordinator) keeper(change func(*state.Options)) *state.Keeper {
	options := state.Options{
		Dir: c.dir, Store: c.store, Outside: []string{"the configuration"}, Now: func() time.Time { return snapshotDay }, Logger: hclog.NewNullLogger(),
	}
	if change != nil {
		change(&options)
	}
	return state.New(options)
}

// backup returns a copy of the coordinator's state.
func (c *coordinator) backup(t *testing.T, asked fleet.StateBackup) []byte {
	t.Helper()
	return written(t, c.keeper(nil), asked)
}

func written(t *testing.T, keeper *state.Keeper, asked fleet.StateBackup) []byte {
	t.Helper()
	copied, err := keeper.BackupState(t.Context(), local(), asked)
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

func options(dir string, data []byte, identities ...age.Identity) state.RestoreOptions {
	return state.RestoreOptions{
		Copy: bytes.NewReader(data), Dir: dir, Identities: identities,
		Now: func() time.Time { return restoreDay }, Logger: hclog.NewNullLogger(),
	}
}

// restore restores a copy and opens what came of it.
func restore(t *testing.T, dir string, data []byte, identities ...age.Identity) (*coordinator, *state.Restoration) {
	t.Helper()
	r, err := state.Open(options(dir, data, identities...))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Apply(t.Context()), r.Close()); err != nil {
		t.Fatal(err)
	}
	c := &coordinator{dir: dir}
	c.open(t)
	return c, r
}

func (c *coordinator) close(t *testing.T) {
	t.Helper()
	if err := c.store.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantFailure(t *testing.T, err error, code job.Code, says string) {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok {
		t.Fatalf("error %v is not a failure", err)
	}
	if failure.Code != code || !strings.Contains(failure.Message, says) || failure.Hint == "" {
		t.Errorf("failure %q (%s, hint %q), want %s and %q and a hint", failure, failure.Code, failure.Hint, code, says)
	}
}

// checkAudit checks that the chain holds, and its actions, newest first.
func checkAudit(t *testing.T, c *coordinator, want string) {
	t.Helper()
	proof, err := c.store.VerifyAudit(t.Context())
	if err != nil || !proof.Intact {
		t.Errorf("audit: %+v, %v", proof, err)
	}
	page, err := c.store.Audit(fleet.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, entry := range page.Entries {
		actions = append(actions, entry.Action)
	}
	if got := strings.Join(actions, " "); got != want {
		t.Errorf("audit has %q, want %q", got, want)
	}
	if page.Entries[0].By != fleet.Local || !strings.Contains(page.Entries[0].Detail, "2026-03-01T02:00:00Z") {
		t.Errorf("entry %+v", page.Entries[0])
	}
}

func checkPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkNothingLeft checks that no file of ours is left behind.
func checkNothingLeft(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || entry.Name() == "restore.json" {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

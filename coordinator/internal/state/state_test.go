package state_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
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

// TestANewMachine restores into a directory that is not there.
func TestANewMachine(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, asked := range map[string]fleet.StateBackup{
		"plain": {Logs: true}, "encrypted": {Logs: true, Recipient: identity.Recipient().String()},
	} {
		t.Run(name, func(t *testing.T) {
			old := newCoordinator(t)
			old.addHost(t, "web1")
			data := old.backup(t, asked)
			dir := filepath.Join(t.TempDir(), "a", "new")
			fresh, r := restore(t, dir, data, identity)
			if diff := cmp.Diff([]string{"web1"}, fresh.hosts(t)); diff != "" || r.Replaces {
				t.Errorf("hosts, or it replaced something (%v)\n%s", r.Replaces, diff)
			}
			want := files(t, old.dir)
			for _, name := range []string{"bus/store/jetstream/A/streams/EVENTS/msgs/1.blk", "endpoints.json", "local.token", "operator.creds"} {
				delete(want, name)
			}
			if diff := cmp.Diff(want, files(t, dir)); diff != "" {
				t.Errorf("files (-want +got)\n%s", diff)
			}
			marker, found, err := fresh.store.Restored()
			if diff := cmp.Diff(store.Restored{SnapshotAt: snapshotDay, RestoredAt: restoreDay}, marker); !found || err != nil || diff != "" {
				t.Errorf("marker found %v, %v\n%s", found, err, diff)
			}
			checkAudit(t, fresh, "state.restore state.backup host.add")
			checkPrivate(t, dir)
		})
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

func TestLogsOnlyWhenAskedFor(t *testing.T) {
	old := newCoordinator(t)
	dir := filepath.Join(t.TempDir(), "new")
	restore(t, dir, old.backup(t, fleet.StateBackup{}))
	if _, err := os.Stat(filepath.Join(dir, "logs")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are logs: %v", err)
	}
}

func TestAKeyFromElsewhereStaysThere(t *testing.T) {
	old := newCoordinator(t)
	data := written(t, old.keeper(func(o *state.Options) { o.KeyElsewhere = true }), fleet.StateBackup{})
	dir := filepath.Join(t.TempDir(), "new")
	_, r := restore(t, dir, data)
	if _, has := files(t, dir)["secrets.key"]; has {
		t.Error("the key came along")
	}
	if diff := cmp.Diff([]string{"the configuration"}, r.Manifest.Outside); diff != "" {
		t.Error(diff)
	}
}

// TestOverThePresent restores an older copy where a coordinator has gone on.
func TestOverThePresent(t *testing.T) {
	c := newCoordinator(t)
	c.addHost(t, "web1")
	data := c.backup(t, fleet.StateBackup{Logs: true})
	c.addHost(t, "web2")
	c.close(t)
	put(t, c.dir, map[string]string{
		"bus/revoked.json": `{"UOLD":"2026-01-01T00:00:00Z","UNEW":"2026-03-02T00:00:00Z"}`, "tls/server.pem": "server 2",
		"bus/keys/role-later.nk": "SA9\n", logOfDone: "packed later", "logs/gj/01JD9X7Q2M4T6W8Y0ABCDEFGGJ.jsonl.zst": "it ended",
	})
	if err := os.Remove(filepath.Join(c.dir, logOfOpen)); err != nil {
		t.Fatal(err)
	}
	restored, r := restore(t, c.dir, data)
	if diff := cmp.Diff([]string{"web1"}, restored.hosts(t)); diff != "" || !r.Replaces {
		t.Errorf("hosts, or it replaced nothing (%v)\n%s", !r.Replaces, diff)
	}
	want := map[string]string{
		"secrets.key": "the key\n", "bus/keys/operator.nk": "SO1\n", "bus/keys/role-agent.nk": "SA1\n", "bus/keys/generation": "2\n", "bus/keys/role-later.nk": "SA9\n",
		"bus/revoked.json": `{"UNEW":"2026-03-02T00:00:00Z","UOLD":"2026-01-01T00:00:00Z"}`, "bus/revoked-operators.json": `{}`,
		"tls/authority.pem": "authority 1", "tls/server.pem": "server 1",
		logOfDone: "packed later", "logs/gj/01JD9X7Q2M4T6W8Y0ABCDEFGGJ.jsonl.zst": "it ended",
		"bus/store/jetstream/A/streams/EVENTS/msgs/1.blk": "events", "endpoints.json": "{}", "local.token": "t", "operator.creds": "c",

		"before-restore-20260304T050607Z/secrets.key":                "the key\n",
		"before-restore-20260304T050607Z/bus/revoked.json":           `{"UOLD":"2026-01-01T00:00:00Z","UNEW":"2026-03-02T00:00:00Z"}`,
		"before-restore-20260304T050607Z/bus/revoked-operators.json": `{}`,
		"before-restore-20260304T050607Z/tls/authority.pem":          "authority 1", "before-restore-20260304T050607Z/tls/server.pem": "server 2",
	}
	if diff := cmp.Diff(want, files(t, c.dir)); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	checkAudit(t, restored, "state.restore state.backup host.add")
	before := &coordinator{dir: r.Aside}
	before.open(t)
	if diff := cmp.Diff([]string{"web1", "web2"}, before.hosts(t)); diff != "" {
		t.Errorf("hosts before\n%s", diff)
	}
}

// TestOverAnotherBus holds that a stream of other keys goes with them.
func TestOverAnotherBus(t *testing.T) {
	data := newCoordinator(t).backup(t, fleet.StateBackup{})
	other := newCoordinator(t)
	other.close(t)
	put(t, other.dir, map[string]string{"bus/keys/operator.nk": "SO2\n", "bus/revoked.json": `{"UOTHER":"2026-01-01T00:00:00Z"}`})
	_, r := restore(t, other.dir, data)
	found := files(t, other.dir)
	aside := filepath.Base(r.Aside)
	for name, want := range map[string]string{
		"bus/keys/operator.nk": "SO1\n", aside + "/bus/keys/operator.nk": "SO2\n",
		aside + "/bus/store/jetstream/A/streams/EVENTS/msgs/1.blk": "events", "bus/store/jetstream/A/streams/EVENTS/msgs/1.blk": "",
		"bus/revoked.json": `{"UOLD":"2026-01-01T00:00:00Z","UOTHER":"2026-01-01T00:00:00Z"}`,
	} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
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

func TestNotBesideARunningCoordinator(t *testing.T) {
	c := newCoordinator(t)
	data := c.backup(t, fleet.StateBackup{})
	_, err := state.Open(options(c.dir, data))
	wantFailure(t, err, job.Conflict, "in use by another coordinator")
}

// cutShort ends after some looks at it.
type cutShort struct {
	context.Context
	left int
}

func (c *cutShort) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCutShort ends a restoration before each of its steps, as a crash would,
// and checks that a coordinator does not start, and that Finish goes on.
func TestCutShort(t *testing.T) {
	old := newCoordinator(t)
	old.addHost(t, "web1")
	data := old.backup(t, fleet.StateBackup{Logs: true})
	for steps := 0; ; steps++ {
		c := newCoordinator(t)
		c.close(t)
		put(t, c.dir, map[string]string{"bus/keys/operator.nk": "SO2\n"})
		r, err := state.Open(options(c.dir, data))
		if err != nil {
			t.Fatal(err)
		}
		cut := r.Apply(&cutShort{Context: t.Context(), left: steps})
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if cut == nil {
			if steps < 5 {
				t.Errorf("only %d steps", steps)
			}
			return
		}
		checkFinish(t, c, r, data)
	}
}

func checkFinish(t *testing.T, c *coordinator, r *state.Restoration, data []byte) {
	t.Helper()
	wantFailure(t, state.Whole(c.dir), job.Conflict, "half restored, from a copy of 2026-03-01T02:00:00Z")
	_, err := state.Open(options(c.dir, data))
	wantFailure(t, err, job.Conflict, "half restored")
	at, found, err := state.Finish(t.Context(), c.dir)
	if err != nil || !found || !at.Equal(snapshotDay) {
		t.Fatalf("Finish: %s, %v, %v", at, found, err)
	}
	if err := state.Whole(c.dir); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, c.dir)
	c.open(t)
	if diff := cmp.Diff([]string{"web1"}, c.hosts(t)); diff != "" {
		t.Errorf("hosts\n%s", diff)
	}
	all := files(t, c.dir)
	aside := filepath.Base(r.Aside)
	if all["bus/keys/operator.nk"] != "SO1\n" || all[aside+"/bus/keys/operator.nk"] != "SO2\n" || all[aside+"/tls/server.pem"] != "server 1" {
		t.Errorf("files are not in their places: %q", slices.Sorted(maps.Keys(all)))
	}
	if _, err := os.Stat(filepath.Join(r.Aside, state.DatabaseFile)); err != nil {
		t.Error(err)
	}
}

func TestFinishWhereNothingIsToBeDone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	if _, found, err := state.Finish(t.Context(), dir); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	if err := state.Whole(dir); err != nil {
		t.Error(err)
	}
}

func TestWhoMayHaveACopy(t *testing.T) {
	c := newCoordinator(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	remote := fleet.Actor{Name: "token:ci", From: "http 10.0.0.7"}
	_, err = c.keeper(nil).BackupState(t.Context(), remote, fleet.StateBackup{})
	wantFailure(t, err, job.InvalidRequest, "encrypted only")
	_, err = c.keeper(nil).BackupState(t.Context(), remote, fleet.StateBackup{Recipient: identity.String()})
	wantFailure(t, err, job.InvalidSpec, "secret")
	if strings.Contains(err.Error(), identity.String()) {
		t.Error("the identity is repeated")
	}
	copied, err := c.keeper(nil).BackupState(t.Context(), remote, fleet.StateBackup{Recipient: identity.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := copied.Content.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOneCopyAtATime(t *testing.T) {
	c := newCoordinator(t)
	keeper := c.keeper(nil)
	first, err := keeper.BackupState(t.Context(), local(), fleet.StateBackup{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = keeper.BackupState(t.Context(), local(), fleet.StateBackup{})
	wantFailure(t, err, job.Conflict, "another copy")
	c.addHost(t, "late") // a copy that is not taken keeps nobody from working
	if _, err := first.Content.WriteTo(failing{}); err == nil {
		t.Error("a reader that is gone is no error")
	}
	if err := first.Content.Close(); err != nil {
		t.Fatal(err)
	}
	written(t, keeper, fleet.StateBackup{})
	checkNothingLeft(t, c.dir)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

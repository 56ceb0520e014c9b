package state_test

import (
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

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

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
			for _, name := range []string{"bus/store/jetstream/A/streams/EVENTS/msgs/1.blk", "endpoints.json", "local.token", "operator.creds",
				"borg/.cache/borg/abc/files", "hosts/web2/journal.bolt"} {
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
		"depot_host_key": "depot 2", "borg/.config/borg/keys/later": "borg key 2",
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
		"depot_host_key": "depot 1", "host-id": "coordinator@1", "borg/.config/borg/keys/main": "borg key 1", "borg/.config/borg/keys/later": "borg key 2",
		"borg/.cache/borg/abc/files": "a cache", "hosts/web2/journal.bolt": "a journal",

		"before-restore-20260304T050607Z/depot_host_key": "depot 2", "before-restore-20260304T050607Z/host-id": "coordinator@1",
		"before-restore-20260304T050607Z/borg/.config/borg/keys/main": "borg key 1",
		"before-restore-20260304T050607Z/secrets.key":                 "the key\n",
		"before-restore-20260304T050607Z/bus/revoked.json":            `{"UOLD":"2026-01-01T00:00:00Z","UNEW":"2026-03-02T00:00:00Z"}`,
		"before-restore-20260304T050607Z/bus/revoked-operators.json":  `{}`,
		"before-restore-20260304T050607Z/tls/authority.pem":           "authority 1", "before-restore-20260304T050607Z/tls/server.pem": "server 2",
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

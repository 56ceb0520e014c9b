package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// What lies in the data directory for the depot, and for hosts without an agent.
const (
	depotKeyFile = state.DepotKeyFile
	hostIDFile   = state.HostIDFile
	hostsDir     = "hosts" // their journals
	jobsDir      = "jobs"  // job directories of this machine
	borgDir      = state.BorgDir
)

// ringSecret is where the keys are stored that passphrases are sealed to on
// their way to hosts without an agent.
const ringSecret = "proxy"

// openDepot listens for hosts that reach the repositories which are kept here.
func (d *daemon) openDepot(context.Context) (err error) {
	if d.hostID, err = hostID(d.path(hostIDFile)); err != nil || d.config.Depot.Listen == "" {
		return err
	}
	d.depot, err = depot.New(depot.Options{
		Listen: d.config.Depot.Listen, Path: d.config.DepotPath(), Borg: d.config.Depot.Borg, KeyFile: d.path(depotKeyFile),
		HostID: d.hostID, BaseDir: d.path(borgDir), Grant: d.registry.DepotGrant, Busy: d.depotBusy, Logger: d.logger,
	})
	if err != nil {
		return err
	}
	d.onTeardown(func() {
		if err := d.depot.Close(); err != nil {
			d.logger.Error("close the depot", "err", err)
		}
	})
	return nil
}

// depotBusy reports whether the coordinator itself works on a repository.
func (d *daemon) depotBusy(repository string) bool {
	return d.dispatch.Busy(repository) || d.caretaker.Busy(repository)
}

// depotAddress is where hosts find the depot; empty: there is none.
func (d *daemon) depotAddress() string {
	if d.depot == nil {
		return ""
	}
	return d.config.DepotAddress(d.depot.Addr().String())
}

// depotFor returns the depot as dispatch and registry know it: nothing, not an
// empty pointer, where there is none.
func (d *daemon) depotFor() (dispatch.Depot, registry.DepotServer) {
	if d.depot == nil {
		return nil, nil
	}
	return d.depot, d.depot
}

// depotUses is for the metrics; nil where there is no depot.
func (d *daemon) depotUses() func() []fleet.DepotUse {
	if d.depot == nil {
		return nil
	}
	return d.depot.Uses
}

// hostID returns the name by which borg's locks know this machine, which it
// makes at the first call. It must never change while locks may be held, and
// never be shared: borg takes a lock of its own host whose process is gone for
// dead, and removes it.
func hostID(path string) (string, error) {
	text, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(text)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read host id: %w", err)
	}
	id := fleet.LocalHost + "@borgfleet-" + strings.ToLower(rand.Text())
	if err := renameio.WriteFile(path, []byte(id+"\n"), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return "", fmt.Errorf("store host id: %w", err)
	}
	return id, nil
}

// ring returns the keys that passphrases are sealed to on their way to hosts
// without an agent. They are made at the first call.
func (d *daemon) ring() (*secret.Ring, error) {
	ciphertext, found, err := d.store.Secret(ringSecret)
	if err != nil {
		return nil, fmt.Errorf("read the seal key for hosts without an agent: %w", err)
	}
	if found {
		seed, err := d.vault.Decrypt(ciphertext)
		if err != nil {
			return nil, err
		}
		return parseRing(seed)
	}
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, fmt.Errorf("make a seal key: %w", err)
	}
	text, err := pair.Seed()
	if err != nil {
		return nil, fmt.Errorf("make a seal key: %w", err)
	}
	seed := secret.New(text)
	if ciphertext, err = d.vault.Encrypt(seed); err != nil {
		return nil, err
	}
	if _, err := d.store.Apply(store.PutSecret(ringSecret, ciphertext)); err != nil {
		return nil, fmt.Errorf("store the seal key for hosts without an agent: %w", err)
	}
	return parseRing(seed)
}

func parseRing(seed secret.Value) (*secret.Ring, error) {
	ring, err := secret.ParseRing(seed.Reveal())
	if err != nil {
		return nil, job.Fail(job.Internal, "the stored seal key for hosts without an agent cannot be used: %s", err)
	}
	return ring, nil
}

package daemon

import (
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
)

// restoredNotice is how long after a restoration people are reminded of it.
const restoredNotice = 7 * 24 * time.Hour

// keeper makes copies of what this coordinator cannot do without.
func (d *daemon) keeper() *state.Keeper {
	return state.New(state.Options{
		Dir: d.config.Data, Store: d.store, KeyElsewhere: d.vault.FromCredential(), Outside: d.outside(), Logger: d.logger,
	})
}

// outside is what lies elsewhere than in the data directory.
func (d *daemon) outside() []string {
	things := []string{"the configuration (coordinator.yaml, or the flags of serve)"}
	if d.vault.FromCredential() {
		things = append(things, "the key of the secrets, which is the systemd credential "+vault.Credential)
	}
	c := d.config
	if c.Depot.Listen != "" {
		things = append(things, "the depot's repositories, if there are any, in "+c.DepotPath())
	}
	external := c.Bus.External
	for _, path := range []string{
		c.TLS.CertificateFile, c.TLS.KeyFile, c.TLS.CAFile, c.OIDC.ClientSecretFile,
		external.CredentialsFile, external.APICredentialsFile, external.AgentsCredentialsFile, external.SystemCredentialsFile,
		external.SigningKeyFile, external.CAFile,
	} {
		if path != "" && !slices.Contains(things, path) {
			things = append(things, path)
		}
	}
	return things
}

// restoredAttention says for a while that the store is an older copy.
func (d *daemon) restoredAttention() []fleet.Attention {
	marker, found, err := d.store.Restored()
	if err != nil || !found || time.Since(marker.RestoredAt) > restoredNotice {
		return nil // what cannot be read here shows elsewhere, too
	}
	return []fleet.Attention{{
		Kind: "restored", Since: marker.RestoredAt,
		Message: "the coordinator was restored from a copy of " + marker.SnapshotAt.Format(time.RFC3339),
		Hint:    "look at hosts, people, tokens, credentials and repositories that were changed after that: the copy does not know; this reminder ends after a week",
	}}
}

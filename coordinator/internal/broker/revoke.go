package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/job"
)

const revocationsFile = "revoked.json"

// RevokeAgent ends an agent's credentials, named by its public key, and cuts
// its connections within milliseconds. It stays revoked after a restart.
// Revoking it again is not an error.
func (b *Broker) RevokeAgent(publicKey string) error {
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return job.Invalid("public_key", "%q is not an agent's public key", publicKey)
	}
	if b.server == nil {
		return job.Fail(job.Unavailable, "credentials of an external bus are not revoked here").
			WithHint("revoke user %s of the account AGENTS where the cluster is administered, for example with nsc revocations add-user", publicKey)
	}
	b.revoking.Lock()
	defer b.revoking.Unlock()
	b.accounts.revoked[publicKey] = time.Now()
	if err := writeRevocations(b.dir, b.accounts.revoked); err != nil {
		return err
	}
	claims, err := b.accounts.issue(agentsAccount)
	if err != nil {
		return err
	}
	account, err := b.server.LookupAccount(b.account)
	if err != nil {
		return fmt.Errorf("look up bus account of agents: %w", err)
	}
	b.server.UpdateAccountClaims(account, claims)
	return nil
}

func readRevocations(dir string) (map[string]time.Time, error) {
	revoked := map[string]time.Time{}
	data, err := os.ReadFile(filepath.Join(dir, revocationsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return revoked, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read revoked credentials: %w", err)
	}
	if err := json.Unmarshal(data, &revoked); err != nil {
		return nil, fmt.Errorf("read revoked credentials in %s: %w", dir, err)
	}
	return revoked, nil
}

func writeRevocations(dir string, revoked map[string]time.Time) error {
	data, err := json.Marshal(revoked)
	if err != nil {
		return fmt.Errorf("encode revoked credentials: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, revocationsFile), data, 0o600); err != nil {
		return fmt.Errorf("write revoked credentials: %w", err)
	}
	return nil
}

// RevokeOperator ends an operator's credentials as RevokeAgent ends an agent's.
func (b *Broker) RevokeOperator(publicKey string) error {
	return job.Fail(job.Unavailable, "credentials of operators cannot be revoked yet")
}

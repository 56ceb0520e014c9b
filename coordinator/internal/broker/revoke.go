package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/job"
)

// revocations are the credentials of one account that ended before their time:
// when, by public key.
type revocations map[string]time.Time

// revocationFiles are where they are kept, by account.
var revocationFiles = map[string]string{
	agentsAccount:    "revoked.json",
	operatorsAccount: "revoked-operators.json",
}

// RevokeAgent ends an agent's credentials, named by its public key, and cuts
// its connections within milliseconds. It stays revoked after a restart.
// Revoking it again is not an error.
//
// An external cluster believes a JWT until it expires, at most a day. Where the
// system account is lent, an agent that was revoked is disconnected whenever it
// connects; otherwise the *job.Failure says what its administrator has to do.
func (b *Broker) RevokeAgent(publicKey string) error {
	return b.end(agentsAccount, publicKey)
}

// RevokeOperator ends an operator's credentials as RevokeAgent ends an agent's.
// Those of an external cluster are not ours to end, unless it is an embedded
// server that was exported.
func (b *Broker) RevokeOperator(publicKey string) error {
	if !b.keys.own() {
		return job.Fail(job.Unavailable, "credentials of operators of an external bus are not revoked here").
			WithHint("run where the cluster is administered: nsc revocations add-user --account OPERATORS --user-public-key %s && nsc push --account OPERATORS", publicKey)
	}
	return b.end(operatorsAccount, publicKey)
}

func (b *Broker) end(account, publicKey string) error {
	if err := b.revoke(account, publicKey); err != nil || b.server != nil {
		return err
	}
	return b.cutOff(account, publicKey)
}

// revoke writes a revocation down, and then tells the embedded server.
func (b *Broker) revoke(account, publicKey string) error {
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return job.Invalid("public_key", "%q is not a bus identity's public key", publicKey)
	}
	b.revoking.Lock()
	defer b.revoking.Unlock()
	next := maps.Clone(b.revoked[account])
	next[publicKey] = time.Now()
	if err := writeRevocations(b.dir, account, next); err != nil {
		return err
	}
	b.revoked[account] = next
	if b.server == nil {
		return nil
	}
	claims, err := b.accounts.issue(account)
	if err != nil {
		return err
	}
	known, err := b.server.LookupAccount(public(b.keys.accounts[account]))
	if err != nil {
		return fmt.Errorf("look up bus account %s: %w", account, err)
	}
	b.server.UpdateAccountClaims(known, claims)
	return nil
}

// isRevoked reports whether credentials of an account have been ended.
func (b *Broker) isRevoked(account, publicKey string) bool {
	b.revoking.Lock()
	defer b.revoking.Unlock()
	_, revoked := b.revoked[account][publicKey]
	return revoked
}

// readRevocations returns those of every account that has any.
func readRevocations(dir string) (map[string]revocations, error) {
	all := map[string]revocations{}
	for account, name := range revocationFiles {
		revoked := revocations{}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(data, &revoked)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read revoked credentials in %s: %w", filepath.Join(dir, name), err)
		}
		all[account] = revoked
	}
	return all, nil
}

func writeRevocations(dir, account string, revoked revocations) error {
	data, err := json.Marshal(revoked)
	if err != nil {
		return fmt.Errorf("encode revoked credentials: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, revocationFiles[account]), data, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write revoked credentials: %w", err)
	}
	return nil
}

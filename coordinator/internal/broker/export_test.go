package broker

import (
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// CheckServer is checkServer for tests.
func CheckServer(version string) error { return checkServer(version) }

// Lend writes what the administrator of an external cluster would give to a
// coordinator; here the embedded server of b is that cluster.
func (b *Broker) Lend(dir string) (*External, error) {
	file := func(name string) string { return filepath.Join(dir, name+".creds") }
	for _, name := range []string{agentsConnection, streamConnection, apiConnection, systemConnection} {
		client, err := b.keys.issuer("coordinator-" + name).mint("lent-" + name)
		if err != nil {
			return nil, err
		}
		text, err := client.credentials()
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(file(name), text, 0o600); err != nil {
			return nil, err
		}
	}
	keys := map[bus.Role]string{}
	for key, role := range b.operators {
		keys[role] = key
	}
	return &External{
		OperatorKeys:          keys,
		URLs:                  []string{b.URL()},
		CredentialsFile:       file(streamConnection),
		APICredentialsFile:    file(apiConnection),
		AgentsCredentialsFile: file(agentsConnection),
		SystemCredentialsFile: file(systemConnection),
		SigningKeyFile:        filepath.Join(b.dir, "keys", "role-"+agentRole+keySuffix),
	}, nil
}

package store

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// SetDepotHosts stores which hosts may use a repository in the depot, and leaves
// the rest of it as it is. [ErrMissing] if there is no such repository.
func SetDepotHosts(repository string, hosts []string) Change {
	return depotHostsSet{repository: repository, hosts: hosts}
}

// EnableHost stores that a host may be backed up. One that is not there is left
// so.
func EnableHost(name string) Change { return hostEnable{name: name} }

type hostEnable struct{ name string }

func (c hostEnable) apply(tx *transaction) error {
	host, ok, err := get[fleet.Host](tx.tx, bucketHosts, c.name)
	if err != nil || !ok {
		return err
	}
	host.Disabled = false
	return tx.put(bucketHosts, c.name, host)
}

type depotHostsSet struct {
	repository string
	hosts      []string
}

func (c depotHostsSet) apply(tx *transaction) error {
	repository, ok, err := get[fleet.Repository](tx.tx, bucketRepositories, c.repository)
	if err != nil {
		return err
	}
	if !ok || repository.Depot == nil {
		return fmt.Errorf("%s %w", object(bucketRepositories, c.repository), ErrMissing)
	}
	repository.Depot.Hosts = c.hosts
	return tx.put(bucketRepositories, c.repository, repository)
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// DepotServer keeps the repositories of the depot, by name. It is safe for
// concurrent use; its refusals are *job.Failure.
type DepotServer interface {
	HostKey() string     // in authorized_keys form
	Fingerprint() string // of the host key
	Uses() []fleet.DepotUse
	// Evict ends what hosts do with a repository, and returns when it is over.
	Evict(repository string)
	Transactions(repository string) ([]fleet.Transaction, error)
	// Rollback puts aside what came after a transaction.
	Rollback(repository string, to int) error
}

// Caretaker looks after the depot for people. It is safe for concurrent use.
type Caretaker struct {
	registry *Registry
	depot    DepotServer
	address  string

	mu   sync.Mutex
	busy map[string]bool // repositories that are being rolled back
}

// Caretaker returns the caretaker of the depot that hosts reach at an address. A
// nil depot says that there is none.
func (r *Registry) Caretaker(depot DepotServer, address string) *Caretaker {
	return &Caretaker{registry: r, depot: depot, address: address, busy: map[string]bool{}}
}

// Busy reports whether a repository is being rolled back: no host may use it.
func (c *Caretaker) Busy(repository string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy[repository]
}

// Depot returns what there is to know of the depot.
func (c *Caretaker) Depot(context.Context) (fleet.DepotView, error) {
	if c.depot == nil {
		return fleet.DepotView{}, noDepot()
	}
	return fleet.DepotView{
		Address: c.address, HostKey: c.depot.HostKey(), Fingerprint: c.depot.Fingerprint(), Uses: c.depot.Uses(),
	}, nil
}

// Transactions returns the changes of a repository in the depot, oldest first.
func (c *Caretaker) Transactions(_ context.Context, repository string) ([]fleet.Transaction, error) {
	if _, err := c.kept(repository); err != nil {
		return nil, err
	}
	return c.depot.Transactions(repository)
}

// Rollback undoes the changes of a frozen repository after a transaction. What is
// undone is put aside, and not deleted. It is refused while jobs of the
// repository are open. Refusals are *job.Failure.
func (c *Caretaker) Rollback(_ context.Context, by fleet.Actor, name string, to int, reason string) error {
	repository, err := c.kept(name)
	if err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(reason) == "":
		return job.Invalid("reason", "is missing").WithHint("say why, for the audit")
	case repository.Depot.Frozen == nil:
		return job.Fail(job.Conflict, "repository %s is not frozen: nothing is known to be wrong with it", name).
			WithHint("borgfleet archive list %s --refresh compares its archives with those that are recorded", name)
	case !c.begin(name):
		return job.Fail(job.Conflict, "repository %s is being rolled back already", name).WithHint("wait until that is over")
	}
	defer c.end(name)
	detail := fmt.Sprintf("back to transaction %d: %s", to, reason)
	err = c.registry.apply(store.RequireNoOpenJobs("", name), c.registry.audit(by, "repository.rollback", "repository/"+name, detail))
	switch {
	case errors.Is(err, store.ErrOpenJobs):
		return job.Fail(job.Conflict, "repository %s has jobs that are not over", name).
			WithHint("cancel them, or wait until they are over; borgfleet job list --repo %s shows them", name)
	case err != nil:
		return fmt.Errorf("note rollback of repository %s: %w", name, err)
	}
	c.depot.Evict(name)
	if err := c.depot.Rollback(name, to); err != nil {
		return fmt.Errorf("roll repository %s back to transaction %d: %w", name, to, err)
	}
	c.registry.changed(name, "repository rolled back", by)
	return nil
}

// kept returns a repository of the depot.
func (c *Caretaker) kept(name string) (fleet.Repository, error) {
	repository, err := readRepository(c.registry.store, name)
	switch {
	case err != nil:
		return repository, err
	case repository.Depot == nil:
		return repository, job.Fail(job.Conflict, "repository %s is not in the depot", name).
			WithHint("only what the coordinator keeps itself can be looked at so")
	case c.depot == nil:
		return repository, noDepot()
	}
	return repository, nil
}

func (c *Caretaker) begin(repository string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[repository] {
		return false
	}
	c.busy[repository] = true
	return true
}

func (c *Caretaker) end(repository string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, repository)
}

func noDepot() *job.Failure {
	return job.Fail(job.Unavailable, "this coordinator keeps no depot").WithHint("set depot.listen in coordinator.yaml")
}

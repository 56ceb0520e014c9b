package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Connections reaches hosts over SSH. Safe for concurrent use.
type Connections interface {
	// ScanSSH asks a server for the keys with which it proves itself, over
	// servers whose keys are known.
	ScanSSH(ctx context.Context, by fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error)
	// TryHost connects to a host of mode ssh and looks at it anew: what is known
	// of it is fresh afterwards. An agent's host is left as it is. It is a
	// *job.Failure if the host is not reached.
	TryHost(ctx context.Context, by fleet.Actor, host string) error
	// ConvertHost gives a host of mode ssh an agent. It returns what it has done,
	// also with an error.
	ConvertHost(ctx context.Context, by fleet.Actor, host string) ([]fleet.ConvertStep, error)
}

// Connections returns connections behind the gate.
func (g *Gate) Connections(inner Connections) Connections { return connections{inner, g} }

type connections struct {
	inner Connections
	gate  *Gate
}

func (c connections) ScanSSH(ctx context.Context, by fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error) {
	if err := c.gate.pass(by, "ssh.scan", ""); err != nil { // an address may be anything, before it is checked
		return nil, err
	}
	return c.inner.ScanSSH(ctx, by, address, jump)
}

func (c connections) TryHost(ctx context.Context, by fleet.Actor, host string) error {
	if err := c.gate.pass(by, "host.verify", "host/"+host); err != nil {
		return err
	}
	return c.inner.TryHost(ctx, by, host)
}

func (c connections) ConvertHost(ctx context.Context, by fleet.Actor, host string) ([]fleet.ConvertStep, error) {
	if err := c.gate.pass(by, "host.convert", "host/"+host); err != nil {
		return nil, err
	}
	return c.inner.ConvertHost(ctx, by, host)
}

// Depot looks after what the coordinator keeps itself. Safe for concurrent use.
type Depot interface {
	DepotKeeper
	Freezer
}

// DepotKeeper tells of the depot, and puts back what was in it. Safe for
// concurrent use.
type DepotKeeper interface {
	Depot(ctx context.Context) (fleet.DepotView, error)
	Transactions(ctx context.Context, repository string) ([]fleet.Transaction, error)
	Rollback(ctx context.Context, by fleet.Actor, repository string, to int, reason string) error
}

// Freezer ends that a repository is frozen. Safe for concurrent use.
type Freezer interface {
	// Unfreeze returns the job that reads what is there now: with its end the
	// repository is not frozen any more.
	Unfreeze(ctx context.Context, by fleet.Actor, repository, reason string) (job.Job, error)
}

// Depot returns the depot behind the gate.
func (g *Gate) Depot(keeper DepotKeeper, freezer Freezer) Depot { return depot{keeper, freezer, g} }

type depot struct {
	keeper  DepotKeeper
	freezer Freezer
	gate    *Gate
}

func (d depot) Depot(ctx context.Context) (fleet.DepotView, error) { return d.keeper.Depot(ctx) }

func (d depot) Transactions(ctx context.Context, repository string) ([]fleet.Transaction, error) {
	return d.keeper.Transactions(ctx, repository)
}

func (d depot) Rollback(ctx context.Context, by fleet.Actor, repository string, to int, reason string) error {
	if err := d.gate.pass(by, "repository.rollback", "repository/"+repository); err != nil {
		return err
	}
	return d.keeper.Rollback(ctx, by, repository, to, reason)
}

func (d depot) Unfreeze(ctx context.Context, by fleet.Actor, repository, reason string) (job.Job, error) {
	if err := d.gate.pass(by, "repository.unfreeze", "repository/"+repository); err != nil {
		return job.Job{}, err
	}
	return d.freezer.Unfreeze(ctx, by, repository, reason)
}

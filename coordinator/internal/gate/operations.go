package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Operations is what the Borg operations API works with. Safe for concurrent
// use.
type Operations interface {
	Submitter
	Adoption
}

// Submitter starts jobs with a passphrase of their own. Safe for concurrent use.
type Submitter interface {
	SubmitWith(ctx context.Context, by fleet.Actor, request job.Request, passphrase secret.Value) (job.Job, error)
}

// Adoption finds repositories, and takes in those that a call has named by
// nothing but their location. Safe for concurrent use.
type Adoption interface {
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
	Adopt(ctx context.Context, by fleet.Actor, location string, encryption job.Encryption) (fleet.RepositoryView, error)
	Keep(ctx context.Context, by fleet.Actor, name string, passphrase secret.Value) error
	Abandon(ctx context.Context, by fleet.Actor, name string) error
}

// Operations returns jobs and repositories behind the gate, for admins only:
// also what others may do elsewhere.
func (g *Gate) Operations(jobs Submitter, repositories Adoption) Operations {
	return operations{jobs, repositories, g}
}

type operations struct {
	jobs         Submitter
	repositories Adoption
	gate         *Gate
}

const runOperation = "operation.run"

func (o operations) SubmitWith(ctx context.Context, by fleet.Actor, request job.Request, passphrase secret.Value) (job.Job, error) {
	if err := o.gate.pass(by, runOperation, string(request.Kind)+" of "+request.Host); err != nil {
		return job.Job{}, err
	}
	return o.jobs.SubmitWith(ctx, by, request, passphrase)
}

// Repositories is for admins here, since each call begins with it.
func (o operations) Repositories(ctx context.Context) ([]fleet.RepositoryView, error) {
	if err := o.gate.passReader(ctx, runOperation, ""); err != nil {
		return nil, err
	}
	return o.repositories.Repositories(ctx)
}

func (o operations) Adopt(ctx context.Context, by fleet.Actor, location string, encryption job.Encryption) (fleet.RepositoryView, error) {
	if err := o.gate.pass(by, "repository.adopt", ""); err != nil { // a location may be anything, before it is checked
		return fleet.RepositoryView{}, err
	}
	return o.repositories.Adopt(ctx, by, location, encryption)
}

func (o operations) Keep(ctx context.Context, by fleet.Actor, name string, passphrase secret.Value) error {
	if err := o.gate.pass(by, "repository.keep", "repository/"+name); err != nil {
		return err
	}
	return o.repositories.Keep(ctx, by, name, passphrase)
}

func (o operations) Abandon(ctx context.Context, by fleet.Actor, name string) error {
	if err := o.gate.pass(by, "repository.abandon", "repository/"+name); err != nil {
		return err
	}
	return o.repositories.Abandon(ctx, by, name)
}

package httpapi

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Jobs submits and reads jobs. Every method is safe for concurrent use; an
// error that is the caller's fault is a *job.Failure.
type Jobs interface {
	// Submit returns after the job is stored. The same idempotency key gets
	// the same job.
	Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error)
	Job(ctx context.Context, id job.ID) (job.Job, error)
	// Jobs returns one page, newest first.
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
	// Cancel asks to end a job; asking again changes nothing.
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	// Retry returns a new job with the request of a terminal one.
	Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
}

// Logs reads jobs' logs. It is safe for concurrent use.
type Logs interface {
	// Log returns what is stored after the given place; 0 is the beginning.
	Log(ctx context.Context, id job.ID, after int) (fleet.JobLog, error)
}

// Statuses tells the whole in short. It is safe for concurrent use.
type Statuses interface {
	Status(ctx context.Context) (fleet.Status, error)
}

// Hosts keeps the hosts. Every method is safe for concurrent use; an error that
// is the caller's fault is a *job.Failure.
type Hosts interface {
	// AddHost also returns where the agent's credentials were written.
	AddHost(ctx context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, string, error)
	Host(ctx context.Context, name string) (fleet.HostView, error)
	Hosts(ctx context.Context) ([]fleet.HostView, error)
	RemoveHost(ctx context.Context, by fleet.Actor, name string) error
}

// Repositories keeps the repositories. Every method is safe for concurrent use;
// an error that is the caller's fault is a *job.Failure.
type Repositories interface {
	// AddRepository also returns the passphrase, if it made one.
	AddRepository(ctx context.Context, by fleet.Actor, repository fleet.NewRepository) (fleet.RepositoryView, secret.Value, error)
	Repository(ctx context.Context, name string) (fleet.RepositoryView, error)
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
	RemoveRepository(ctx context.Context, by fleet.Actor, name string) error
}

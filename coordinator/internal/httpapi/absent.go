package httpapi

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// absent stands for a depot, or for connections to hosts, that there are not.
type absent struct{}

func (absent) failure() error {
	return job.Fail(job.Unavailable, "this coordinator keeps no depot, and connects to no hosts")
}

func (a absent) ScanSSH(context.Context, fleet.Actor, string, []fleet.SSHHop) ([]fleet.ShownKey, error) {
	return nil, a.failure()
}

// TryHost lets agents' hosts be verified all the same.
func (absent) TryHost(context.Context, fleet.Actor, string) error { return nil }

func (a absent) ConvertHost(context.Context, fleet.Actor, string) ([]fleet.ConvertStep, error) {
	return nil, a.failure()
}

func (a absent) Depot(context.Context) (fleet.DepotView, error) {
	return fleet.DepotView{}, a.failure()
}

func (a absent) Transactions(context.Context, string) ([]fleet.Transaction, error) {
	return nil, a.failure()
}

func (a absent) Unfreeze(context.Context, fleet.Actor, string, string) (job.Job, error) {
	return job.Job{}, a.failure()
}

func (a absent) Rollback(context.Context, fleet.Actor, string, int, string) error { return a.failure() }

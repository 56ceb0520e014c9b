package daemon

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// openPost opens the post of a host, by how it is reached.
func (d *daemon) openPost(_ context.Context, host fleet.Host) (post, error) {
	if host.Mode == fleet.ModeLocal {
		return d.openLocal(), nil
	}
	return nil, job.Fail(job.Unavailable, "hosts over SSH are not taken into service")
}

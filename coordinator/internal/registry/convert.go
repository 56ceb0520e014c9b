package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ConvertHost says that a host of mode ssh, whose agent has enrolled, has that
// agent now; how else it was reached is forgotten, and the key for that. It is
// refused while jobs of the host are open. Refusals are *job.Failure.
func (r *Registry) ConvertHost(_ context.Context, by fleet.Actor, name string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	host, known := r.roster.get(name)
	switch {
	case !known:
		return fleet.UnknownHost(name)
	case host.Mode != fleet.ModeSSH:
		return job.Fail(job.Conflict, "host %s is not reached over SSH, but has the mode %s", name, host.Mode)
	case host.PublicKey == "":
		return job.Fail(job.Conflict, "the agent of host %s has not enrolled", name)
	}
	convert := func(h *fleet.Host) { h.Mode, h.SSH, h.Reach = fleet.ModeAgent, nil, fleet.ReachDepot }
	convert(&host)
	err := r.apply(store.RequireNoOpenJobs(name, ""), store.PutHost(host), r.options.Keyring.forgetSSHKey(name),
		r.audit(by, "host.convert", "host/"+name, "it has an agent now"))
	switch {
	case errors.Is(err, store.ErrOpenJobs):
		return job.Fail(job.Conflict, "host %s has jobs that are not over", name).
			WithHint("cancel them, or wait until they are over; borgfleet job list --host %s shows them", name)
	case err != nil:
		return fmt.Errorf("convert host %s: %w", name, err)
	}
	r.roster.change(name, convert)
	r.hostChanged(name, "host has an agent now", by)
	return nil
}

// checkMode refuses the identity of an agent for a host without one, unless a
// token says that the host is to have one.
func checkMode(host fleet.Host, replace bool) error {
	switch {
	case host.Mode == fleet.ModeSSH && !replace:
		return job.Fail(job.Conflict, "host %s is reached over SSH, and has no agent", host.Name).
			WithHint("borgfleet host convert %s gives it one; or choose another name", host.Name)
	case host.Mode == fleet.ModeLocal:
		return job.Fail(job.Conflict, "host %s is the coordinator's own machine, and has no agent", host.Name).
			WithHint("choose another name")
	}
	return nil
}

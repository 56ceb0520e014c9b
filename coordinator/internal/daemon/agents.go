package daemon

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// agents is what the agents of hosts say of themselves. A host that is reached
// in another way may have an agent all the same, such as one that a conversion
// has left there: it has no part in what the host's jobs do.
type agents struct{ *daemon }

// stray reports whether a host has no agent, and gets none just now.
func (a agents) stray(ctx context.Context, host string) bool {
	view, err := a.registry.Host(ctx, host)
	return err == nil && view.Mode != fleet.ModeAgent && !a.posts.lent(host)
}

// HandleHello settles with a host's agent.
func (a agents) HandleHello(ctx context.Context, hello bus.Hello) (bus.HelloReply, error) {
	if !a.stray(ctx, hello.Host) {
		return a.dispatch.HandleHello(ctx, hello)
	}
	a.logger.Warn("an agent is refused whose host is reached without one", "host", hello.Host)
	return bus.HelloReply{Refused: job.Fail(job.Conflict, "the coordinator reaches host %s without an agent", hello.Host).
		WithHint("stop the agent there; or let the coordinator use one: borgfleet host convert %s", hello.Host)}, nil
}

// HandleProgress takes live progress, of attempts that the host was ordered.
func (a agents) HandleProgress(host string, progress bus.Progress) {
	a.dispatch.HandleProgress(host, progress)
}

// HostConnected notes an agent's connection.
func (a agents) HostConnected(host string) {
	if !a.stray(context.Background(), host) {
		a.dispatch.HostConnected(host)
	}
}

// HostDisconnected notes that an agent's last one has ended.
func (a agents) HostDisconnected(host string) {
	if !a.stray(context.Background(), host) {
		a.dispatch.HostDisconnected(host)
	}
}

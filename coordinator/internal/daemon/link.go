package daemon

import (
	"context"
	"io"

	"github.com/borgfleet/borgfleet/coordinator/internal/agentlink"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/proxy"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// link is one way to hosts.
type link interface {
	Order(ctx context.Context, host string, order bus.Order) (bus.OrderReply, error)
	Cancel(ctx context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error)
	Present(ctx context.Context, host, instance string) bool
	Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser
}

// links choose how a host is reached: by its agent, or from here.
type links struct {
	agents  *agentlink.Link
	proxies *proxy.Service // set before anything is sent
	lent    func(host string) bool
}

func (l *links) of(host string) link {
	if l.proxies.Has(host) {
		return l.proxies
	}
	return l.agents
}

// Order hands an order over. A host that is given an agent gets none, until it
// is settled who takes it.
func (l *links) Order(ctx context.Context, host string, order bus.Order) (bus.OrderReply, error) {
	if l.lent(host) {
		return bus.OrderReply{}, fleet.ErrHostAway
	}
	return l.of(host).Order(ctx, host, order)
}

// Cancel asks to end an attempt.
func (l *links) Cancel(ctx context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error) {
	return l.of(host).Cancel(ctx, host, cancel)
}

// Present asks whether a run of whoever runs a host's jobs is there.
func (l *links) Present(ctx context.Context, host, instance string) bool {
	return l.of(host).Present(ctx, host, instance)
}

// Stream reads what borg prints in a running attempt.
func (l *links) Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser {
	return l.of(host).Stream(ctx, host, id, attempt)
}

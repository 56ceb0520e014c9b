package uplink

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// present answers the question whether this run of the agent is there.
func (u *Uplink) present(msg *nats.Msg) {
	u.answer(msg, func() (any, error) { return bus.Presence{Instance: u.options.Instance}, nil })
}

func (u *Uplink) serveOrders(ctx context.Context, orders <-chan *nats.Msg) {
	u.serve(ctx, orders, func(msg *nats.Msg) {
		u.answer(msg, func() (any, error) {
			var envelope bus.Envelope
			if err := json.Unmarshal(msg.Data, &envelope); err != nil {
				u.logger.Error("decode order", "err", err) // the empty envelope is refused as unsigned
			}
			return u.options.Handler.Order(ctx, envelope)
		})
	})
}

func (u *Uplink) serveCancels(ctx context.Context, cancels <-chan *nats.Msg) {
	u.serve(ctx, cancels, func(msg *nats.Msg) {
		u.answer(msg, func() (any, error) {
			var cancel bus.Cancel
			if err := json.Unmarshal(msg.Data, &cancel); err != nil {
				return nil, err
			}
			return u.options.Handler.Cancel(ctx, cancel)
		})
	})
}

// serve handles messages, but none while the coordinator works with another run
// of the agent, which answers them. Before a hello is answered they are handled:
// the first order can overtake the answer on its way through this program.
func (u *Uplink) serve(ctx context.Context, messages <-chan *nats.Msg, handle func(*nats.Msg)) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-messages:
			if !u.refused.Load() {
				handle(msg)
			}
		}
	}
}

// answer replies to a request of the coordinator. A reply subject that is not
// in the coordinator's own inbox is left alone, request and all: an answer
// there could reach a subject that its sender has no right to.
func (u *Uplink) answer(msg *nats.Msg, handle func() (any, error)) {
	if !bus.FromCoordinator(msg.Reply) {
		u.logger.Warn("ignored a request that does not come from the coordinator", "subject", msg.Subject)
		return
	}
	reply, err := handle()
	if errors.Is(err, bus.ErrInstance) {
		u.logger.Debug("left to another agent", "subject", msg.Subject)
		return
	}
	if err != nil {
		u.logger.Error("handle request", "subject", msg.Subject, "err", err)
		return
	}
	data, err := json.Marshal(reply)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		u.logger.Warn("answer request", "subject", msg.Subject, "err", err) // the next hello settles it
	}
}

// sendProgress publishes live progress, and reports whether somebody may take
// it. It may be lost: the next one follows.
func (u *Uplink) sendProgress(conn *nats.Conn, p bus.Progress) bool {
	if !conn.IsConnected() || !u.accepted.Load() {
		return false
	}
	data, err := json.Marshal(p)
	if err == nil {
		err = conn.Publish(bus.ProgressSubject(u.options.Host, p.Job), data)
	}
	if err != nil {
		u.logger.Debug("publish progress", "job", p.Job, "err", err)
	}
	return true
}

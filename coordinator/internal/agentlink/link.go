// Package agentlink reaches the hosts whose agents connect to the bus: [Link]
// sends them orders and reads what they stream, [Receiver] takes in what they say.
package agentlink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
)

// Link sends to agents. It is safe for concurrent use. An error that is
// [fleet.ErrHostAway] says that nothing was delivered; after any other error it
// is not known whether the agent has the message.
type Link struct {
	agents *nats.Conn
	signer nkeys.KeyPair
	times  streamTimes
	budget chan struct{} // one for each piece of a stream that may be on its way

	mu     sync.Mutex
	silent map[string]time.Time // hosts of which a run let us wait for its presence, and when it did
}

// New returns a link over a connection in the account of the agents. Orders
// are signed with signer.
func New(agents *nats.Conn, signer nkeys.KeyPair) *Link {
	return &Link{
		agents: agents, signer: signer, silent: map[string]time.Time{},
		times: defaultStreamTimes(), budget: make(chan struct{}, streamBudget),
	}
}

// Order signs an order and returns the host's answer, which the host gives
// after it has the order on disk.
func (l *Link) Order(ctx context.Context, host string, order bus.Order) (bus.OrderReply, error) {
	envelope, err := bus.SignOrder(order, l.signer)
	if err != nil {
		return bus.OrderReply{}, fmt.Errorf("order to host %s: %w", host, err)
	}
	reply, err := ask[bus.OrderReply](ctx, l.agents, bus.OrderSubject(host), envelope)
	if err != nil {
		return bus.OrderReply{}, fmt.Errorf("order to host %s: %w", host, err)
	}
	return reply, nil
}

// Cancel asks a host to end an attempt and returns its answer, which the host
// gives after it has the cancellation on disk.
func (l *Link) Cancel(ctx context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error) {
	reply, err := ask[bus.CancelReply](ctx, l.agents, bus.CancelSubject(host), cancel)
	if err != nil {
		return bus.CancelReply{}, fmt.Errorf("cancellation to host %s: %w", host, err)
	}
	return reply, nil
}

// silencePause is how long a host that let us wait is not asked again.
const silencePause = bus.HelloBusy

// Present asks a run of a host's agent whether it is there. Who does not answer
// within [bus.PresenceTimeout] is not. After such a wait every run of that host
// counts as there for a while: hellos of many hosts wait for each other, and one
// that brings a new run with each of its own must not keep them waiting.
func (l *Link) Present(ctx context.Context, host, instance string) bool {
	if l.wasSilent(host) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, bus.PresenceTimeout)
	defer cancel()
	reply, err := ask[bus.Presence](ctx, l.agents, bus.PresenceSubject(host, instance), struct{}{})
	if errors.Is(err, context.DeadlineExceeded) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.silent[host] = time.Now()
	}
	return err == nil && reply.Instance == instance
}

func (l *Link) wasSilent(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, silent := l.silent[host]
	if silent && time.Since(at) >= silencePause {
		delete(l.silent, host)
		silent = false
	}
	return silent
}

// ask sends a request and waits for its answer, at most [bus.RequestTimeout].
func ask[Reply any](ctx context.Context, connection *nats.Conn, subject string, request any) (reply Reply, err error) {
	data, err := json.Marshal(request)
	if err != nil {
		return reply, fmt.Errorf("encode: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, bus.RequestTimeout)
	defer cancel()
	answer, err := connection.RequestWithContext(ctx, subject, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return reply, fleet.ErrHostAway
	}
	if err != nil {
		return reply, err
	}
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return reply, fmt.Errorf("decode answer: %w", err)
	}
	return reply, nil
}

package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nkeys"
)

// Envelope carries an order with the coordinator's signature over its bytes.
type Envelope struct {
	Body      []byte `json:"body"`      // an Order as JSON, exactly as signed
	Signature []byte `json:"signature"` // Ed25519
}

// Faults of an envelope.
var (
	ErrSignature = errors.New("order is not signed by this coordinator")
	ErrWrongHost = errors.New("order is for another host")
	ErrInstance  = errors.New("order is for another run of this host's agent")
	ErrStale     = errors.New("order has expired; the clocks of host and coordinator may differ")
)

// SignOrder puts an order into a signed envelope.
func SignOrder(order Order, signer nkeys.KeyPair) (Envelope, error) {
	body, err := json.Marshal(order)
	if err != nil {
		return Envelope{}, fmt.Errorf("encode order: %w", err)
	}
	signature, err := signer.Sign(body)
	if err != nil {
		return Envelope{}, fmt.Errorf("sign order: %w", err)
	}
	return Envelope{Body: body, Signature: signature}, nil
}

// OpenOrder verifies an envelope with the coordinator's public key, and checks
// that the order is for this host and not expired at now.
func OpenOrder(envelope Envelope, signer, host string, now time.Time) (Order, error) {
	key, err := nkeys.FromPublicKey(signer)
	if err != nil {
		return Order{}, fmt.Errorf("coordinator's public key: %w", err)
	}
	if key.Verify(envelope.Body, envelope.Signature) != nil {
		return Order{}, ErrSignature
	}
	var order Order
	if err := json.Unmarshal(envelope.Body, &order); err != nil {
		return Order{}, fmt.Errorf("decode order: %w", err)
	}
	if order.Host != host {
		return Order{}, ErrWrongHost
	}
	if now.After(order.ExpiresAt) {
		return Order{}, ErrStale
	}
	return order, nil
}

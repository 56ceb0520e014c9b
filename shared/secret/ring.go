package secret

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nats-io/nkeys"
)

// Ring holds a host's own curve keys, the newest first. What was sealed to an
// earlier one still opens, so that the key can be changed while secrets are on
// their way. It is safe for concurrent use.
type Ring struct {
	keys   []nkeys.KeyPair
	public string // of the newest
}

// ParseRing reads a ring: a seed ("SX…") a line, the newest first. Errors never
// carry a line.
func ParseRing(text []byte) (*Ring, error) {
	ring := &Ring{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := nkeys.FromCurveSeed(line)
		if err != nil {
			return nil, errors.New("a line is not the seed of a curve key")
		}
		ring.keys = append(ring.keys, key)
	}
	if len(ring.keys) == 0 {
		return nil, errors.New("no key")
	}
	var err error
	if ring.public, err = ring.keys[0].PublicKey(); err != nil {
		return nil, fmt.Errorf("public part of the newest key: %w", err)
	}
	return ring, nil
}

// Public returns the public part of the newest key: what others seal to.
func (r *Ring) Public() string { return r.public }

// Open opens a sealed secret as [Open] does, with whichever key fits.
func (r *Ring) Open(sealed Sealed, purpose Purpose) (Value, error) {
	for _, key := range r.keys {
		if value, err := Open(sealed, purpose, key); err == nil {
			return value, nil
		}
	}
	return Value{}, ErrNotOurs
}

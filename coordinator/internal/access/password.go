package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"golang.org/x/crypto/argon2"
)

// Cost is what one computation of argon2id takes.
type Cost struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

// DefaultCost is what OWASP's Password Storage Cheat Sheet recommends.
func DefaultCost() Cost { return Cost{MemoryKiB: 19 * 1024, Passes: 2, Threads: 1} }

// Bounds of passwords and of work on them.
const (
	minPasswordChars = 10
	maxPasswordBytes = 1024
	atOnce           = 2  // computations
	waiting          = 16 // for one of those
	saltBytes        = 16
	keyBytes         = 32
)

// errHash says that a stored hash is not one that hasher made.
var errHash = errors.New("the stored password hash cannot be read")

// checkPassword applies the rules for a new password. There is none about
// kinds of characters, as those make passwords worse.
func checkPassword(user string, password secret.Value) error {
	text := string(password.Reveal())
	switch {
	case utf8.RuneCountInString(text) < minPasswordChars:
		return job.Invalid("password", "is too short").WithHint("at least %d characters; a few words are easy to remember", minPasswordChars)
	case len(text) > maxPasswordBytes:
		return job.Invalid("password", "is too long").WithHint("at most %d bytes", maxPasswordBytes)
	case strings.EqualFold(text, user):
		return job.Invalid("password", "is the same as the name").WithHint("a few words are easy to remember")
	}
	return nil
}

// hasher computes argon2id, a few at once: each takes memory and a core.
type hasher struct {
	cost   Cost
	inside chan struct{} // one for each computation that runs or waits
	slots  chan struct{} // one for each that runs
}

func newHasher(cost Cost) *hasher {
	return &hasher{cost: cost, inside: make(chan struct{}, atOnce+waiting), slots: make(chan struct{}, atOnce)}
}

// hash returns a new password's hash as a PHC string.
func (h *hasher) hash(ctx context.Context, password secret.Value) (string, error) {
	p := phc{cost: h.cost, salt: make([]byte, saltBytes)}
	_, _ = rand.Read(p.salt) // never fails
	key, err := h.compute(ctx, p.cost, p.salt, password)
	p.key = key
	return p.String(), err
}

// verify reports whether the password is the one of a hash, and whether that
// should be computed anew with today's cost. Without a hash the answer is no,
// and takes as long.
func (h *hasher) verify(ctx context.Context, hash string, password secret.Value) (good, stale bool, err error) {
	stored := phc{cost: h.cost, salt: make([]byte, saltBytes), key: make([]byte, keyBytes)}
	if hash != "" {
		if stored, err = parsePHC(hash); err != nil {
			return false, false, err
		}
	}
	key, err := h.compute(ctx, stored.cost, stored.salt, password)
	if err != nil {
		return false, false, err
	}
	same := subtle.ConstantTimeCompare(key, stored.key) == 1
	return same && hash != "", stored.cost != h.cost, nil
}

func (h *hasher) compute(ctx context.Context, cost Cost, salt []byte, password secret.Value) ([]byte, error) {
	select {
	case h.inside <- struct{}{}:
		defer func() { <-h.inside }()
	default:
		return nil, tooMany("too many people are signing in at this moment", 1)
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn to check a password: %w", ctx.Err())
	}
	return argon2.IDKey(password.Reveal(), salt, cost.Passes, cost.MemoryKiB, cost.Threads, keyBytes), nil
}

// phc is a hash in the form that is stored, by the PHC string format:
// $argon2id$v=19$m=19456,t=2,p=1$salt$key.
type phc struct {
	cost      Cost
	salt, key []byte
}

var phcEncoding = base64.RawStdEncoding.Strict()

// String implements fmt.Stringer.
func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.cost.MemoryKiB, p.cost.Passes, p.cost.Threads,
		phcEncoding.EncodeToString(p.salt), phcEncoding.EncodeToString(p.key))
}

// parsePHC reads what String wrote. It is strict, and bounds the cost, so that
// a damaged record cannot take the machine's memory.
func parsePHC(text string) (phc, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprint("v=", argon2.Version) {
		return phc{}, errHash
	}
	var p phc
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.cost.MemoryKiB, &p.cost.Passes, &p.cost.Threads); err != nil {
		return phc{}, errHash
	}
	var errSalt, errKey error
	p.salt, errSalt = phcEncoding.DecodeString(parts[4])
	p.key, errKey = phcEncoding.DecodeString(parts[5])
	c := p.cost
	bounded := c.MemoryKiB <= 1<<20 && c.Passes >= 1 && c.Passes <= 64 && c.Threads >= 1
	if errSalt != nil || errKey != nil || !bounded || len(p.key) != keyBytes || p.String() != text {
		return phc{}, errHash
	}
	return p, nil
}

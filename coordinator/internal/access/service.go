package access

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-hclog"
)

// Bus makes and ends the identities of operators on the bus. It is safe for
// concurrent use.
type Bus interface {
	// MintOperator makes a new identity with each call.
	MintOperator(name string, role bus.Role) (credentials []byte, publicKey string, err error)
	// RevokeOperator ends one for good and cuts its connections; repeats have
	// no further effect.
	RevokeOperator(publicKey string) error
}

// Options are what a [Service] works with. Cost and Now have defaults.
type Options struct {
	Store          *store.Store
	Bus            Bus
	LocalTokenFile string           // where the token of the data directory's owner is written, mode 0600
	Cost           Cost             // of one computation of a password's hash; default [DefaultCost]
	Now            func() time.Time // default time.Now
	Logger         hclog.Logger
}

// Service knows people, their sessions, tokens and credentials. It is safe for
// concurrent use. Errors that are the caller's fault are *job.Failure.
type Service struct {
	store  *store.Store
	bus    Bus
	now    func() time.Time
	logger hclog.Logger
	hasher *hasher
	limits *limits
	local  string // hash of the local token

	changing sync.Mutex // held from what a change looks at to the end of its transaction

	failedLogins refusals
	denied       refusals

	watch   sync.Mutex
	changed chan struct{} // closed at the next change of who may do what
}

// New returns the service, with a new local token.
func New(options Options) (*Service, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Cost == (Cost{}) {
		options.Cost = DefaultCost()
	}
	token, hash := newToken(tokenPrefix)
	if err := renameio.WriteFile(options.LocalTokenFile, append(token.Reveal(), '\n'), 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return nil, fmt.Errorf("write local token: %w", err)
	}
	return &Service{
		store: options.Store, bus: options.Bus, logger: options.Logger.Named("access"),
		now:    func() time.Time { return options.Now().UTC() },
		hasher: newHasher(options.Cost), limits: newLimits(), local: hash, changed: make(chan struct{}),
	}, nil
}

// Changed returns a channel that is closed when somebody's access changes the
// next time. Whoever serves a request that stays open must ask Authenticate
// again then, as well as from time to time, since sessions and tokens expire.
func (s *Service) Changed() <-chan struct{} {
	s.watch.Lock()
	defer s.watch.Unlock()
	return s.changed
}

// tell lets everybody who waits for a change look again.
func (s *Service) tell() {
	s.watch.Lock()
	defer s.watch.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// apply stores a change of somebody's access, and tells of it.
func (s *Service) apply(changes ...store.Change) error {
	defer s.tell() // also after an error: it may have been stored
	_, err := s.store.Apply(changes...)
	return err
}

// audit makes the audit entry of a change that is done in the same transaction.
func (s *Service) audit(by fleet.Actor, action, object, detail string) store.Change {
	return store.AppendAudit(fleet.AuditEntry{
		At: s.now(), By: by.Name, From: by.From, Action: action, Object: object, Outcome: "done", Detail: detail,
	})
}

// newToken makes 256 random bits in a form for URLs and headers, and returns
// them with the hash that is stored.
func newToken(prefix string) (token secret.Value, hash string) {
	text := prefix + randomText()
	return secret.FromString(text), hashOf(text)
}

// hashOf returns the form in which a token is stored. It needs no salt, as a
// token is as long as the hash and as random.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// Package enrol lets hosts in: it makes the one-time tokens that people carry to
// new hosts, and answers the hosts that come with one, and those that ask for
// other credentials later.
//
// A request is sealed to a key in the token, the answer to a key in the
// request: whoever listens on the bus, or takes the part of the bus, learns
// nothing. The token's secret is stored as a hash. It is spent in the one
// transaction that gives the host its identity, and binds to the key that came
// with it: the same host may ask again when the answer was lost.
package enrol

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Registry keeps the hosts' identities. Refusals are *job.Failure.
type Registry interface {
	// Host returns a host, or that it is unknown.
	Host(ctx context.Context, name string) (fleet.HostView, error)
	// EnrolHost gives a host its identity, in one transaction with what also
	// has to change.
	EnrolHost(ctx context.Context, by fleet.Actor, enrolment fleet.Enrolment, also ...store.Change) error
	// StageKey makes a second identity of a host known.
	StageKey(ctx context.Context, host string, request bus.RenewRequest) error
	// ConfirmKey ends the first one. Repeating it changes nothing.
	ConfirmKey(ctx context.Context, host string, request bus.RenewRequest) error
}

// Minter signs bus identities that were made on hosts.
type Minter interface {
	// AuthorizeAgent returns the JWT for a host's public key.
	AuthorizeAgent(host, publicKey string) (token string, err error)
}

// Vault encrypts secrets at rest.
type Vault interface {
	Encrypt(value secret.Value) ([]byte, error)
	Decrypt(ciphertext []byte) (secret.Value, error)
}

// Options are what a Service works with. All but CA, Fingerprint and Now are
// required.
type Options struct {
	Store       *store.Store
	Registry    Registry
	Minter      Minter
	Vault       Vault
	Agents      *nats.Conn // in the account AGENTS
	Signer      string     // public key that orders are signed with
	URLs        []string   // of the bus, as agents reach it; the first goes into tokens
	CA          []byte     // PEM of the authority of the bus's certificate; nil: the hosts' own
	Fingerprint [32]byte   // SHA-256 of its certificate; zero with a nil CA
	Now         func() time.Time
	Logger      hclog.Logger
}

// Service makes tokens and answers hosts. It is safe for concurrent use.
type Service struct {
	options Options
	store   *store.Store
	logger  hclog.Logger
	now     func() time.Time
	key     nkeys.KeyPair // curve key that requests are sealed to
	public  string

	limit     *rate.Limiter // of enrolments, whoever asks
	strangers *rate.Limiter // of requests that cannot be read

	mu    sync.Mutex
	hosts map[string]*hostLimits // by name
}

// Limits of what is answered. A guess at a token's 160 bits is hopeless anyway;
// these keep a flood from costing anything.
const (
	enrolments     = 20 // a second
	enrolmentBurst = 50
	renewalEvery   = 2 * time.Second // of one host
	renewalBurst   = 10
	keyEvery       = 10 * time.Minute // a new key of one host: those given up stay revoked for ever
	keyBurst       = 5
	queued         = 256 // requests that wait; more are dropped, and asked again
	pruneEvery     = time.Hour
)

// New returns a Service. It makes the key that goes into tokens at the first
// start, and finds it in the store at later ones.
func New(o Options) (*Service, error) {
	if len(o.URLs) == 0 {
		return nil, errors.New("enrol: no address of the bus is known")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{
		options: o, store: o.Store, logger: o.Logger.Named("enrol"), now: o.Now,
		limit: rate.NewLimiter(enrolments, enrolmentBurst), strangers: rate.NewLimiter(enrolments, enrolmentBurst),
		hosts: map[string]*hostLimits{},
	}
	if err := s.openKey(); err != nil {
		return nil, err
	}
	return s, nil
}

// keyName is where the key is stored, encrypted.
const keyName = "enrolment"

func (s *Service) openKey() error {
	ciphertext, known, err := s.store.Secret(keyName)
	if err != nil {
		return fmt.Errorf("read enrolment key: %w", err)
	}
	if !known {
		return s.makeKey()
	}
	seed, err := s.options.Vault.Decrypt(ciphertext)
	if err != nil {
		return fmt.Errorf("decrypt enrolment key: %w", err)
	}
	key, err := nkeys.FromCurveSeed(seed.Reveal())
	if err != nil {
		return job.Fail(job.IntegrityError, "the stored enrolment key is damaged").WithHint("restore the database from a snapshot")
	}
	return s.use(key)
}

func (s *Service) makeKey() error {
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return fmt.Errorf("make enrolment key: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return fmt.Errorf("encode enrolment key: %w", err)
	}
	ciphertext, err := s.options.Vault.Encrypt(secret.New(seed))
	if err != nil {
		return fmt.Errorf("encrypt enrolment key: %w", err)
	}
	if _, err := s.store.Apply(store.PutSecret(keyName, ciphertext)); err != nil {
		return fmt.Errorf("store enrolment key: %w", err)
	}
	return s.use(key)
}

func (s *Service) use(key nkeys.KeyPair) (err error) {
	s.key = key
	if s.public, err = key.PublicKey(); err != nil {
		return fmt.Errorf("public enrolment key: %w", err)
	}
	return nil
}

// Run answers hosts until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	asked, renewals := make(chan *nats.Msg, queued), make(chan *nats.Msg, queued)
	for subject, messages := range map[string]chan *nats.Msg{bus.Enrol: asked, bus.AllRenewals: renewals} {
		subscription, err := s.options.Agents.ChanSubscribe(subject, messages)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		defer func() { _ = subscription.Unsubscribe() }() // the connection may be closed before
	}
	s.prune()
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	renewing.Go(func() { // strangers must not delay those who are known
		for {
			select {
			case <-ctx.Done():
				return
			case msg := <-renewals:
				s.serveRenewal(ctx, msg)
			}
		}
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-asked:
			s.serveEnrolment(ctx, msg)
		case <-tick.C:
			s.prune()
		}
	}
}

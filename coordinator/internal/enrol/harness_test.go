package enrol_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/broker"
	"github.com/borgfleet/borgfleet/coordinator/internal/enrol"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/registry"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const patience = time.Minute

var alice = fleet.Actor{Name: "operator:alice", Role: bus.Admin, From: "http 10.0.0.7"}

// nobody is the presence of a fleet that nobody watches.
type nobody struct{}

func (nobody) Online(string) (bool, time.Time) { return false, time.Time{} }
func (nobody) Forget(string)                   {}

// clock is a clock that tests turn.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// house is the service over a real bus, store and registry.
type house struct {
	*enrol.Service
	t        *testing.T
	store    *store.Store
	vault    *vault.Vault
	registry *registry.Registry
	broker   *broker.Broker
	clock    *clock
	signer   string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	dir, logger := t.TempDir(), hclog.NewNullLogger()
	h := &house{t: t, clock: &clock{now: time.Now()}}
	var err error
	if h.broker, err = broker.Start(t.Context(), broker.Options{Dir: filepath.Join(dir, "bus"), Listen: "127.0.0.1:0", Logger: logger}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.broker.Close)
	if h.store, err = store.Open(filepath.Join(dir, "borgfleet.db"), logger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.store.Check(), h.store.Close()); err != nil {
			t.Error(err)
		}
	})
	if h.vault, err = vault.Open(filepath.Join(dir, "secrets.key"), true); err != nil {
		t.Fatal(err)
	}
	h.registry, err = registry.New(registry.Options{
		Store: h.store, Keyring: registry.NewKeyring(h.store, h.vault), Revoker: h.broker, Presence: nobody{},
		Removed: func(string) {}, Feed: feed.New(), Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.signer, err = h.broker.Signer().PublicKey(); err != nil {
		t.Fatal(err)
	}
	h.Service = h.service()
	h.run()
	return h
}

// service makes the service anew of what is stored.
func (h *house) service() *enrol.Service {
	h.t.Helper()
	s, err := enrol.New(enrol.Options{
		Store: h.store, Registry: h.registry, Minter: h.broker, Vault: h.vault, Agents: h.broker.Agents(), Signer: h.signer,
		URLs: []string{h.broker.URL(), "tls://backup.example.net:4222"}, CA: []byte("PEM"), Now: h.clock.read, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("run: %v", err)
		}
	})
	stranger := h.stranger() // asks until somebody listens
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := stranger.Request(bus.Enrol, []byte("{}"), time.Second); err == nil {
			return
		}
	}
	h.t.Fatal("nobody answers")
}

// token makes a token for a host.
func (h *house) token(asked fleet.NewEnrolmentToken) bus.EnrolmentToken {
	h.t.Helper()
	_, command, err := h.EnrolmentToken(h.t.Context(), alice, asked)
	if err != nil {
		h.t.Fatal(err)
	}
	token, err := bus.ParseEnrolmentToken(string(command.Token.Reveal()))
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// stranger connects without credentials.
func (h *house) stranger() *nats.Conn {
	h.t.Helper()
	conn, err := nats.Connect(h.broker.URL(), nats.CustomInboxPrefix(bus.EnrolInbox(rand.Text())))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(conn.Close)
	return conn
}

// host is one that asks.
type host struct {
	user nkeys.KeyPair
	seal nkeys.KeyPair
	bus.EnrolRequest
}

func newHost(t *testing.T, token bus.EnrolmentToken) *host {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seal, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	blob := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), make([]byte, 32)...)
	_, _ = rand.Read(blob[len(blob)-32:])
	h := &host{user: user, seal: seal, EnrolRequest: bus.EnrolRequest{
		Secret: token.SecretText(), SSHKey: "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob), At: time.Now(),
	}}
	h.PublicKey, _ = user.PublicKey()
	h.SealKey, _ = seal.PublicKey()
	return h
}

// ask sends a host's request, sealed to a token's key.
func (h *house) ask(who *host, key string) bus.EnrolReply {
	h.t.Helper()
	sealed, err := bus.SealMessage(who.EnrolRequest, key)
	if err != nil {
		h.t.Fatal(err)
	}
	data, err := json.Marshal(bus.EnrolMessage{Sealed: sealed})
	if err != nil {
		h.t.Fatal(err)
	}
	msg, err := h.stranger().Request(bus.Enrol, data, patience)
	if err != nil {
		h.t.Fatal(err)
	}
	var reply bus.EnrolReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		h.t.Fatal(err)
	}
	var answer bus.EnrolAnswer
	if reply.Sealed != nil && bus.OpenMessage(*reply.Sealed, who.seal, &answer) == nil && answer.Failure != nil {
		return bus.EnrolReply{Failure: answer.Failure}
	}
	return reply
}

// enrol asks, and returns the answer, which must be good.
func (h *house) enrol(who *host, token bus.EnrolmentToken) bus.EnrolAnswer {
	h.t.Helper()
	reply := h.ask(who, token.Key)
	if reply.Failure != nil {
		h.t.Fatal(reply.Failure)
	}
	var answer bus.EnrolAnswer
	if err := bus.OpenMessage(*reply.Sealed, who.seal, &answer); err != nil {
		h.t.Fatal(err)
	}
	return answer
}

// connect connects as an agent.
func (h *house) connect(name, token string, user nkeys.KeyPair) (*nats.Conn, error) {
	h.t.Helper()
	seed, err := user.Seed()
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := nats.Connect(h.broker.URL(), nats.UserJWTAndSeed(token, string(seed)), nats.CustomInboxPrefix(bus.InboxPrefix(name)),
		nats.NoReconnect())
	if err == nil {
		h.t.Cleanup(conn.Close)
	}
	return conn, err
}

// renew asks for credentials as a host.
func (h *house) renew(conn *nats.Conn, name string, request bus.RenewRequest) bus.RenewReply {
	h.t.Helper()
	data, err := json.Marshal(request)
	if err != nil {
		h.t.Fatal(err)
	}
	msg, err := conn.Request(bus.RenewSubject(name), data, patience)
	if err != nil {
		h.t.Fatal(err)
	}
	var reply bus.RenewReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		h.t.Fatal(err)
	}
	return reply
}

func subjectOf(t *testing.T, token string) string {
	t.Helper()
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	return claims.Subject
}

func wantFailure(t *testing.T, err error, code job.Code) *job.Failure {
	t.Helper()
	failure, ok := errors.AsType[*job.Failure](err)
	if !ok || failure.Code != code {
		t.Fatalf("error %v; want %s", err, code)
	}
	return failure
}

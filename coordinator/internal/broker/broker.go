package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// Options configures a broker.
type Options struct {
	Dir            string      // keys, revocations and the stream are kept below it
	Listen         string      // host:port of the embedded server; port 0 picks a free one
	Websocket      string      // host:port of its websocket listener; empty: none
	TLS            *tls.Config // of both listeners; nil: plain, and on loopback only
	External       *External   // use this cluster instead of an embedded server
	StreamMaxBytes int64       // of the stream of events; 0 means 1 GiB
	Logger         hclog.Logger
}

// Broker is the running bus with the coordinator's connections to it. Its
// methods are safe for concurrent use.
type Broker struct {
	logger    hclog.Logger
	dir       string
	keys      *keyring
	server    *server.Server // nil with an external cluster
	accounts  *accounts      // nil with an external cluster
	agents    issuer         // mints agents
	account   string         // public key of the account AGENTS
	enroller  string         // public key of those who come without credentials; empty with an external cluster
	url       string
	websocket bool // the embedded server has such a listener

	operators map[string]bus.Role // by public scoped signing key
	refusals  *refusals

	connections map[string]*nats.Conn
	js          jetstream.JetStream
	stream      jetstream.StreamConfig // as it should be
	reopening   atomic.Bool            // the embedded server's stream
	// streaming is held by whoever makes the stream, its consumer, or both anew: the
	// server does not expect two of them at once.
	streaming  sync.Mutex
	stop       context.CancelFunc
	background sync.WaitGroup

	revoking sync.Mutex
	revoked  map[string]revocations                      // by account; maps are replaced, not changed
	known    atomic.Pointer[func(publicKey string) bool] // see Admit
	told     sync.Map                                    // agents that were disconnected as unknown, so that it is not logged every second
	look     chan struct{}                               // room for one: clients that are connected are to be judged
}

// Names of the coordinator's connections.
const (
	agentsConnection = bus.AgentsConnection
	streamConnection = "stream"
	apiConnection    = "api"
	systemConnection = "system"
)

// Start makes the keys when there are none yet, starts the embedded server or
// connects to the external cluster, and makes sure of the stream. An external
// cluster that is not there is no fault: Healthy says so until it is. ctx bounds
// the start only. Faults that an operator can mend are *job.Failure.
func Start(ctx context.Context, options Options) (*Broker, error) {
	if options.StreamMaxBytes == 0 {
		options.StreamMaxBytes = defaultStreamBytes
	}
	b := &Broker{
		logger: options.Logger.Named("broker"), dir: options.Dir,
		connections: map[string]*nats.Conn{}, refusals: newRefusals(options.Logger.Named("broker")),
		look: make(chan struct{}, 1),
	}
	var err error
	if b.revoked, err = readRevocations(options.Dir); err != nil {
		return nil, err
	}
	start := b.startEmbedded
	if options.External != nil {
		start = b.connectExternal
	}
	if err := start(ctx, options); err != nil {
		b.Close()
		return nil, err
	}
	if err := b.openStream(options); err != nil {
		b.Close()
		return nil, err
	}
	if err := b.makeStream(ctx); err != nil && b.connected() == nil {
		b.Close()
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	b.background.Go(func() { b.trim(background, options.StreamMaxBytes) })
	b.background.Go(func() { b.judge(background) })
	if b.server != nil {
		b.background.Go(func() { b.mend(background) })
	}
	return b, nil
}

// Agents returns the connection in the account AGENTS.
func (b *Broker) Agents() *nats.Conn { return b.connections[agentsConnection] }

// Stream returns the connection in the account FLEET that may use JetStream.
func (b *Broker) Stream() *nats.Conn { return b.connections[streamConnection] }

// API returns the connection in the account FLEET that serves operators.
func (b *Broker) API() *nats.Conn { return b.connections[apiConnection] }

// System returns the connection in the account SYS, or nil when an external
// cluster has lent none.
func (b *Broker) System() *nats.Conn { return b.connections[systemConnection] }

// AgentsAccount returns the public key of the account AGENTS, which the system
// account's notices name.
func (b *Broker) AgentsAccount() string { return b.account }

// Signer returns the key that orders are signed with. Its public part is given
// to every agent.
func (b *Broker) Signer() nkeys.KeyPair { return b.keys.signer }

// URL returns where clients connect to.
func (b *Broker) URL() string { return b.url }

// WebsocketURL returns where clients connect to through HTTP proxies; empty
// without a websocket listener of ours.
func (b *Broker) WebsocketURL() string {
	if b.server == nil || !b.websocket {
		return "" // the server would make one up
	}
	return b.server.WebsocketURL()
}

// Refusals returns how often the embedded server has refused what a client had
// no right to, by kind, since the start. It is empty with an external cluster.
func (b *Broker) Refusals() map[string]uint64 {
	return b.refusals.total()
}

// healthTimeout bounds the questions of Healthy.
const healthTimeout = 2 * time.Second

// Healthy returns why the bus cannot do its work now, or nil. The stream takes
// no more when the disk is full, and this is where one sees it.
func (b *Broker) Healthy() error {
	if b.server != nil {
		if err := b.storing(); err != nil {
			return err
		}
	}
	if err := b.connected(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	if _, err := b.js.Stream(ctx, bus.StreamName); err != nil {
		return fmt.Errorf("stream %s: %w", bus.StreamName, err)
	}
	return nil
}

// connected returns why a connection is of no use now, or nil.
func (b *Broker) connected() error {
	for name, connection := range b.connections {
		if !connection.IsConnected() {
			return fmt.Errorf("bus connection %q is %s", name, connection.Status())
		}
		if err := checkServer(connection.ConnectedServerVersion()); err != nil && b.server == nil {
			return err
		}
	}
	return nil
}

// Close ends the connections and the embedded server, and returns when its
// files are closed.
func (b *Broker) Close() {
	if b.stop != nil {
		b.stop()
	}
	b.background.Wait()
	for _, connection := range b.connections {
		connection.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	b.refusals.stop()
}

// connectOptions are those of all the coordinator's connections.
func (b *Broker) connectOptions(name string) []nats.Option {
	logger := b.logger.With("connection", name)
	options := bus.ConnectOptions{
		Name: "coordinator." + name, Reconnect: bus.UrgentDelay,
		OnConnect: func() {
			logger.Debug("connected")
			if name == systemConnection {
				b.lookAround()
			}
		},
		OnDisconnect: func(err error) {
			if err != nil {
				logger.Warn("disconnected", "err", err)
			}
		},
		OnError: func(err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) {
				logger.Warn("bus error", "err", err)
			}
		},
	}
	return append(options.Options(), nats.CustomInboxPrefix(bus.PrivateInbox(name)))
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Settings of the embedded server.
const (
	maxPayload   = 1 << 20
	maxPending   = 4 << 20 // a client that reads slower than this is cut off
	authTimeout  = 15.0    // seconds; thousands of agents may come back at once
	acceptWithin = 10 * time.Second
)

// startEmbedded starts the server and connects to it in-process.
func (b *Broker) startEmbedded(ctx context.Context, options Options) error {
	settings, err := b.listeners(options)
	if err != nil {
		return err
	}
	if b.keys, err = openKeys(options.Dir); err != nil {
		return err
	}
	if b.accounts, err = newAccounts(b.keys, b.revoked); err != nil {
		return err
	}
	if err := b.configure(settings, options); err != nil {
		return err
	}
	if err := b.runServer(ctx, settings); err != nil {
		return err
	}
	b.url = b.server.ClientURL()
	b.account, b.agents = public(b.keys.accounts[agentsAccount]), b.keys.issuer(agentRole)
	b.operators = b.keys.operators()
	for _, name := range []string{agentsConnection, streamConnection, apiConnection, systemConnection} {
		if b.connections[name], err = b.connectInProcess(name); err != nil {
			delete(b.connections, name)
			return fmt.Errorf("connect %s to the embedded bus: %w", name, err)
		}
	}
	return b.watch()
}

// listeners sets where the server listens.
func (b *Broker) listeners(options Options) (*server.Options, error) {
	settings := &server.Options{TLSConfig: options.TLS, TLS: options.TLS != nil}
	var err error
	settings.Host, settings.Port, err = listenAddress("bus.listen", options.Listen, options.TLS != nil)
	if err != nil || options.Websocket == "" {
		return settings, err
	}
	b.websocket = true
	settings.Websocket.TLSConfig, settings.Websocket.NoTLS = options.TLS, options.TLS == nil
	settings.Websocket.HandshakeTimeout = time.Duration(authTimeout * float64(time.Second))
	settings.Websocket.Host, settings.Websocket.Port, err = listenAddress("bus.websocket", options.Websocket, options.TLS != nil)
	return settings, err
}

// listenAddress checks that an address is free, and on loopback unless the
// listener has TLS. The server would only log that it is not.
func listenAddress(field, listen string, secured bool) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, job.Invalid(field, "%q is not an address", listen).WithHint("give host:port, for example 127.0.0.1:4222")
	}
	if !secured && !bus.IsLoopback(host) {
		return "", 0, job.Invalid(field, "%q is not on loopback", listen).
			WithHint("without a certificate the bus listens on this machine only; use 127.0.0.1:%s", service)
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", 0, job.Invalid(field, "%q is not a port", service).WithHint("a number from 1 to 65535, or 0 for any free port")
	}
	if number == 0 {
		return host, server.RANDOM_PORT, nil
	}
	probe, err := net.Listen("tcp", listen)
	if err != nil {
		return "", 0, listenFailure(field, listen, err)
	}
	return host, int(number), probe.Close()
}

func listenFailure(field, listen string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return job.Fail(job.Conflict, "bus: %s is already in use", listen).
			WithHint("another coordinator or NATS server may run there; stop it, or choose another address for %s", field)
	}
	return job.Fail(job.Unavailable, "bus: listen on %s: %s", listen, err).WithHint("choose another address for %s", field)
}

// configure sets all but the listeners.
func (b *Broker) configure(settings *server.Options, options Options) error {
	token, err := b.accounts.operator()
	if err != nil {
		return err
	}
	operator, err := jwt.DecodeOperatorClaims(token)
	if err != nil {
		return fmt.Errorf("read bus operator: %w", err)
	}
	sentinel, err := b.keys.issuer(enrolRole).mint(enrolRole)
	if err != nil {
		return err
	}
	settings.DefaultSentinel, b.enroller = sentinel.token, sentinel.public // its template says that no key is needed
	settings.ServerName = "borgfleet"
	settings.NoSigs = true
	settings.TrustedOperators = []*jwt.OperatorClaims{operator}
	settings.AccountResolver = b.accounts.resolver
	settings.SystemAccount = public(b.keys.accounts[systemAccount])
	settings.JetStream = true
	settings.StoreDir = b.storeDir()
	settings.SyncAlways = true
	settings.JetStreamMaxStore = maxStore(options.StreamMaxBytes)
	settings.MaxPayload = maxPayload
	settings.MaxPending = maxPending
	settings.PingInterval = bus.PingInterval
	settings.MaxPingsOut = bus.PingsOut
	settings.AuthTimeout = authTimeout
	settings.TLSTimeout = authTimeout
	return nil
}

// storeDir is where the embedded server keeps the stream.
func (b *Broker) storeDir() string { return filepath.Join(b.dir, "store") }

// maxStore is what the server may store, which is more than the stream may hold,
// so that it is always the stream that refuses.
func maxStore(streamBytes int64) int64 { return 2 * streamBytes }

// runServer returns when the server accepts clients, or says why it does not.
// Opening a large stream takes a while, and is not cut short by ctx: the server
// must not be shut down before it has started.
func (b *Broker) runServer(ctx context.Context, settings *server.Options) error {
	instance, err := server.NewServer(settings)
	if err != nil {
		return fmt.Errorf("configure embedded NATS server: %w", err)
	}
	log := &serverLog{logger: b.logger.Named("nats"), refusals: b.refusals, fatal: make(chan string, 1)}
	instance.SetLoggerV2(log, false, false, false)
	b.server = instance
	instance.Start()
	if ctx.Err() != nil {
		return fmt.Errorf("start embedded NATS server: %w", ctx.Err())
	}
	select {
	case reason := <-log.fatal:
		return fmt.Errorf("start embedded NATS server: %s", reason)
	default:
	}
	if !instance.ReadyForConnections(acceptWithin) {
		return fmt.Errorf("start embedded NATS server: not ready for clients after %s", acceptWithin)
	}
	return nil
}

// connectInProcess connects with credentials that live as long as this process.
func (b *Broker) connectInProcess(name string) (*nats.Conn, error) {
	client, err := b.keys.issuer("coordinator-" + name).mint("coordinator." + name)
	if err != nil {
		return nil, err
	}
	options := append(b.connectOptions(name), nats.InProcessServer(b.server),
		nats.UserJWTAndSeed(client.token, string(client.seed)), nats.RetryOnFailedConnect(false))
	return nats.Connect("", options...)
}

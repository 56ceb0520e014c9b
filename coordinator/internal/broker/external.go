package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// External is a NATS cluster in operator mode that somebody else runs, with
// accounts laid out as the package's comment says. Files are paths.
type External struct {
	URLs                  []string
	CredentialsFile       string              // a user of FLEET that may use JetStream
	APICredentialsFile    string              // a user of FLEET without any right on JetStream; empty: CredentialsFile
	AgentsCredentialsFile string              // a user of AGENTS
	SystemCredentialsFile string              // a user of the system account; empty: presence by hellos only
	SigningKeyFile        string              // scoped signing key of AGENTS whose role is that of agents
	OperatorKeys          map[bus.Role]string // public scoped signing keys of OPERATORS; an operator whose role is not among them is refused
	Replicas              int                 // of the stream; 0 means 1
	TLS                   *tls.Config
}

// externalTimeout bounds the first connection to an external cluster.
const externalTimeout = 30 * time.Second

// connectExternal connects to an external cluster and takes over the signing
// key of agents.
func (b *Broker) connectExternal(ctx context.Context, options Options) (err error) {
	external := options.External
	if b.account, err = accountOf(external.AgentsCredentialsFile); err != nil {
		return err
	}
	if b.keys, err = keysOf(options.Dir, b.account); err != nil {
		return err
	}
	if b.keys == nil {
		if b.keys, err = openSigner(options.Dir); err != nil {
			return err
		}
	}
	signing, err := readKey(external.SigningKeyFile, nkeys.PrefixByteAccount)
	if err != nil {
		return fmt.Errorf("read signing key of agents: %w", err)
	}
	b.agents = issuer{account: b.account, key: signing, lifetime: externalLifetime}
	b.operators = map[string]bus.Role{}
	for role, key := range external.OperatorKeys {
		b.operators[key] = role
	}
	files := map[string]string{
		agentsConnection: external.AgentsCredentialsFile,
		streamConnection: external.CredentialsFile,
		apiConnection:    external.APICredentialsFile,
		systemConnection: external.SystemCredentialsFile,
	}
	if files[apiConnection] == "" {
		files[apiConnection] = external.CredentialsFile
		b.logger.Warn("operators are served with credentials that may use JetStream; a user without that right is safer")
	}
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	for name, file := range files {
		if file == "" {
			continue
		}
		if err := b.dial(ctx, name, file, external); err != nil {
			return err
		}
	}
	b.url = strings.Join(external.URLs, ",")
	return b.watch()
}

// dial connects, and waits for a moment until the connection stands. A cluster
// that is away may come back; one that refuses us will not change its mind.
func (b *Broker) dial(ctx context.Context, name, file string, external *External) error {
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	refused := make(chan error, 1)
	options := append(b.connectOptions(name), nats.UserCredentials(file),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			select {
			case refused <- err:
			default: // one is enough
			}
		}))
	if external.TLS != nil {
		options = append(options, nats.Secure(external.TLS))
	}
	urls := strings.Join(external.URLs, ",")
	connection, err := nats.Connect(urls, options...)
	if err != nil {
		return fmt.Errorf("connect %s to %s: %w", name, urls, err)
	}
	b.connections[name] = connection
	connected := connection.StatusChanged(nats.CONNECTED)
	defer connection.RemoveStatusListener(connected)
	if connection.IsConnected() {
		return checkServer(connection.ConnectedServerVersion())
	}
	select {
	case <-connected:
		return checkServer(connection.ConnectedServerVersion())
	case err = <-refused:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if isAway(err) {
		b.logger.Error("the bus is away; waiting for it", "urls", urls, "connection", name, "err", err)
		return nil
	}
	return job.Fail(job.Unavailable, "no connection (%s) to the bus at %s: %v", name, urls, err).
		WithHint("check bus.external.urls and the credentials files; nats-server's own log tells more")
}

// isAway reports whether there was nobody to talk to.
func isAway(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded)
}

// checkServer refuses servers with known holes in the checks that we rely on.
func checkServer(version string) error {
	var number [3]int
	core, _, _ := strings.Cut(version, "-")
	for i, part := range strings.SplitN(core, ".", len(number)) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return job.Fail(job.Unavailable, "the bus says it has version %q, which is not understood", version)
		}
		number[i] = n
	}
	major, minor, patch := number[0], number[1], number[2]
	switch {
	case major > 2, major == 2 && minor > 14, major == 2 && minor == 14 && patch >= 3:
		return nil
	case major == 2 && minor == 12 && patch >= 12: // has the same repairs
		return nil
	}
	return job.Fail(job.Unavailable, "nats-server %s is too old", version).
		WithHint("update the cluster to 2.14.3 or newer: older ones let clients do more than their permissions say")
}

// accountOf returns the public key of the account that a credentials file
// belongs to.
func accountOf(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read credentials: %w", err)
	}
	token, err := jwt.ParseDecoratedJWT(text)
	if err != nil {
		return "", fmt.Errorf("credentials %s: %w", file, err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return "", fmt.Errorf("credentials %s: %w", file, err)
	}
	if claims.IssuerAccount != "" {
		return claims.IssuerAccount, nil
	}
	return claims.Issuer, nil
}

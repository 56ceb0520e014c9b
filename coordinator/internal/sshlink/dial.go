package sshlink

import (
	"context"
	"errors"
	"net"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ParseAddress reads user@host[:port], and returns the user and what to dial.
// The port is 22 unless one is given.
func ParseAddress(text string) (user, hostport string, err error) {
	a, err := fleet.ParseSSHAddress("address", text)
	if err != nil {
		return "", "", err
	}
	return a.User, a.HostPort(), nil
}

// dial connects and logs in, to each server on the way and then to the host.
func dial(ctx context.Context, c Config, o Options) (*link, *fault) {
	t := travel{signer: c.Signer, options: o}
	fault := t.through(ctx, c.Jump)
	if fault == nil {
		fault = t.enter(ctx, fleet.SSHHop{Address: c.Address, HostKeys: c.HostKeys}, placeOf(c))
	}
	if fault != nil {
		closeAll(t.clients)
		return nil, fault
	}
	return newLink(c, o, t.clients), nil
}

// travel goes from server to server.
type travel struct {
	signer  ssh.Signer
	options Options
	clients []*ssh.Client // each goes through the one before
}

// through enters the servers on the way.
func (t *travel) through(ctx context.Context, jump []fleet.SSHHop) *fault {
	for _, hop := range jump {
		if fault := t.enter(ctx, hop, place{name: "the jump server", address: hop.Address}); fault != nil {
			return fault
		}
	}
	return nil
}

// enter logs in to the next server.
func (t *travel) enter(ctx context.Context, hop fleet.SSHHop, p place) *fault {
	ctx, stop := context.WithTimeout(ctx, t.options.Patience)
	defer stop()
	user, hostport, err := ParseAddress(hop.Address)
	if err != nil {
		return final(job.AsFailure(err))
	}
	pins, failure := parsePins(p, hop.HostKeys)
	if failure != nil {
		return final(failure)
	}
	conn, fault := t.reach(ctx, hostport, p)
	if fault != nil {
		return fault
	}
	config := &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(t.signer)},
		HostKeyCallback: pins.check, HostKeyAlgorithms: pins.algorithms(),
	}
	client, err := t.shake(ctx, conn, hostport, config)
	if err != nil {
		return t.classify(err, pins, user, p)
	}
	t.clients = append(t.clients, client)
	return nil
}

// reach connects to the next server, from the last one.
func (t *travel) reach(ctx context.Context, hostport string, p place) (net.Conn, *fault) {
	if len(t.clients) == 0 {
		conn, err := t.options.Dial(ctx, "tcp", hostport)
		if err != nil {
			return nil, transient(unreachable(p, "%s", reason(err)))
		}
		return conn, nil
	}
	conn, err := t.clients[len(t.clients)-1].DialContext(ctx, "tcp", hostport)
	if refusal, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		if refusal.Reason == ssh.Prohibited {
			return nil, final(job.Fail(job.PermissionDenied, "the jump server before %s does not let us through: %s", p, cleaned(refusal.Message)).
				WithHint("allow it there: AllowTcpForwarding yes (or local) in sshd_config, and no \"restrict\" at the key"))
		}
		return nil, transient(unreachable(p, "from the jump server: %s", cleaned(refusal.Message)))
	}
	if err != nil {
		return nil, transient(unreachable(p, "from the jump server: %s", reason(err)))
	}
	return conn, nil
}

// classify says what a handshake that failed means. How far it came says more
// than its error.
func (t *travel) classify(err error, pins *pins, user string, p place) *fault {
	negotiation, negotiated := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case pins.shown != nil && !pins.matched:
		return final(pins.changed(p, fingerprintOf(pins.shown)))
	case negotiated && negotiation.What == "host key":
		return final(pins.changed(p, "none of their type"))
	case !pins.matched:
		return transient(unreachable(p, "%s", reason(err)))
	case network || isClosed(err):
		return transient(unreachable(p, "while we logged in: %s", reason(err)))
	default:
		return final(refusedKey(p, user, t.signer.PublicKey()))
	}
}

// shake makes an SSH connection of a network connection, which it closes when
// that fails. When ctx ends first, the whole way is given up: a connection
// through a server that no longer answers cannot be closed by itself.
func (t *travel) shake(ctx context.Context, conn net.Conn, hostport string, config *ssh.ClientConfig) (*ssh.Client, error) {
	config.ClientVersion = "SSH-2.0-borgfleet"
	stop := context.AfterFunc(ctx, func() {
		closeAll(t.clients)
		conn.Close()
	})
	c, channels, requests, err := ssh.NewClientConn(conn, hostport, config)
	if !stop() && err == nil {
		c.Close()
		err = ctx.Err()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

package sshlink

import (
	"context"
	"fmt"
	"net"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Forward listens on a free port of the host's loopback, and hands each
// connection to it to serve, in a goroutine of its own; serve closes it. That
// ends with ctx, or with the connection to the host: after a new one it must be
// asked for again, and gets another port.
func (c *Client) Forward(ctx context.Context, serve func(net.Conn)) (port int, err error) {
	c.mu.Lock()
	l, state := c.link, c.state
	c.mu.Unlock()
	if l == nil {
		return 0, c.away(state)
	}
	listener, err := l.listen(ctx)
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		defer stop()
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(connection)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// listen asks the host to listen for us, unless ctx ends first.
func (l *link) listen(ctx context.Context) (net.Listener, error) {
	type answer struct {
		listener net.Listener
		err      error
	}
	answered := make(chan answer, 1)
	go func() {
		listener, err := l.client.ListenTCP(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		answered <- answer{listener, err}
	}()
	select {
	case a := <-answered:
		if a.err == nil {
			return a.listener, nil
		}
		if gone := l.gone(); gone != nil {
			return nil, unreachable(l.place, "the connection was lost: %s", reason(gone))
		}
		return nil, job.Fail(job.PermissionDenied, "%s does not listen for the coordinator, so it has no tunnel to the depot", l.place).
			WithHint("allow it there: AllowTcpForwarding yes (or remote) in sshd_config, and no \"restrict\" at the key")
	case <-ctx.Done():
		go func() {
			if a := <-answered; a.err == nil {
				a.listener.Close()
			}
		}()
		return nil, fmt.Errorf("asking %s for a tunnel: %w", l.place, ctx.Err())
	}
}

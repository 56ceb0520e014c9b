package sshlink

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// link is one connection to a host that has let us in.
type link struct {
	place   place
	client  *ssh.Client
	way     []*ssh.Client // connections to the servers on the way
	places  *places
	options Options
	sudo    bool

	unclosed atomic.Int32 // sessions that we have closed, and the server has not

	lost  chan struct{} // closed when the connection is over
	cause error         // why; set before lost is closed
	why   chan error    // why we have ended it, if it was us
}

// errLeft says that nobody wants the connection any more.
var errLeft = errors.New("the coordinator has ended it")

// newLink takes over a connection and those that it goes through.
func newLink(c Config, o Options, clients []*ssh.Client) *link {
	last := len(clients) - 1
	l := &link{
		place: placeOf(c), client: clients[last], way: clients[:last],
		places: newPlaces(), options: o, sudo: c.Sudo,
		lost: make(chan struct{}), why: make(chan error, 1),
	}
	go func() {
		l.cause = l.client.Wait()
		select {
		case l.cause = <-l.why:
		default:
		}
		close(l.lost)
	}()
	return l
}

// gone returns why the connection is over, or nil if the host still answers.
func (l *link) gone() error {
	ctx, stop := context.WithTimeout(context.Background(), l.options.Patience)
	defer stop()
	err := l.ask(ctx)
	if err == nil {
		return nil
	}
	select { // it is known in a moment
	case <-l.lost:
		return l.cause
	case <-ctx.Done():
		return err
	}
}

// close ends the connection at once, and says why; the first reason counts.
func (l *link) close(why error) {
	select {
	case l.why <- why:
	default:
	}
	closeAll(append(slices.Clone(l.way), l.client))
}

// closeAll ends connections of which each goes through the one before.
func closeAll(clients []*ssh.Client) {
	for _, client := range clients { // the first one ends the others, and waits for none
		client.Close()
	}
}

// ask returns when the host has answered. All that it has sent before has
// arrived then.
func (l *link) ask(ctx context.Context) error {
	answered := make(chan error, 1)
	go func() {
		_, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

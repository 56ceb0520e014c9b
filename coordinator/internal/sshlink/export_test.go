package sshlink

import (
	"context"
	"io"

	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/shared/job"
)

// For tests: what a login shell is given, what it reads, what lets a script's
// output through, and how long Run waits between two tries.
const Command = command

var (
	Wrapped    = wrapped
	PauseAfter = pauseAfter
)

type Gate = gate

func NewGate(marker string, to io.Writer) *Gate { return newGate(marker, to) }

func (g *gate) Shut() (bool, error) { return g.shut() }

func (g *gate) Noise() string { return g.noise() }

// Check tries once whether the host lets us in, runs scripts, and lets us become
// root where that is wanted. It returns why not, or nil.
func Check(ctx context.Context, c Config) *job.Failure {
	client := New(c, Options{})
	l, fault := client.connect(ctx)
	if fault != nil {
		return fault.Failure
	}
	l.close(errLeft)
	return nil
}

// MaxUnclosed is how many sessions a server may leave open.
const MaxUnclosed = maxUnclosed

// LeaveOpen ends a session of which the server does not notice that, until it is
// called what is returned. It needs a connection.
func LeaveOpen(c *Client) (noticed func()) {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	x := &execution{link: l, channel: deaf{}, over: make(chan struct{})}
	go l.leave(x)
	return func() { close(x.over) }
}

// deaf is a session that takes no notice.
type deaf struct{ ssh.Channel }

func (deaf) SendRequest(string, bool, []byte) (bool, error) { return false, nil }
func (deaf) Close() error                                   { return nil }

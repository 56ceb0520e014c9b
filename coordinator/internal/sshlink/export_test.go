package sshlink

import (
	"context"
	"io"

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

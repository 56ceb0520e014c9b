package sshlink

import "io"

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

package sshlink

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

// mostNoise is how much a login may print on one output before its script
// begins.
const mostNoise = 1 << 20

var errNoise = errors.New("a login prints and prints, and no script begins")

// gate stands before a writer. It drops what a login prints until the script's
// marker has come, and lets nothing through once it is closed.
type gate struct {
	marker []byte
	opened chan struct{} // closed when the marker has come

	mu     sync.Mutex
	to     io.Writer
	open   bool
	closed bool
	err    error     // of the writer
	seen   int       // bytes before the marker
	tail   []byte    // end of what has been seen, which the marker may begin in
	said   []byte    // beginning of what has been seen, for people
	at     time.Time // when something was last written
}

func newGate(marker string, to io.Writer) *gate {
	if to == nil {
		to = io.Discard
	}
	return &gate{marker: []byte(marker + "\n"), opened: make(chan struct{}), to: to, at: time.Now()}
}

// Write implements io.Writer.
func (g *gate) Write(data []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, io.ErrClosedPipe
	}
	rest := data
	if !g.open {
		rest = g.drop(data)
	}
	if len(rest) > 0 {
		if _, g.err = g.to.Write(rest); g.err != nil {
			return 0, g.err
		}
	}
	g.at = time.Now()
	if !g.open && g.seen > mostNoise {
		return 0, errNoise
	}
	return len(data), nil
}

// drop returns what comes after the marker.
func (g *gate) drop(data []byte) []byte {
	g.said = append(g.said, data[:min(len(data), 4*mostSaid-len(g.said))]...)
	g.seen += len(data)
	g.tail = append(g.tail, data...)
	if _, after, found := bytes.Cut(g.tail, g.marker); found {
		g.open, g.tail = true, nil
		close(g.opened)
		return after
	}
	g.tail = append([]byte(nil), g.tail[max(0, len(g.tail)-len(g.marker)+1):]...)
	return nil
}

// shut waits until nothing is being written any more, and lets nothing through
// from then on. It reports whether the marker had come, and the writer's error.
func (g *gate) shut() (open bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	return g.open, g.err
}

// noise is the beginning of what was printed before the marker.
func (g *gate) noise() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return string(g.said)
}

// quiet reports whether nothing has been written since, nor is now.
func (g *gate) quiet(since time.Time) bool {
	if !g.mu.TryLock() {
		return false
	}
	defer g.mu.Unlock()
	return !g.at.After(since)
}

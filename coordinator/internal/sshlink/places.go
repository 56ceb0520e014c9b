package sshlink

import (
	"context"
	"sync"
)

// Most scripts that run at a time over one connection. An sshd allows ten unless
// it is told otherwise, and notes that one is over a moment after we do.
const (
	mostScripts = 8
	mostLong    = 6
)

// places bounds the scripts that run at a time.
type places struct {
	mu    sync.Mutex
	limit int
	taken int
	long  int           // of those taken
	freed chan struct{} // closed and replaced when one becomes free
}

func newPlaces() *places { return &places{limit: mostScripts, freed: make(chan struct{})} }

// take waits for a place. What is long gets none of the last ones, so that
// short scripts go on, and does not wait: it is told no.
func (p *places) take(ctx context.Context, long bool) (free func(), ok bool, err error) {
	for {
		p.mu.Lock()
		if p.taken < p.limit && (!long || p.long < min(mostLong, p.limit-1)) {
			p.taken++
			if long {
				p.long++
			}
			p.mu.Unlock()
			return func() { p.free(long) }, true, nil
		}
		freed := p.freed
		p.mu.Unlock()
		if long {
			return nil, false, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

func (p *places) free(long bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if long {
		p.long--
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// set says how many there are.
func (p *places) set(limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
}

package depot

import (
	"context"
	"sync"
)

// How much may be open at a time.
const (
	maxConnections = 64
	maxStrangers   = 16 // that have not proved yet who they are; others wait
	maxPerHost     = 8
)

// places bounds connections, so that nobody keeps the others out.
type places struct {
	strangers chan struct{}
	mu        sync.Mutex
	total     int
	hosts     map[string]int
}

func newPlaces() *places {
	return &places{strangers: make(chan struct{}, maxStrangers), hosts: map[string]int{}}
}

// enter takes a place for a connection; false: all are taken.
func (p *places) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total == maxConnections {
		return false
	}
	p.total++
	return true
}

func (p *places) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
}

// greet waits for a place among those who are not known yet.
func (p *places) greet(ctx context.Context) bool {
	select {
	case p.strangers <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *places) greeted() { <-p.strangers }

// host takes one of a host's places.
func (p *places) host(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts[name] == maxPerHost {
		return false
	}
	p.hosts[name]++
	return true
}

func (p *places) left(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts[name]--; p.hosts[name] == 0 {
		delete(p.hosts, name)
	}
}

package worker

import (
	"context"
	"slices"
	"sync"
)

// slots bounds how many attempts run at once; who waits longest goes first.
type slots struct {
	mu    sync.Mutex
	free  int // below zero when more go on after a restart than there are slots
	queue []chan struct{}
}

func newSlots(n int) *slots { return &slots{free: n} }

// take waits for a slot. It returns false, without one, when ctx ends or
// giveUp is closed before.
func (s *slots) take(ctx context.Context, giveUp <-chan struct{}) bool {
	select {
	case <-giveUp:
		return false
	default:
	}
	s.mu.Lock()
	if s.free > 0 && len(s.queue) == 0 {
		s.free--
		s.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	s.queue = append(s.queue, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	case <-giveUp:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.queue, turn); at >= 0 {
		s.queue = slices.Delete(s.queue, at, at+1)
		return false
	}
	s.pass() // our turn came at the same moment: the next one may have it
	return false
}

// force takes a slot even when there is none: for what runs already.
func (s *slots) force() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free--
}

// release gives a slot back.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass()
}

// pass gives a slot back to the pool and then to whoever waits.
func (s *slots) pass() {
	s.free++
	for s.free > 0 && len(s.queue) > 0 {
		s.free--
		close(s.queue[0])
		s.queue = s.queue[1:]
	}
}

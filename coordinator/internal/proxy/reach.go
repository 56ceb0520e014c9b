package proxy

import (
	"context"
	"sync"
)

// reach is whether a host can be reached now. It is safe for concurrent use.
type reach struct {
	mu     sync.Mutex
	online bool
	moved  chan struct{} // closed, and made anew, when it changes
}

func newReach() *reach { return &reach{moved: make(chan struct{})} }

func (r *reach) set(online bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.online == online {
		return
	}
	r.online = online
	close(r.moved)
	r.moved = make(chan struct{})
}

// look returns whether it is online, and what is closed when that changes.
func (r *reach) look() (online bool, moved <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.online, r.moved
}

func (r *reach) isOnline() bool {
	online, _ := r.look()
	return online
}

// await waits until it is online; false: ctx has ended.
func (r *reach) await(ctx context.Context) bool {
	for {
		online, moved := r.look()
		if online {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-moved:
		}
	}
}

// whileOnline returns a context that ends when the host goes away, too.
func (r *reach) whileOnline(ctx context.Context) (context.Context, context.CancelFunc) {
	online, moved := r.look()
	ctx, cancel := context.WithCancel(ctx)
	if !online {
		cancel()
		return ctx, cancel
	}
	go func() {
		select {
		case <-moved:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

package depot

import (
	"context"
	"errors"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/borg"
)

// What a client is told when it may not go on. Hosts know the words of shared/borg.
var (
	errBusy    = errors.New(borg.DepotBusy + "; try again later")
	errChanged = errors.New("this host may use this repository no longer as it could; try again")
	errClosed  = errors.New(borg.DepotClosed)
	errLeft    = errors.New("the connection is over")
)

// visit is what one host does with one repository: one borg serve.
type visit struct {
	grant fleet.DepotGrant
	over  context.Context // done when it has to end; its cause says why
	end   context.CancelCauseFunc
	done  chan struct{} // closed when its borg is gone
}

// table holds all visits.
type table struct {
	mu     sync.Mutex
	visits map[*visit]struct{}
	held   map[string]int // repositories that take no visits, and for how many reasons
	closed bool
}

func newTable() *table {
	return &table{visits: map[*visit]struct{}{}, held: map[string]int{}}
}

// add enters a visit, before anybody is asked whether it may be: who evicts
// after that finds it.
func (t *table) add(ctx context.Context, grant fleet.DepotGrant) (*visit, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, errClosed
	case t.held[grant.Repository] > 0:
		return nil, errBusy
	}
	v := &visit{grant: grant, done: make(chan struct{})}
	v.over, v.end = context.WithCancelCause(ctx)
	t.visits[v] = struct{}{}
	return v, nil
}

// remove forgets a visit, whose borg is gone or never began. It may be called again.
func (t *table) remove(v *visit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.visits[v]; there {
		delete(t.visits, v)
		v.end(errLeft)
		close(v.done)
	}
}

// evict ends the visits that which names, and waits for them.
func (t *table) evict(which func(*visit) bool, reason error) {
	t.mu.Lock()
	var ended []*visit
	for v := range t.visits {
		if which(v) {
			ended = append(ended, v)
		}
	}
	t.mu.Unlock()
	for _, v := range ended {
		v.end(reason)
	}
	for _, v := range ended {
		<-v.done
	}
}

// hold ends a repository's visits, and lets none begin until release is called.
func (t *table) hold(repository string) (release func()) {
	t.mu.Lock()
	t.held[repository]++
	t.mu.Unlock()
	t.evict(func(v *visit) bool { return v.grant.Repository == repository }, errBusy)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.held[repository]--; t.held[repository] == 0 {
			delete(t.held, repository)
		}
	}
}

// close ends everything, for good.
func (t *table) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.evict(func(*visit) bool { return true }, errClosed)
}

package dispatch

import (
	"slices"
	"sync"

	"github.com/borgfleet/borgfleet/shared/job"
)

// index holds the open jobs in memory. Entries are immutable once set. It is
// safe for concurrent use; only the holder of the service's write lock sets.
type index struct {
	mu    sync.RWMutex
	open  map[job.ID]*entry
	queue []*entry // the queued ones, in dispatching order
	held  map[job.ID]*entry
	hosts map[string]int // open jobs of each host
}

func newIndex() *index {
	return &index{open: map[job.ID]*entry{}, held: map[job.ID]*entry{}, hosts: map[string]int{}}
}

// get returns an open job, or nil.
func (x *index) get(id job.ID) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.open[id]
}

// set puts an entry in the place of the one before it; a terminal one leaves.
func (x *index) set(e *entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(e.job.ID)
	if e.job.State.Terminal() {
		return
	}
	x.open[e.job.ID] = e
	x.hosts[e.job.Host]++
	if e.held() {
		x.held[e.job.ID] = e
		return
	}
	at, _ := slices.BinarySearchFunc(x.queue, e, before)
	x.queue = slices.Insert(x.queue, at, e)
}

// drop takes a job out.
func (x *index) drop(id job.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(id)
}

func (x *index) remove(id job.ID) {
	old := x.open[id]
	if old == nil {
		return
	}
	delete(x.open, id)
	delete(x.held, id)
	if x.hosts[old.job.Host]--; x.hosts[old.job.Host] == 0 {
		delete(x.hosts, old.job.Host)
	}
	if !old.held() {
		if at, found := slices.BinarySearchFunc(x.queue, old, before); found {
			x.queue = slices.Delete(x.queue, at, at+1)
		}
	}
}

// snapshot returns the queue in dispatching order, and the jobs that hold
// their lease, oldest first.
func (x *index) snapshot() (queue, held []*entry) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.held {
		held = append(held, e)
	}
	slices.SortFunc(held, func(a, b *entry) int { return before(a, b) })
	return slices.Clone(x.queue), held
}

// of returns the jobs of a host that are sent or running.
func (x *index) of(host string) (held []*entry) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.held {
		if e.job.Host == host {
			held = append(held, e)
		}
	}
	return held
}

// openOf returns the open jobs of a host.
func (x *index) openOf(host string) (open []*entry) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.hosts[host] == 0 {
		return nil
	}
	for _, e := range x.open {
		if e.job.Host == host {
			open = append(open, e)
		}
	}
	slices.SortFunc(open, before)
	return open
}

// mounts returns the open jobs that mount a repository, or will, oldest first.
func (x *index) mounts(repository string) (mounts []*entry) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.open {
		if _, ok := e.job.Spec.(job.MountSpec); ok && e.job.Repository == repository {
			mounts = append(mounts, e)
		}
	}
	slices.SortFunc(mounts, before)
	return mounts
}

// previewedBy returns the queued job that waits for a dry run, nil if none does.
func (x *index) previewedBy(id job.ID) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.queue {
		if e.preview == id {
			return e
		}
	}
	return nil
}

// vettedBy returns the queued job that waits for a look at its repository, nil if
// none does.
func (x *index) vettedBy(id job.ID) *entry {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.queue {
		if e.vet == id {
			return e
		}
	}
	return nil
}

// busy reports whether a job keeps all hosts from using a repository.
func (x *index) busy(repository string) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.open {
		if e.job.Repository == repository && e.vetting() {
			return true
		}
	}
	return false
}

// hostNames returns the hosts that have open jobs.
func (x *index) hostNames() map[string]bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	names := map[string]bool{}
	for name := range x.hosts {
		names[name] = true
	}
	return names
}

// sizes returns how many jobs wait and how many are sent or running.
func (x *index) sizes() (queued, held int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.queue), len(x.held)
}

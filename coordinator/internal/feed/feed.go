// Package feed hands changes from the one owner of state to everybody who
// watches: the event stream of the API, the pages, the bus, metrics.
//
// A slow watcher never blocks the publisher and never grows without bound: its
// queue keeps only the newest update for each key, and when even the keys are
// too many it is told that it has missed some, so that it reads again.
package feed

import (
	"context"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Type says what an update is about.
type Type string

// Types of updates.
const (
	JobChanged        Type = "job"        // Job is set: stored state of a job
	JobProgress       Type = "progress"   // Job.ID and Progress are set: live, not stored
	JobEvent          Type = "event"      // Event is set: a stored step, log lines included; never coalesced
	HostChanged       Type = "host"       // Host is set: read it again
	HostSeen          Type = "seen"       // Host is set: it said hello; nothing about it need have changed
	RepositoryChanged Type = "repository" // Repository is set: read it again
	PlanChanged       Type = "plan"       // Plan is set: read it, its freshness and its newest run again
	AlertChanged      Type = "alert"      // Alert is set: raised, or resolved
	Missed            Type = "missed"     // the watcher was too slow: read everything again
)

// Update is one change.
type Update struct {
	Type       Type
	Job        *job.Job
	Progress   *job.Progress
	Event      *job.Event
	Host       string // also set for job updates
	Repository string // also set for job updates
	Plan       string // also set for job updates
	Alert      *fleet.Alert
}

// key is what a newer update of the same kind replaces; "" is never replaced.
func (u Update) key() string {
	switch u.Type {
	case JobChanged, JobProgress:
		return string(u.Type) + "/" + string(u.Job.ID)
	case HostChanged, HostSeen:
		return string(u.Type) + "/" + u.Host
	case RepositoryChanged:
		return string(u.Type) + "/" + u.Repository
	case PlanChanged:
		return string(u.Type) + "/" + u.Plan
	case AlertChanged:
		return string(u.Type) + "/" + u.Alert.ID
	default:
		return ""
	}
}

// maxQueue bounds what one watcher may leave unread.
const maxQueue = 4096

// Feed is a broadcaster. The zero value is not usable; see [New].
type Feed struct {
	mu       sync.Mutex
	watchers map[*Watcher]struct{}
}

// New returns an empty feed.
func New() *Feed { return &Feed{watchers: map[*Watcher]struct{}{}} }

// Publish hands an update to every watcher. It never blocks. What update
// points to must not be changed afterwards.
func (f *Feed) Publish(update Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		w.put(update)
	}
}

// Watch starts a watcher that sees every update from now on. Close it.
func (f *Feed) Watch() *Watcher {
	w := &Watcher{feed: f, wake: make(chan struct{}, 1), index: map[string]int{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers[w] = struct{}{}
	return w
}

// Watchers returns how many watchers there are.
func (f *Feed) Watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers)
}

// Watcher is one reader's queue.
type Watcher struct {
	feed  *Feed
	wake  chan struct{}
	mu    sync.Mutex
	queue []Update
	index map[string]int // key → place in queue
}

func (w *Watcher) put(update Update) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := update.key()
	if at, ok := w.index[key]; ok && key != "" {
		w.queue[at] = update
		return
	}
	if len(w.queue) >= maxQueue {
		w.queue, w.index = []Update{{Type: Missed}}, map[string]int{}
	}
	if key != "" {
		w.index[key] = len(w.queue)
	}
	w.queue = append(w.queue, update)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next waits for updates and returns all that there are, oldest first. The
// error is ctx's.
func (w *Watcher) Next(ctx context.Context) ([]Update, error) {
	for {
		w.mu.Lock()
		batch := w.queue
		w.queue, w.index = nil, map[string]int{}
		w.mu.Unlock()
		if len(batch) > 0 {
			return batch, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.wake:
		}
	}
}

// Close ends the watcher.
func (w *Watcher) Close() {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	delete(w.feed.watchers, w)
}

package dispatch

import (
	"fmt"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// silence is how long a host that seems connected may say nothing: three
// hellos at rest.
const silence = 3 * bus.HelloIdle

// presence knows which hosts are there. Connect and disconnect notices of the
// bus give it at once; hellos confirm it, and their absence ends it. After a
// start of the coordinator nobody is there until heard of. It is safe for
// concurrent use.
type presence struct {
	now   func() time.Time
	mu    sync.Mutex
	hosts map[string]*whereabouts
}

type whereabouts struct {
	connections int
	online      bool
	ready       bool      // has said hello since it came, so that it takes orders
	since       time.Time // of online
	heard       time.Time
}

func newPresence(now func() time.Time) *presence {
	return &presence{now: now, hosts: map[string]*whereabouts{}}
}

// seed gives a host, which has not been heard of since the start, the time at
// which it was last seen.
func (p *presence) seed(host string, seen time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts[host] == nil {
		p.hosts[host] = &whereabouts{since: seen}
	}
}

// connected notes a connection. It reports whether the host came online.
func (p *presence) connected(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(host)
	w.connections++
	w.heard = p.now()
	return w.become(true, w.heard)
}

// disconnected notes the end of a connection. A host may have two for a
// moment, when the server has not yet noticed that the old one is dead.
func (p *presence) disconnected(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(host)
	w.connections = max(0, w.connections-1)
	return w.connections == 0 && w.become(false, p.now())
}

// heard notes a hello. It reports whether the host came online by it, and
// whether it may take orders only now.
func (p *presence) hello(host string) (came, nowReady bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(host)
	w.connections = max(1, w.connections)
	w.heard = p.now()
	came = w.become(true, w.heard)
	nowReady = !w.ready
	w.ready = true
	return came, nowReady
}

// away notes that nobody listens for the host.
func (p *presence) away(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(host)
	w.connections = 0
	return w.become(false, p.now())
}

// forget drops a host that was removed.
func (p *presence) forget(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.hosts, host)
}

// expire takes hosts offline that have been silent for too long. It returns
// them, and when to look again (zero: nobody is online).
func (p *presence) expire() (gone []string, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for name, w := range p.hosts {
		if !w.online {
			continue
		}
		deadline := w.heard.Add(silence)
		if !deadline.After(now) {
			w.connections = 0
			w.become(false, now)
			gone = append(gone, name)
		} else if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	return gone, next
}

// online reports whether a host is there, and since when it is or is not; the
// zero time says that it was never seen.
func (p *presence) online(host string) (bool, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.hosts[host]; w != nil {
		return w.online, w.since
	}
	return false, time.Time{}
}

// absence returns why nothing can be sent to a host, or "".
func (p *presence) absence(host string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.hosts[host]
	switch {
	case w == nil || (!w.online && w.since.IsZero()):
		return fmt.Sprintf("host %s has never connected", host)
	case !w.online:
		return offlineReason(host, w.since, p.now())
	case !w.ready:
		return fmt.Sprintf("host %s has just connected and not said hello yet", host)
	}
	return ""
}

func offlineReason(host string, since, now time.Time) string {
	return fmt.Sprintf("host %s offline since %s", host, clock(since, now))
}

func (p *presence) of(host string) *whereabouts {
	if p.hosts[host] == nil {
		p.hosts[host] = &whereabouts{}
	}
	return p.hosts[host]
}

func (w *whereabouts) become(online bool, at time.Time) bool {
	if w.online == online {
		return false
	}
	w.online, w.since = online, at
	if !online {
		w.ready = false
	}
	return true
}

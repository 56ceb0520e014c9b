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

// Presence knows which hosts are there. Connect and disconnect notices of the
// bus give it at once; hellos confirm it, and their absence ends it. After a
// start of the coordinator nobody is there until heard of. It is safe for
// concurrent use.
type Presence struct {
	now     func() time.Time
	started time.Time
	mu      sync.Mutex
	hosts   map[string]*whereabouts
	retired map[string]string // runs of agents that were replaced, by host
}

type whereabouts struct {
	online  bool
	ready   bool      // has said hello since it came, so that it takes orders
	since   time.Time // of online
	heard   time.Time
	unheard bool      // nothing since the coordinator's start; since is from before
	agent   run       // that the coordinator works with
	news    news      // not settled yet
	rival   *rival    // another one that says hello too
	rolled  time.Time // when the agent's journal was last found to have gone back
}

// NewPresence returns a Presence that knows no host. A nil now is time.Now.
func NewPresence(now func() time.Time) *Presence {
	if now == nil {
		now = time.Now
	}
	return &Presence{now: now, started: now(), hosts: map[string]*whereabouts{}, retired: map[string]string{}}
}

// seed gives a host, which has not been heard of since the start, the time at
// which it was last seen, and when its agent had been started then.
func (p *Presence) seed(host string, seen, started time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hosts[host] == nil {
		p.hosts[host] = &whereabouts{since: seen, unheard: true, agent: run{started: started}}
	}
}

// connected notes a connection. It reports whether the host came online.
func (p *Presence) connected(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(host)
	w.heard = p.now()
	return w.become(true, w.heard)
}

// disconnected notes the end of a host's last connection. Connections are not
// counted here, as notices of them may be repeated or missed. It reports
// whether the host was online.
func (p *Presence) disconnected(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(host).become(false, p.now())
}

// hello notes a hello. It reports whether the host came online by it, and
// whether it may take orders only now.
func (p *Presence) hello(host string) (came, nowReady bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.of(host)
	w.heard = p.now()
	came = w.become(true, w.heard)
	nowReady = !w.ready
	w.ready = true
	return came, nowReady
}

// away notes that nobody listens for the host.
func (p *Presence) away(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of(host).become(false, p.now())
}

// expire takes hosts offline that have been silent for too long. It returns
// them, and when to look again (zero: never).
func (p *Presence) expire() (gone []string, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if grace := p.started.Add(silence); grace.After(now) {
		next = grace
	}
	for name, w := range p.hosts {
		if !w.online {
			continue
		}
		deadline := w.heard.Add(silence)
		if !deadline.After(now) {
			w.become(false, now)
			gone = append(gone, name)
		} else if next.IsZero() || deadline.Before(next) {
			next = deadline
		}
	}
	return gone, next
}

// Online reports whether a host is there, and since when it is or is not; the
// zero time says that it was never seen.
func (p *Presence) Online(host string) (bool, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.hosts[host]; w != nil {
		return w.online, w.since
	}
	return false, time.Time{}
}

// absence returns why nothing can be sent to a host, or "".
func (p *Presence) absence(host string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.hosts[host]
	switch {
	case w == nil || (!w.online && w.since.IsZero()):
		return fmt.Sprintf("host %s has never connected", host)
	case w.unheard && p.now().Sub(p.started) < silence:
		return fmt.Sprintf("host %s has not said hello since the coordinator started", host)
	case !w.online:
		return offlineReason(host, w.since, p.now())
	case !w.ready:
		return fmt.Sprintf("host %s has just connected and not said hello yet", host)
	}
	return ""
}

// offline returns the reason for a job that runs on a host that is away, ""
// when the host is there. After a start, hosts get time to be heard of: known
// is false until then.
func (p *Presence) offline(host string) (reason string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.hosts[host]
	switch {
	case w == nil:
		return "", true
	case w.unheard && p.now().Sub(p.started) < silence:
		return "", false
	case w.online:
		return "", true
	}
	return offlineReason(host, w.since, p.now()), true
}

func offlineReason(host string, since, now time.Time) string {
	return fmt.Sprintf("host %s offline since %s", host, clock(since, now))
}

// Forget drops what is known of a host that was removed, or whose agent was
// replaced: another one of its name is another host. What the agent that ran
// there still says is not heard.
func (p *Presence) Forget(host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.hosts[host]; w != nil && w.agent.instance != "" {
		p.retired[host] = w.agent.instance
	}
	delete(p.hosts, host)
}

func (p *Presence) of(host string) *whereabouts {
	if p.hosts[host] == nil {
		p.hosts[host] = &whereabouts{}
	}
	return p.hosts[host]
}

func (w *whereabouts) become(online bool, at time.Time) bool {
	w.unheard = w.unheard && !online
	if w.online == online {
		return false
	}
	w.online, w.since = online, at
	if !online {
		w.ready = false
	}
	return true
}

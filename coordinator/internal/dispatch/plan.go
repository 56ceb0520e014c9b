package dispatch

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Limits bounds what runs and waits at once, where 0 means the default, and for
// how long, where 0 means without a limit.
type Limits struct {
	Running  int // jobs sent or running in the whole fleet, without mounts; default 50
	PerHost  int // the same on one host, also bounded by the agent's slots; default 1. Of hosts without an agent their own slots count
	PerStore int // the same in the repositories of one server, the depot, or a host's own disk; default 4
	Open     int // jobs that are not over; more are refused; default 100,000

	Expire  time.Duration // in which a host must have accepted a job, if its request does not say
	Timeout time.Duration // that an attempt may run, if its job's request does not say; whole seconds
	Offline time.Duration // that a host may be away before the jobs that it has are given up
}

func (l Limits) withDefaults() Limits {
	if l.Running <= 0 {
		l.Running = 50
	}
	if l.PerHost <= 0 {
		l.PerHost = 1
	}
	if l.PerStore <= 0 {
		l.PerStore = 4
	}
	if l.Open <= 0 {
		l.Open = 100_000
	}
	return l
}

// waiting is a queued job in the planner's eyes.
type waiting struct {
	ticket
	Encrypted bool      // its order carries a sealed passphrase
	NotBefore time.Time // retry time; zero: at once
	Pause     string    // why NotBefore lies ahead, as a sentence's beginning
	Opens     time.Time // when its window does, if it is closed now; zero: it is not
	Window    string    // that window, for a person
	Since     time.Time // when it was submitted
	Priority  int
	Expires   time.Time // when it must have begun; zero: never
	Retry     bool      // it has begun before
	Preview   job.ID    // the dry run that it waits for; empty: none
	Vet       job.ID    // the look at its repository that it waits for; empty: none
	Reserved  bool      // its repository is its own from that look on
}

// expired reports whether a job's time is over. A retry that can go now goes all
// the same: its job was begun in time.
func (w waiting) expired(obstacle string, now time.Time) bool {
	if w.Expires.IsZero() || w.Expires.After(now) {
		return false
	}
	return !w.Retry || obstacle != ""
}

// hostState is a host in the planner's eyes.
type hostState struct {
	Away    string // why nothing can be sent to it; empty when it can
	Slots   int
	Set     bool // Slots was said here, for this host, and so goes before what is said for all
	SealKey string
}

// plan is what shall happen to the queue now.
type plan struct {
	Go      []job.ID          // to be sent, in this order
	Reasons map[job.ID]string // of all others; of the expired, empty if they could go now
	Expired []job.ID          // to be ended, as their time is over
	Next    time.Time         // when to plan again if nothing happens; zero: never
}

// makePlan decides which queued jobs go. The queue is in dispatching order, in which
// jobs of one priority take turns; held are the jobs sent or running. It is a pure
// function.
func makePlan(queue []waiting, held []ticket, hosts func(string) hostState, limits Limits, now time.Time) plan {
	p := planner{
		leases: leases{}, used: map[string]int{}, servers: map[string]int{}, groups: map[string]int{},
		hosts: hosts, limits: limits.withDefaults(), now: now,
	}
	for _, t := range held {
		p.take(t)
	}
	for _, w := range queue {
		if w.Reserved {
			p.leases.reserve(w.ticket)
		}
	}
	result := plan{Reasons: map[job.ID]string{}}
	for w := range p.turns(queue) {
		for _, at := range []time.Time{w.NotBefore, w.Opens, w.Expires} {
			if at.After(now) {
				result.Next = earliest(result.Next, at)
			}
		}
		reason := p.obstacle(w)
		expired := w.expired(reason, now)
		if expired {
			result.Expired = append(result.Expired, w.ID)
		}
		if expired || reason != "" {
			result.Reasons[w.ID] = reason
			continue
		}
		p.take(w.ticket)
		result.Go = append(result.Go, w.ID)
	}
	return result
}

type planner struct {
	leases  leases
	used    map[string]int // by host
	servers map[string]int
	groups  map[string]int
	running int
	hosts   func(string) hostState
	limits  Limits
	now     time.Time
}

// take notes what a job that goes, or has gone, takes from others.
func (p *planner) take(t ticket) {
	p.leases.hold(t)
	if t.Kind.TakesSlot() {
		p.used[t.Host]++
		p.servers[t.Server]++
		p.groups[t.Group]++
		p.running++
	}
}

// noSlot says that a host does all that it may at once, and whose limit that
// is when it is not the host's own.
func (p *planner) noSlot(name string, host hostState) string {
	if host.Slots > p.limits.PerHost && !host.Set {
		return fmt.Sprintf("waiting for a free slot on %s (limits.per_host is %d)", name, p.limits.PerHost)
	}
	return "waiting for a free slot on " + name
}

// obstacle returns why a job cannot go now, or "". What lasts longest is said
// first. Only a job that nothing but its repository keeps from going reserves
// it: a host that is away must not block a repository for others.
func (p *planner) obstacle(w waiting) string {
	host := p.hosts(w.Host)
	slots := p.limits.PerHost
	if host.Slots > 0 {
		slots = min(slots, host.Slots)
	}
	if host.Set {
		slots = max(host.Slots, 1)
	}
	needs := w.Kind.TakesSlot()
	hostFull := needs && p.used[w.Host] >= slots
	serverFull := needs && w.Server != "" && p.servers[w.Server] >= p.limits.PerStore
	full := needs && p.running >= p.limits.Running
	busy := p.leases.blocker(w.ticket)
	switch {
	case w.NotBefore.After(p.now):
		return w.Pause + " at " + clock(w.NotBefore, p.now)
	case w.Opens.After(p.now):
		return "outside the window " + w.Window
	case host.Away != "":
		return host.Away
	case w.Preview != "":
		return fmt.Sprintf("waiting for its dry run, job …%s", w.Preview.Short())
	case w.Vet != "":
		return fmt.Sprintf("waiting for a look at its repository, job …%s", w.Vet.Short())
	case w.Encrypted && host.SealKey == "":
		return fmt.Sprintf("host %s has not told the key that passphrases are sealed to", w.Host)
	case busy != "":
		if !hostFull && !serverFull && !full {
			p.leases.reserve(w.ticket)
		}
		return busy
	case hostFull:
		return p.noSlot(w.Host, host)
	case serverFull:
		return fmt.Sprintf("waiting for a free slot on %s (limits.per_store is %d)", w.Server, p.limits.PerStore)
	case full:
		return fmt.Sprintf("waiting for a free slot (%d jobs run)", p.running)
	}
	return ""
}

// clock prints a moment as people need it in a reason: the time, and the day
// when it is not today. All reasons are in UTC, as they are read in many places.
func clock(at, now time.Time) string {
	at, now = at.UTC(), now.UTC()
	if at.Year() == now.Year() && at.YearDay() == now.YearDay() {
		return at.Format("15:04:05 UTC")
	}
	return at.Format("2006-01-02 15:04:05 UTC")
}

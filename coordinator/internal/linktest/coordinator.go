package linktest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Coordinator is one that only remembers: it stores events, and says so in its
// verdicts. It is safe for concurrent use.
type Coordinator struct {
	t        *testing.T
	mu       sync.Mutex
	changed  chan struct{} // closed, and made anew, with every change
	hello    bus.Hello     // the newest
	events   map[attempt.Key][]bus.Event
	progress map[attempt.Key]job.Progress
	stop     map[attempt.Key]bool // attempts whose verdict is to end them
	online   map[string]bool
	position uint64
	failing  bool // stores nothing, and answers no hellos
	faults   []string
}

// NewCoordinator returns a coordinator that knows nothing.
func NewCoordinator(t *testing.T) *Coordinator {
	return &Coordinator{
		t: t, changed: make(chan struct{}), events: map[attempt.Key][]bus.Event{},
		progress: map[attempt.Key]job.Progress{}, stop: map[attempt.Key]bool{}, online: map[string]bool{},
	}
}

func keyOf(order bus.Order) attempt.Key { return attempt.KeyOf(order) }

func (c *Coordinator) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits for a condition, which is looked at under the lock.
func (c *Coordinator) until(what string, condition func() bool) {
	c.t.Helper()
	deadline := time.After(Patience)
	for {
		c.mu.Lock()
		done, changed := condition(), c.changed
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("%s: not within %s; hello %+v, events %+v", what, Patience, c.hello, c.events)
		}
	}
}

var errFailing = errors.New("the store takes nothing now")

func (c *Coordinator) fail(failing bool) { c.change(func() { c.failing = failing }) }

// Newest returns the newest hello.
func (c *Coordinator) Newest() bus.Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hello
}

// has must be called under the lock.
func (c *Coordinator) has(order bus.Order, kind job.EventType) bool {
	for _, e := range c.events[keyOf(order)] {
		if e.Type == kind {
			return true
		}
	}
	return false
}

func (c *Coordinator) count(order bus.Order) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.events[keyOf(order)])
}

// check fails the test for what must never have happened.
func (c *Coordinator) check() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fault := range c.faults {
		c.t.Error(fault)
	}
}

// HandleHello answers with what is stored of each attempt.
func (c *Coordinator) HandleHello(_ context.Context, hello bus.Hello) (reply bus.HelloReply, err error) {
	c.change(func() {
		if c.failing {
			err = errFailing
			return
		}
		c.hello = hello
		reply.At = time.Now().UTC()
		for _, said := range hello.Attempts {
			key := attempt.Key{Job: said.Job, Number: said.Attempt}
			stored := c.events[key]
			v := bus.Verdict{Job: said.Job, Attempt: said.Attempt, Action: bus.Keep, Stored: len(stored)}
			switch over := len(stored) > 0 && stored[len(stored)-1].Type == job.EventFinished; {
			case over && said.Finished:
				v.Action = bus.Forget
			case c.stop[key]:
				v.Action = bus.Stop
			}
			reply.Verdicts = append(reply.Verdicts, v)
		}
	})
	return reply, err
}

// HandleEvents stores events. One that comes before its predecessor is a fault
// of the link.
func (c *Coordinator) HandleEvents(_ context.Context, batch []bus.StreamEvent) (err error) {
	c.change(func() {
		if c.failing {
			err = errFailing
			return
		}
		for _, e := range batch {
			key := attempt.Key{Job: e.Job, Number: e.Attempt}
			switch have := len(c.events[key]); {
			case e.Seq <= have: // it came before
			case e.Seq > have+1:
				c.faults = append(c.faults, "an event of "+key.String()+" came before the one that it follows")
			default:
				c.events[key] = append(c.events[key], e.Event)
			}
			c.position = max(c.position, e.Sequence)
		}
	})
	return err
}

// HandleProgress keeps the newest progress.
func (c *Coordinator) HandleProgress(_ string, p bus.Progress) {
	c.change(func() { c.progress[attempt.Key{Job: p.Job, Number: p.Attempt}] = p.Progress })
}

// HostConnected notes that a host is there.
func (c *Coordinator) HostConnected(host string) { c.change(func() { c.online[host] = true }) }

// HostDisconnected notes that it is not.
func (c *Coordinator) HostDisconnected(host string) { c.change(func() { c.online[host] = false }) }

// StreamPosition is for links whose events come by a stream.
func (c *Coordinator) StreamPosition() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.position
}

// CaughtUp does nothing.
func (c *Coordinator) CaughtUp() {}

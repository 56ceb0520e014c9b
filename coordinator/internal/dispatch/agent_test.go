package dispatch_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var errLost = errors.New("no answer in time")

type key struct {
	job     job.ID
	attempt int
}

// agent behaves like a real one: it journals before it answers, answers the
// same order alike, keeps a tombstone until it is told to forget, and publishes
// events until they are known to be stored. Its journal and its processes
// survive its crashes. What its processes do is up to the test.
type agent struct {
	host string
	seal nkeys.KeyPair

	mu       sync.Mutex
	up       bool
	journal  string
	revision uint64
	attempts map[key]*record
	fences   map[key]bool
	over     map[key]job.Event // how forgotten attempts ended
	orders   []bus.Order       // fresh ones, as they came
	instance string            // "": an agent that does not say
	started  time.Time
	refused  bool
	refuse   *job.Failure
	publish  func(bus.Event)
}

type record struct {
	order     bus.Order
	failure   *job.Failure
	events    []bus.Event
	stored    int
	cancelled bool
	finished  bool
}

func newAgent(host string, publish func(bus.Event)) *agent {
	curve, err := nkeys.CreateCurveKeys()
	if err != nil {
		panic(err) // no randomness
	}
	return &agent{
		host: host, seal: curve, up: true, journal: "journal-1", publish: publish,
		attempts: map[key]*record{}, fences: map[key]bool{}, over: map[key]job.Event{},
	}
}

func (a *agent) stamp() bus.Stamp {
	a.revision++
	return bus.Stamp{Journal: a.journal, Revision: a.revision}
}

// order is the agent's side of an order.
func (a *agent) order(order bus.Order) (bus.OrderReply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.up {
		return bus.OrderReply{}, fleet.ErrHostAway
	}
	k := key{order.Job, order.Attempt}
	if order.Instance != a.instance {
		return bus.OrderReply{}, errLost // not for this run: no answer
	}
	if r := a.attempts[k]; r != nil {
		reply := bus.OrderReply{Accepted: r.failure == nil, Failure: r.failure, Stamp: bus.Stamp{Journal: a.journal, Revision: a.revision}}
		if r.finished && r.stored >= len(r.events) {
			reply.Over = &r.events[len(r.events)-1].Event
		}
		return reply, nil
	}
	if a.fences[k] {
		over := a.over[k]
		return bus.OrderReply{Accepted: true, Over: &over, Stamp: bus.Stamp{Journal: a.journal, Revision: a.revision}}, nil
	}
	if time.Now().After(order.ExpiresAt) {
		return bus.OrderReply{Failure: job.Fail(job.RefusedByHost, "the order has expired"), Stamp: bus.Stamp{Journal: a.journal, Revision: a.revision}}, nil
	}
	r := &record{order: order, failure: a.refuse}
	a.attempts[k] = r
	if a.refuse != nil {
		a.record(r, k, job.Event{Type: job.EventFinished, State: job.Failed, Failure: a.refuse})
		return bus.OrderReply{Failure: a.refuse, Stamp: a.stamp()}, nil
	}
	a.orders = append(a.orders, order)
	a.record(r, k, job.Event{Type: job.EventAccepted})
	return bus.OrderReply{Accepted: true, Stamp: bus.Stamp{Journal: a.journal, Revision: a.revision}}, nil
}

func (a *agent) cancel(cancel bus.Cancel) (bus.CancelReply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.up {
		return bus.CancelReply{}, fleet.ErrHostAway
	}
	k := key{cancel.Job, cancel.Attempt}
	if r := a.attempts[k]; r != nil {
		r.cancelled = true
	} else if !a.fences[k] {
		r := &record{cancelled: true}
		a.attempts[k] = r
		a.record(r, k, job.Event{Type: job.EventFinished, State: job.Cancelled})
	}
	return bus.CancelReply{Stamp: a.stamp()}, nil
}

// record journals an event and publishes it.
func (a *agent) record(r *record, k key, event job.Event) {
	event.Job, event.Attempt, event.Host, event.Seq, event.At = k.job, k.attempt, a.host, len(r.events)+1, time.Now()
	r.finished = r.finished || event.Type == job.EventFinished
	told := bus.Event{Event: event, Stamp: a.stamp()}
	if r.order.Kind != "" && (event.Type == job.EventAccepted || event.Type == job.EventFinished) {
		told.Origin = originOf(r.order)
	}
	r.events = append(r.events, told)
	a.publish(told)
}

// tell is record for a test that plays the process.
func (a *agent) tell(k key, event job.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.attempts[k]; r != nil && !r.finished {
		a.record(r, k, event)
	}
}

// hello is what the agent would say now.
func (a *agent) hello() bus.Hello {
	a.mu.Lock()
	defer a.mu.Unlock()
	public, err := a.seal.PublicKey()
	if err != nil {
		panic(err) // the key is whole
	}
	h := bus.Hello{
		Host: a.host, AgentVersion: "1", BorgVersion: "1.2.4", SealKey: public, Slots: 2, At: time.Now(),
		Stamp: bus.Stamp{Journal: a.journal, Revision: a.revision},
	}
	h.Instance, h.StartedAt, h.Refused = a.instance, a.started, a.refused
	for k, r := range a.attempts {
		h.JournalDepth += max(0, len(r.events)-r.stored)
		h.Attempts = append(h.Attempts, bus.HostAttempt{Job: k.job, Attempt: k.attempt, LastSeq: len(r.events), Finished: r.finished})
	}
	return h
}

// settled takes the coordinator's verdicts in.
func (a *agent) settled(reply bus.HelloReply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = reply.Refused != nil
	slices.SortFunc(reply.Verdicts, func(x, y bus.Verdict) int { return cmp.Compare(x.Job, y.Job) })
	for _, v := range reply.Verdicts {
		k := key{v.Job, v.Attempt}
		r := a.attempts[k]
		if r == nil {
			continue
		}
		r.stored = max(r.stored, v.Stored)
		switch {
		case v.Action == bus.Forget && r.finished:
			delete(a.attempts, k)
			a.fences[k], a.over[k] = true, r.events[len(r.events)-1].Event
			a.revision++
			continue
		case v.Action == bus.Stop:
			r.cancelled = true
		}
		for _, event := range r.events[min(r.stored, len(r.events)):] {
			a.publish(event)
		}
	}
}

// keepTombstone takes back that a finished attempt was forgotten: the word for it
// never came.
func (a *agent) keepTombstone(k key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	over := a.over[k]
	a.attempts[k] = &record{events: make([]bus.Event, over.Seq), stored: over.Seq, finished: true}
	a.attempts[k].events[over.Seq-1].Event = over
	delete(a.fences, k)
	delete(a.over, k)
}

// open returns the attempts whose process runs, in a fixed order.
func (a *agent) open() []key {
	a.mu.Lock()
	defer a.mu.Unlock()
	var keys []key
	for k, r := range a.attempts {
		if !r.finished {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y key) int { return cmp.Or(cmp.Compare(x.job, y.job), cmp.Compare(x.attempt, y.attempt)) })
	return keys
}

func (a *agent) of(k key) record {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.attempts[k]; r != nil {
		return *r
	}
	return record{}
}

func (a *agent) setUp(up bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.up = up
}

// link reaches agents, and fails as told.
type link struct {
	mu     sync.Mutex
	agents map[string]*agent
	fault  func(host string) (before, after error) // nil: none
	sent   chan bus.Order                          // fresh and repeated ones; nil: nobody looks
}

func (l *link) setFault(fault func(host string) (before, after error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *link) reach(host string) (*agent, error, error) {
	l.mu.Lock()
	a, fault := l.agents[host], l.fault
	l.mu.Unlock()
	if a == nil {
		return nil, fleet.ErrHostAway, nil
	}
	if fault == nil {
		return a, nil, nil
	}
	before, after := fault(host) // without the lock: it may take its time
	return a, before, after
}

// Order implements dispatch.Link.
func (l *link) Order(ctx context.Context, host string, order bus.Order) (bus.OrderReply, error) {
	if l.sent != nil {
		l.sent <- order
	}
	a, before, after := l.reach(host)
	if before != nil {
		return bus.OrderReply{}, before
	}
	reply, err := a.order(order)
	if after != nil && err == nil {
		return bus.OrderReply{}, after
	}
	return reply, cmp.Or(err, ctx.Err())
}

// Cancel implements dispatch.Link.
func (l *link) Cancel(ctx context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error) {
	a, before, after := l.reach(host)
	if before != nil {
		return bus.CancelReply{}, before
	}
	reply, err := a.cancel(cancel)
	return reply, cmp.Or(err, after, ctx.Err())
}

// Present implements dispatch.Link.
func (l *link) Present(_ context.Context, host, instance string) bool {
	a, before, after := l.reach(host)
	if a == nil || before != nil || after != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.up && a.instance == instance
}

// registry is what dispatch needs of the registry, without its disk.
type registry struct {
	mu     sync.Mutex
	views  map[string]fleet.HostView
	online func(string) (bool, time.Time)
	broken error // of Passphrase
}

// UpdateFacts implements dispatch.Registry.
func (r *registry) UpdateFacts(_ context.Context, host string, facts fleet.Facts, sealKey string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	view, ok := r.views[host]
	if !ok {
		return job.Fail(job.UnknownHost, "there is no host %q", host)
	}
	view.Facts, view.SealKey = &facts, sealKey
	r.views[host] = view
	return nil
}

// Hosts implements dispatch.Registry.
func (r *registry) Hosts(context.Context) ([]fleet.HostView, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	views := []fleet.HostView{}
	for _, view := range r.views {
		view.Online, view.Since = r.online(view.Name)
		views = append(views, view)
	}
	slices.SortFunc(views, func(a, b fleet.HostView) int { return cmp.Compare(a.Name, b.Name) })
	return views, nil
}

// Passphrase implements dispatch.Registry.
func (r *registry) Passphrase(_ context.Context, repository string) (secret.Value, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return secret.FromString("pass-" + repository), r.broken
}

func (r *registry) setBroken(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = err
}

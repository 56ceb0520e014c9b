// Package uplink is the agent's session with its coordinator: one connection to
// the bus, over which orders and cancellations come in, and hellos, events and
// progress go out.
//
// Nothing here is remembered across a restart. What must not be lost is in the
// journal, and the uplink goes on telling it until a hello's reply says that
// the coordinator has stored it.
package uplink

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Journal is what the uplink reads of the agent's memory. Its methods are safe
// for concurrent use.
type Journal interface {
	// Snapshot returns the stamp, every attempt, and the number of events not
	// known to be stored, all of one moment.
	Snapshot() (attempt.Snapshot, error)
	// Events returns at most limit unstored events of an attempt with numbers
	// above after, in order.
	Events(key attempt.Key, after, limit int) ([]bus.Event, error)
}

// Handler does what the coordinator asks for. Its methods are safe for
// concurrent use; an error means that nothing is certain, and is not answered.
type Handler interface {
	// Order takes an order in. The same order always gets the same answer.
	Order(ctx context.Context, envelope bus.Envelope) (bus.OrderReply, error)
	// Cancel ends an attempt, or remembers to refuse it.
	Cancel(ctx context.Context, cancel bus.Cancel) (bus.CancelReply, error)
	// Read returns a piece of what borg prints, or says why there is none. It
	// waits for a few seconds at most.
	Read(ctx context.Context, read bus.Read) bus.Piece
	// Settle applies the verdicts of a hello's reply.
	Settle(ctx context.Context, verdicts []bus.Verdict) error
}

// Options are what an Uplink needs.
type Options struct {
	Host        string
	Instance    string // of this run of the agent, see bus.Hello
	URLs        []string
	Credentials string      // path of a .creds file; empty: none
	TLS         *tls.Config // nil: see bus.ConnectOptions
	// Explain says in a sentence why there is no connection to an address.
	Explain  func(err error, address string) *job.Failure
	Journal  Journal
	Handler  Handler
	Identity func() bus.Hello    // what a hello says apart from the journal; called for each
	Changes  <-chan struct{}     // one is sent after every change of the journal
	Progress <-chan bus.Progress // live progress, dropped while disconnected
	Logger   hclog.Logger
	Timing   Timing           // zero fields take the protocol's values
	Now      func() time.Time // this host's clock, as hellos tell it; nil: time.Now
}

// Timing are the waits of the protocol, which tests shorten.
type Timing struct {
	Busy      time.Duration // between hellos while something runs; bus.HelloBusy
	Idle      time.Duration // between hellos at rest; bus.HelloIdle
	Settle    time.Duration // for more news before an extra hello; 60 ms
	Request   time.Duration // for an answer; bus.RequestTimeout
	Republish time.Duration // after which an acknowledged but unstored event is told again; 20 s
}

func (t Timing) withDefaults() Timing {
	for _, field := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&t.Busy, bus.HelloBusy}, {&t.Idle, bus.HelloIdle}, {&t.Settle, 60 * time.Millisecond},
		{&t.Request, bus.RequestTimeout}, {&t.Republish, 20 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.fallback
		}
	}
	return t
}

// Uplink is the session. It is safe for concurrent use.
type Uplink struct {
	options   Options
	timing    Timing
	logger    hclog.Logger
	ledger    *ledger
	publish   chan struct{}             // wakes the publisher
	hello     chan struct{}             // wakes the hello loop
	connected chan struct{}             // the same, after a connect
	taken     chan struct{}             // says that a hello was answered
	accepted  atomic.Bool               // the coordinator works with this run of the agent
	refused   atomic.Bool               // it works with another one
	unhurried atomic.Bool               // it waits before the next connect, having had nothing to tell
	life      atomic.Pointer[life]      // of the connection
	conn      atomic.Pointer[nats.Conn] // nil before Run
	status    atomic.Pointer[Status]
	rooms     sync.Pool // *[]byte, for pieces on their way out: a download has thousands
}

// Status is how the session stands.
type Status struct {
	Connected bool          `json:"connected"`
	URL       string        `json:"url,omitempty"` // of the server, while connected
	Since     time.Time     `json:"since"`         // of the last change of Connected
	HelloAt   time.Time     `json:"hello_at,omitzero"`
	ClockSkew time.Duration `json:"clock_skew_ns"`   // this host's clock minus the coordinator's, at the last hello
	Error     string        `json:"error,omitempty"` // why it is not connected, or the last hello was not answered
	Hint      string        `json:"hint,omitempty"`  // what to do about the error
	Refused   bool          `json:"refused"`         // the bus does not accept the credentials
	Duplicate bool          `json:"duplicate"`       // the coordinator works with another agent of this identity
	// CertificateExpires is the end of the bus's certificate, while connected with TLS.
	CertificateExpires time.Time `json:"certificate_expires,omitzero"`
}

// New returns an Uplink; [Uplink.Run] connects it.
func New(o Options) *Uplink {
	if o.Now == nil {
		o.Now = time.Now
	}
	u := &Uplink{
		options: o, timing: o.Timing.withDefaults(), logger: o.Logger.Named("uplink"), ledger: newLedger(),
		publish: make(chan struct{}, 1), hello: make(chan struct{}, 1), connected: make(chan struct{}, 1), taken: make(chan struct{}, 1),
	}
	u.status.Store(&Status{Since: time.Now().UTC()})
	u.life.Store(newLife())
	return u
}

// Status returns how the session stands.
func (u *Uplink) Status() Status { return *u.status.Load() }

// setStatus changes the status; f may run more than once.
func (u *Uplink) setStatus(f func(*Status)) {
	for {
		old := u.status.Load()
		next := *old
		f(&next)
		if u.status.CompareAndSwap(old, &next) {
			return
		}
	}
}

// Run connects, and keeps the session up until ctx ends. It returns an error
// only when the options cannot work at all; a coordinator that cannot be
// reached is waited for.
func (u *Uplink) Run(ctx context.Context) error {
	conn, err := u.connect()
	if err != nil {
		return err
	}
	u.conn.Store(conn)
	defer conn.Close()
	orders, cancels, reads := make(chan *nats.Msg, 64), make(chan *nats.Msg, 64), make(chan *nats.Msg, maxReads)
	for subject, messages := range map[string]chan *nats.Msg{
		bus.OrderSubject(u.options.Host): orders, bus.CancelSubject(u.options.Host): cancels, bus.ReadSubject(u.options.Host): reads,
	} {
		if _, err := conn.ChanSubscribe(subject, messages); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	if _, err := conn.Subscribe(bus.PresenceSubject(u.options.Host, u.options.Instance), u.present); err != nil {
		return fmt.Errorf("subscribe to the question whether this agent is there: %w", err)
	}
	var actors sync.WaitGroup
	actors.Go(func() { u.serveOrders(ctx, orders) })
	actors.Go(func() { u.serveCancels(ctx, cancels) })
	actors.Go(func() { u.serveReads(ctx, reads) })
	actors.Go(func() { u.publishEvents(ctx, conn) })
	actors.Go(func() { u.sayHellos(ctx, conn) })
	actors.Go(func() { u.forward(ctx, conn) })
	actors.Wait()
	return nil
}

func (u *Uplink) connect() (*nats.Conn, error) {
	var conn *nats.Conn
	known := make(chan struct{}) // closed when conn is set, which the handler may come before
	options := bus.ConnectOptions{
		Name: u.options.Host, Credentials: u.options.Credentials, TLS: u.options.TLS,
		OnConnect:    func() { <-known; u.onConnect(conn) },
		OnDisconnect: u.onDisconnect, OnFailure: u.onFailure, Reconnect: u.delay,
		OnError: func(err error) { u.logger.Error("bus", "err", err); u.onFailure(err) },
	}
	// The first address is the one that is known to work.
	c, err := nats.Connect(strings.Join(u.options.URLs, ","), append(options.Options(), nats.DontRandomize())...)
	conn = c
	close(known)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	return c, nil
}

func (u *Uplink) onDisconnect(err error) {
	u.life.Swap(newLife()).end()
	if err == nil {
		return // closed by ourselves
	}
	u.logger.Warn("disconnected from the bus", "err", err)
	u.setStatus(func(s *Status) { *s = Status{Since: time.Now().UTC()} })
	u.note(err)
}

// onFailure notes why there is no connection. It is logged when it is another
// reason than before: the next tries fail alike.
func (u *Uplink) onFailure(err error) {
	if err == nil || u.Status().Connected {
		return
	}
	if u.note(err) {
		u.logger.Warn("cannot connect to the bus; trying again", "err", u.Status().Error, "hint", u.Status().Hint)
	}
}

// note puts the reason into the status, and reports whether it is another one.
func (u *Uplink) note(err error) bool {
	before := u.Status().Error
	why := u.options.Explain(err, strings.Join(u.options.URLs, ", "))
	u.setStatus(func(s *Status) { s.Error, s.Hint, s.Refused = why.Message, why.Hint, why.Code == job.NotAuthenticated })
	return why.Message != before
}

func (u *Uplink) onConnect(conn *nats.Conn) {
	url := conn.ConnectedUrlRedacted()
	u.logger.Info("connected to the bus", "url", url)
	var expires time.Time
	if state, err := conn.TLSConnectionState(); err == nil && len(state.PeerCertificates) > 0 { // an error: no TLS
		expires = state.PeerCertificates[0].NotAfter.UTC()
	}
	u.setStatus(func(s *Status) {
		if !s.Connected {
			s.Since = time.Now().UTC()
		}
		s.Connected, s.URL, s.CertificateExpires = true, url, expires
		s.Error, s.Hint, s.Refused = "", "", false
	})
	u.unhurried.Store(false)
	u.ledger.reset() // what this bus took before may be lost with it
	wake(u.connected)
	wake(u.publish)
}

// Request sends a request over the session, and returns the answer.
func (u *Uplink) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	conn := u.conn.Load()
	if conn == nil || !conn.IsConnected() {
		return nil, nats.ErrDisconnected
	}
	msg, err := conn.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

// forward passes live progress on, and journal changes to the publisher.
func (u *Uplink) forward(ctx context.Context, conn *nats.Conn) {
	waiting := map[job.ID]bus.Progress{} // the newest of each job while nobody takes it: borg may be silent after that
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.options.Changes:
			wake(u.publish)
			u.hurry(conn)
		case p := <-u.options.Progress:
			if !u.sendProgress(conn, p) {
				waiting[p.Job] = p
			}
		case <-u.taken:
			for id, p := range waiting {
				delete(waiting, id)
				u.sendProgress(conn, p)
			}
		}
	}
}

// wake leaves a signal in a channel of capacity one.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default: // it has one already
	}
}

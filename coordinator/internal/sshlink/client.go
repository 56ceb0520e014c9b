// Package sshlink keeps one SSH connection to one host, and runs scripts over
// it: whatever login shell the user has there, and whatever that prints.
package sshlink

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Config is how a host is reached.
type Config struct {
	Host     string         // its name, for people
	Address  string         // user@host:port
	HostKeys []string       // that it may show, in authorized_keys form
	Jump     []fleet.SSHHop // servers on the way, the first one first
	Signer   ssh.Signer     // the key that is shown to it, and to the servers on the way
	Sudo     bool           // work as root, by sudo -n
}

// Options are what may be chosen about a connection; zero values are defaults.
type Options struct {
	Logger hclog.Logger
	// Changed is called with each change of the state, by Run, one at a time.
	Changed func(State)
	// Keepalive is how often the host is asked whether it is there: 15 s. One
	// that has not answered for three times as long is gone.
	Keepalive time.Duration
	// Patience is how long the host, and each server on the way, may take to
	// answer, to let us in, and to begin to run a script: 15 s.
	Patience time.Duration
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.Changed == nil {
		o.Changed = func(State) {}
	}
	if o.Keepalive == 0 {
		o.Keepalive = 15 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 15 * time.Second
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o
}

// State is whether the host can be reached.
type State struct {
	Connected bool
	Since     time.Time    // when it became so
	Failure   *job.Failure // why there is no connection; nil before the first try
	// Final says that a person must act: the host shows another key, does not let
	// ours in, has no usable shell, or refuses sudo. It is still tried once a minute.
	Final bool
}

// Client keeps the connection to one host.
type Client struct {
	config  Config
	options Options
	poke    chan struct{}

	mu    sync.Mutex
	state State
	link  *link         // nil when there is none
	tried chan struct{} // closed, and made anew, when the state was set
}

// New returns a client that connects when Run is called.
func New(c Config, o Options) *Client {
	o = o.withDefaults()
	o.Logger = o.Logger.With("host", c.Host)
	return &Client{config: c, options: o, poke: make(chan struct{}, 1), state: State{Since: time.Now()}, tried: make(chan struct{})}
}

// State returns whether the host is connected now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Poke makes Run try now, and not at the end of its pause.
func (c *Client) Poke() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// Try has Run connect now, unless it is connected, and waits for what comes of it;
// nil: there is a connection.
func (c *Client) Try(ctx context.Context) *job.Failure {
	c.mu.Lock()
	connected, tried := c.state.Connected, c.tried
	c.mu.Unlock()
	if connected {
		return nil
	}
	c.Poke()
	select {
	case <-tried:
	case <-ctx.Done():
		return unreachable(placeOf(c.config), "it has not answered in time")
	}
	if now := c.State(); !now.Connected {
		return now.Failure
	}
	return nil
}

// Times between two tries.
const (
	firstPause = time.Second // doubled with each try; what is waited is any part of it
	longPause  = time.Minute
	settled    = 30 * time.Second // a connection that lasted so long counts as good
)

// Run connects, keeps the connection, and connects again when it is lost, until
// ctx ends; it returns nil then.
func (c *Client) Run(ctx context.Context) error {
	for failed := 0; ; failed++ {
		c.unpoke()
		l, fault := c.connect(ctx)
		if fault == nil {
			c.set(l, nil)
			since := time.Now()
			fault = c.keep(ctx, l)
			c.unpoke()
			if time.Since(since) > settled {
				failed = 0
			}
		}
		if ctx.Err() != nil {
			c.leave()
			return nil
		}
		c.set(nil, fault)
		c.pause(ctx, pauseAfter(failed, fault.final))
	}
}

// pauseAfter is exponential with full jitter; what a person must mend is tried
// once a minute.
func pauseAfter(failed int, final bool) time.Duration {
	if final {
		return longPause
	}
	most := min(firstPause<<min(failed, 10), longPause)
	return time.Duration(rand.Int64N(int64(most))) + 1
}

// unpoke forgets that somebody wanted what is being done, or was.
func (c *Client) unpoke() {
	select {
	case <-c.poke:
	default:
	}
}

func (c *Client) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.poke:
	case <-timer.C:
	}
}

// set notes a change, and tells it; that a failure is still the same is none.
func (c *Client) set(l *link, f *fault) {
	next := State{Connected: l != nil, Since: time.Now()}
	if f != nil {
		next.Failure, next.Final = f.Failure, f.final
	}
	c.mu.Lock()
	was := c.state
	c.link = l
	same := was.Connected == next.Connected && was.Final == next.Final &&
		was.Failure != nil && next.Failure != nil && *was.Failure == *next.Failure
	if was.Connected == next.Connected {
		next.Since = was.Since
	}
	c.state = next
	close(c.tried)
	c.tried = make(chan struct{})
	c.mu.Unlock()
	if same {
		return
	}
	if next.Connected {
		c.options.Logger.Info("connected to host", "address", c.config.Address)
	} else {
		c.options.Logger.Warn("host is not connected", "address", c.config.Address, "err", next.Failure)
	}
	c.options.Changed(next)
}

// leave forgets the connection when Run ends; nobody is told.
func (c *Client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = nil
	c.state = State{Since: time.Now()}
}

// connect makes a connection over which scripts run.
func (c *Client) connect(ctx context.Context) (*link, *fault) {
	l, fault := dial(ctx, c.config, c.options)
	if fault != nil {
		return nil, fault
	}
	if fault := l.probe(ctx); fault != nil {
		l.close(fault)
		return nil, fault
	}
	return l, nil
}

// keep asks the host whether it is there, until it is not or ctx ends.
func (c *Client) keep(ctx context.Context, l *link) *fault {
	defer l.close(errLeft)
	ticker := time.NewTicker(c.options.Keepalive)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.lost:
			return transient(unreachable(l.place, "the connection was lost: %s", reason(l.cause)))
		case <-ticker.C:
		}
		silence := 3 * c.options.Keepalive
		asked, stop := context.WithTimeout(ctx, silence)
		err := l.ask(asked)
		stop()
		if err != nil && asked.Err() != nil && ctx.Err() == nil {
			silent := fmt.Errorf("it has not answered for %s", silence)
			l.close(silent)
			return transient(unreachable(l.place, "%s", silent))
		}
	}
}

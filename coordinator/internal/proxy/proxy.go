// Package proxy runs the jobs of hosts that have no agent, with what an agent
// runs them with: for each such host it holds a journal and a worker, whose
// engine reaches the host through an executor that somebody else has made.
//
// It settles with the coordinator by the same hellos, verdicts and numbered
// events as an agent, by calls instead of messages. A restart of the coordinator
// is to a job what a restart of an agent is: what runs on the host goes on, is
// found again in its job directory, and is followed from where its events end.
//
// A host whose link is cut is away and takes no orders, but its worker lives
// here, and so its events and the coordinator's verdicts flow all the time.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/borgfleet/borgfleet/shared/worker"
)

// Sessions is told what hosts say of themselves. Its methods are called
// concurrently, but for one host in order. All but HandleHello must be quick.
type Sessions interface {
	// HandleHello settles both sides. After an error it is called again.
	HandleHello(ctx context.Context, hello bus.Hello) (bus.HelloReply, error)
	// HandleProgress takes live progress, which may be lost.
	HandleProgress(host string, progress bus.Progress)
	// HostConnected and HostDisconnected say that a host can be reached, or not
	// any more.
	HostConnected(host string)
	HostDisconnected(host string)
}

// Ingest stores events.
type Ingest interface {
	// HandleEvents stores events, which have no place in a stream (Sequence is 0),
	// and returns when they are on disk. Those known already change nothing. After
	// an error the same events are given again.
	HandleEvents(ctx context.Context, batch []bus.StreamEvent) error
}

// Runner is one host, as its worker reaches it. All fields but RSH, Checks,
// Facts, Problem, Nice, IOClass and Slots are needed.
type Runner struct {
	Host     string
	Executor engine.Executor
	Runs     worker.Runs
	Mounts   worker.Mounts
	Policy   worker.Policy
	Borg     worker.Borg
	// Environment is asked before each attempt. A failure says that the host was
	// not reached; it is asked again then.
	Environment func(ctx context.Context) (borg.Environment, *job.Failure)
	Nice        int    // see process.Command
	IOClass     string // see process.Command
	// RSH and Checks are what worker.Options has under these names.
	RSH    func(ctx context.Context, order bus.Order) (string, *job.Failure)
	Checks func(ctx context.Context) []job.Finding
	// Facts is what a hello says of the host itself: its system, borg, space and
	// clock. It is asked while the host is online, and must be quick.
	Facts func(ctx context.Context) bus.Hello
	// Problem returns why the host cannot do anything until a person has acted,
	// or nil. Orders are refused with it: a host in that state is set online, so
	// that its jobs fail at once and do not wait for ever.
	Problem func() *job.Failure
	Slots   int // jobs at a time; 0: one
}

// Options configures a [Service]. All but Now and PieceIdle are needed.
type Options struct {
	Dir       string       // of the journals, one directory for each host
	Ring      *secret.Ring // passphrases are sealed to it; one for all hosts
	Sessions  Sessions
	Ingest    Ingest
	Logger    hclog.Logger
	Now       func() time.Time // nil: time.Now
	PieceIdle time.Duration    // 0: bus.PieceIdle
}

// Service runs the jobs of hosts without an agent. It is safe for concurrent
// use.
type Service struct {
	options Options
	logger  hclog.Logger
	intake  *intake

	changing sync.Mutex // held while a host is attached or detached
	mu       sync.Mutex
	ended    bool
	hosts    map[string]*session
}

var errEnded = errors.New("the coordinator is stopping")

// New returns a service without hosts.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{
		options: o, logger: o.Logger.Named("proxy"), hosts: map[string]*session{},
		intake: &intake{ingest: o.Ingest, logger: o.Logger.Named("proxy"), waiting: make(chan delivery)},
	}
}

// Run stores what hosts tell until ctx ends, and then lets go of all of them.
// What runs there goes on.
func (s *Service) Run(ctx context.Context) error {
	s.intake.run(ctx)
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	s.ended = true
	hosts := s.hosts
	s.hosts = map[string]*session{}
	s.mu.Unlock()
	var ending sync.WaitGroup
	errs := make(chan error, len(hosts))
	for _, h := range hosts {
		ending.Go(func() { errs <- h.end() })
	}
	ending.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// Attach takes a host on, in place of an earlier one of its name, and goes on
// with the jobs that its journal has open. It is away until it is set online. An
// error says that its journal cannot be used; it is not attached then.
func (s *Service) Attach(r Runner) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.drop(r.Host); err != nil {
		s.logger.Warn("let go of a host", "host", r.Host, "err", err)
	}
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended {
		return errEnded
	}
	opened, err := s.open(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[r.Host] = opened
	opened.begin()
	return nil
}

// Detach lets go of a host; what runs there goes on. With forget its journal is
// removed, too: there is no such host any more, or it has an agent now.
func (s *Service) Detach(host string, forget bool) {
	s.changing.Lock()
	defer s.changing.Unlock()
	err := s.drop(host)
	if forget {
		err = errors.Join(err, os.RemoveAll(s.dir(host)))
	}
	if err != nil {
		s.logger.Warn("let go of a host", "host", host, "err", err)
	}
}

// drop ends the session of a host, if there is one.
func (s *Service) drop(host string) error {
	s.mu.Lock()
	h := s.hosts[host]
	delete(s.hosts, host)
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	return h.end()
}

func (s *Service) dir(host string) string { return filepath.Join(s.options.Dir, host) }

// Has reports whether a host is attached.
func (s *Service) Has(host string) bool { return s.find(host) != nil }

func (s *Service) find(host string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[host]
}

// SetOnline says whether a host can be reached now. Unknown hosts are ignored.
func (s *Service) SetOnline(host string, online bool) {
	if h := s.find(host); h != nil {
		h.reach.set(online)
	}
}

// Greet says hello for a host now, and returns when that is settled: what the
// coordinator knows of it is what Facts says then. [fleet.ErrHostAway] says that
// it is not attached.
func (s *Service) Greet(ctx context.Context, host string) error {
	h := s.find(host)
	if h == nil {
		return fleet.ErrHostAway
	}
	settled := make(chan struct{})
	select {
	case h.greets <- settled:
	case <-h.life.Done():
		return fleet.ErrHostAway
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-settled:
		return nil
	case <-h.life.Done():
		return fleet.ErrHostAway
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Order hands an order over, and returns the answer once it is in the host's
// journal. [fleet.ErrHostAway] says that it was not taken.
func (s *Service) Order(ctx context.Context, host string, order bus.Order) (reply bus.OrderReply, err error) {
	h := s.find(host)
	if h == nil || !h.reach.isOnline() || order.Host != host {
		return reply, fmt.Errorf("order to host %s: %w", host, fleet.ErrHostAway)
	}
	err = h.use(func() error {
		reply, err = h.worker.Take(ctx, order)
		return err
	})
	if errors.Is(err, bus.ErrInstance) {
		err = fleet.ErrHostAway
	}
	if err != nil {
		return bus.OrderReply{}, fmt.Errorf("order to host %s: %w", host, err)
	}
	return reply, nil
}

// Cancel asks to end an attempt, and returns once that is in the host's journal.
// It does not matter whether the host can be reached now.
func (s *Service) Cancel(ctx context.Context, host string, cancel bus.Cancel) (reply bus.CancelReply, err error) {
	h := s.find(host)
	if h == nil {
		return reply, fmt.Errorf("cancellation to host %s: %w", host, fleet.ErrHostAway)
	}
	err = h.use(func() error {
		reply, err = h.worker.Cancel(ctx, cancel)
		return err
	})
	if err != nil {
		return bus.CancelReply{}, fmt.Errorf("cancellation to host %s: %w", host, err)
	}
	return reply, nil
}

// Present reports whether the host is attached under this instance.
func (s *Service) Present(_ context.Context, host, instance string) bool {
	h := s.find(host)
	return h != nil && h.instance == instance
}

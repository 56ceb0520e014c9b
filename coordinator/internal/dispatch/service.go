package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Link reaches hosts. It is safe for concurrent use. Its errors are
// [fleet.ErrHostAway], after which the message was certainly not delivered, or
// anything else, after which it may have been.
type Link interface {
	// Order hands an order over. The same order, given again, has the same
	// answer and no further effect.
	Order(ctx context.Context, host string, order bus.Order) (bus.OrderReply, error)
	// Cancel asks to end an attempt. Repeats have no further effect.
	Cancel(ctx context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error)
	// Present asks a run of a host's agent whether it is there, and waits for
	// an answer at most [bus.PresenceTimeout].
	Present(ctx context.Context, host, instance string) bool
}

// Registry keeps hosts and repositories. It is safe for concurrent use.
type Registry interface {
	// UpdateFacts takes in what a host says of itself; an unknown host is a
	// *job.Failure.
	UpdateFacts(ctx context.Context, host string, facts fleet.Facts, sealKey string) error
	// Hosts returns every host with its present state, by name.
	Hosts(ctx context.Context) ([]fleet.HostView, error)
	// Passphrase returns a repository's passphrase; empty if it has none.
	Passphrase(ctx context.Context, repository string) (secret.Value, error)
}

// Options are what a [Service] is made of. All but Depot, Limits, Backoff,
// History, Version, Attention and Now are needed.
type Options struct {
	Store    *store.Store
	Link     Link
	Registry Registry
	Presence *Presence
	Feed     *feed.Feed
	// Depot is nil where there is none: what needs it fails. DepotAddress is the
	// host:port under which hosts reach it.
	Depot        Depot
	DepotAddress string
	LogDir       string // job logs, <data>/logs
	Limits       Limits
	Backoff      Backoff
	History      History
	Version      string // of the coordinator, for its status
	// Attention returns what else needs a person, for the status.
	Attention func() []fleet.Attention
	// Full says that the disk with the database is full: no job is taken then,
	// also while the database has room in itself. Nil: it never is.
	Full   func() error
	Logger hclog.Logger
	Now    func() time.Time // default time.Now
}

// History bounds what is kept of jobs that are over. Zero fields do not bound.
type History struct {
	Keep time.Duration
	Jobs int
}

// Service is the one owner of job state. Its methods are safe for concurrent
// use. Errors that a caller can do something about are *job.Failure.
type Service struct {
	options  Options
	logger   hclog.Logger
	apply    func(...store.Change) (uint64, error)
	presence *Presence
	index    *index
	logs     *jobLogs
	wake     chan struct{}

	heard struct { // of orders, and not stored yet
		sync.Mutex
		waiting []hearing
	}

	write     sync.Mutex // held by whoever changes state, from reading it to having told of it
	uncertain map[job.ID]bool
	archives  map[line]archiveName // newest name given to each line of archives
	removed   map[string]time.Time // hosts whose jobs are to be ended, and when they were removed
	verified  map[string]time.Time // for when each host was last looked at whether it is to be verified
	verifyAt  time.Time            // when to look again

	tasks struct {
		sync.Mutex
		waiting []func(context.Context)
	}
	live struct { // what changes without the store
		sync.Mutex
		progress map[job.ID]job.Progress
		hosts    map[string]hostState // without Away
		latest   map[track]job.Job
	}
	counters counters

	caughtUp atomic.Bool
	orderAt  time.Time       // when orders begin, if CaughtUp is not told before
	restored *store.Restored // nil: the store was never put back
	hopeless map[job.ID]bool // jobs from after the copy that cannot be made anew; under write
}

type counters struct {
	applied, dropped, logFaults atomic.Uint64
	position                    atomic.Uint64
	lag                         atomic.Int64 // nanoseconds
}

// New reads the open jobs from the store and returns a service that is ready
// for calls; nothing is sent to hosts before [Service.Run].
func New(o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits, o.Backoff = o.Limits.withDefaults(), o.Backoff.withDefaults()
	s := &Service{
		options: o, logger: o.Logger.Named("dispatch"), apply: o.Store.Apply,
		presence: o.Presence, index: newIndex(), logs: &jobLogs{dir: o.LogDir},
		wake:      make(chan struct{}, 1),
		uncertain: map[job.ID]bool{}, archives: map[line]archiveName{}, removed: map[string]time.Time{}, verified: map[string]time.Time{},
	}
	s.live.progress = map[job.ID]job.Progress{}
	s.live.hosts = map[string]hostState{}
	s.live.latest = map[track]job.Job{}
	s.orderAt, s.hopeless = s.now().Add(catchUp), map[job.ID]bool{}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("load jobs: %w", err)
	}
	if err := errors.Join(s.endOrphans(), s.endUnread()); err != nil {
		return nil, err
	}
	return s, nil
}

// load rebuilds memory from the store.
func (s *Service) load() error {
	marker, found, err := s.options.Store.Restored()
	if err != nil {
		return err
	}
	if found {
		s.restored = &marker
	}
	position, err := s.options.Store.StreamPosition()
	if err != nil {
		return err
	}
	s.counters.position.Store(position)
	hosts, err := s.options.Store.Hosts()
	if err != nil {
		return err
	}
	for _, h := range hosts {
		known := hostState{SealKey: h.SealKey, Set: slotsSet(h)}
		if h.Facts != nil {
			known.Slots = h.Facts.Slots
			s.presence.seed(h.Name, h.Facts.SeenAt, h.Facts.StartedAt)
		}
		s.live.hosts[h.Name] = known
	}
	open, err := s.options.Store.OpenJobs()
	if err != nil {
		return err
	}
	for _, j := range open {
		if err := s.reload(j); err != nil {
			return err
		}
	}
	return s.loadLatest()
}

func (s *Service) now() time.Time { return s.options.Now().UTC() }

// stir makes Run look at the queue again.
func (s *Service) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// later hands a task to Run, which runs it on a goroutine of its own.
func (s *Service) later(task func(context.Context)) {
	s.tasks.Lock()
	s.tasks.waiting = append(s.tasks.waiting, task)
	s.tasks.Unlock()
	s.stir()
}

// intervals of what Run does besides dispatching.
const (
	pruneEvery = time.Hour
	retryWrite = 5 * time.Second // after the store has failed
	lookAgain  = 5 * time.Second // at the latest: clocks may jump, which no timer notices
)

// Run dispatches until ctx ends. Everything that is sent to hosts is sent from
// here, each message on its own goroutine, so that a slow host keeps nobody
// waiting. Run returns when all of them have ended.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.keepHouse(ctx) })
	s.stir()
	for {
		next := earliest(s.pump(), s.now().Add(lookAgain))
		s.tasks.Lock()
		tasks := s.tasks.waiting
		s.tasks.waiting = nil
		s.tasks.Unlock()
		for _, task := range tasks {
			running.Go(func() { task(ctx) })
		}
		if !s.sleep(ctx, next) {
			return ctx.Err()
		}
	}
}

// sleep waits for a wake-up, or until next unless that is zero. It reports
// whether to go on.
func (s *Service) sleep(ctx context.Context, next time.Time) bool {
	var timer <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(max(0, next.Sub(s.now())))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-s.wake:
	case <-timer:
	}
	return ctx.Err() == nil
}

// keepHouse does what has no hurry: compress logs that an earlier life left
// behind, drop old history.
func (s *Service) keepHouse(ctx context.Context) {
	s.compressLeftovers()
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		s.pruneHistory()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// HostConnected notes a connection of a host to the bus. It may be repeated.
func (s *Service) HostConnected(host string) {
	if s.presence.connected(host) {
		s.hostChanged(host)
	}
}

// HostDisconnected notes that the last one has ended.
func (s *Service) HostDisconnected(host string) {
	if s.presence.disconnected(host) {
		s.logger.Info("host disconnected", "host", host)
		s.hostChanged(host)
	}
}

func (s *Service) hostChanged(host string) {
	s.options.Feed.Publish(feed.Update{Type: feed.HostChanged, Host: host})
	s.stir()
}

// failure makes any error one that an edge can show, and logs those that are
// our own fault.
func (s *Service) failure(doing string, err error) *job.Failure {
	f := job.AsFailure(err)
	if errors.Is(err, syscall.ENOSPC) {
		s.logger.Error(doing, "err", err)
		return job.Fail(job.Unavailable, "%s: %s", doing, syscall.ENOSPC).
			WithHint("make space on the disk with the coordinator's data; running jobs go on, and it works again by itself")
	}
	if f.Code == job.Internal {
		s.logger.Error(doing, "err", err)
		return job.Fail(job.Unavailable, "%s: %s", doing, err).
			WithHint("the coordinator cannot write its database now; nothing is known to have changed; see its log")
	}
	return f
}

package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Jobs takes the jobs of runs. Safe for concurrent use.
type Jobs interface {
	// SubmitPlanned stores all jobs in one transaction, and says in the same order
	// what became of each. The same idempotency keys bring the same jobs. After an
	// error nothing is known: ask again.
	SubmitPlanned(ctx context.Context, by fleet.Actor, planned []fleet.Planned) ([]fleet.Submitted, error)
	// Cancel asks to end a job. Repeats have no further effect.
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
}

// RunListener is told of runs, after they are stored, from one goroutine. It must
// not block.
type RunListener interface {
	Started(fleet.Run)
	Ended(fleet.Run)
}

// Options are what a [Service] is made of. All but Runs and Now are needed.
type Options struct {
	Store  *store.Store
	Jobs   Jobs
	Feed   *feed.Feed
	Runs   RunListener // nil: nobody is told
	Logger hclog.Logger
	Now    func() time.Time // default time.Now
}

// Service is the one owner of plans and their runs. Its methods are safe for
// concurrent use. Errors that a caller can do something about are *job.Failure.
type Service struct {
	options Options
	logger  hclog.Logger
	apply   func(...store.Change) (uint64, error)
	since   time.Time // when the service began: what was due before was missed
	wake    chan struct{}

	work   sync.Mutex // held by whoever changes plans or runs, from reading to having told
	toldAt time.Time  // when freshness was last looked at; under work
	stale  bool       // what is in memory may not be what is stored; under work

	mem struct { // what is known of the store
		sync.RWMutex
		memory
	}
	inbox struct { // what the feed has told, and nobody has looked at
		sync.Mutex
		news
	}
}

// New reads plans, their runs and their tracks from the store, and returns a
// service that is ready for calls; nothing is due before [Service.Run].
func New(o Options) (*Service, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{options: o, logger: o.Logger.Named("plan"), apply: o.Store.Apply, wake: make(chan struct{}, 1)}
	s.since = s.now()
	s.inbox.news = newNews()
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("load plans: %w", err)
	}
	return s, nil
}

func (s *Service) now() time.Time { return s.options.Now().UTC() }

// stir makes Run look again.
func (s *Service) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Intervals of Run.
const (
	lookAgain  = 5 * time.Second // at the latest: clocks may jump, which no timer notices
	retryWrite = 5 * time.Second // after the store, or whoever takes the jobs, has failed
)

// Run follows schedules and runs until ctx ends, and returns its error.
func (s *Service) Run(ctx context.Context) error {
	var listening sync.WaitGroup
	defer listening.Wait()
	watcher := s.options.Feed.Watch()
	listening.Go(func() { s.listen(ctx, watcher) })
	s.inbox.Lock()
	s.inbox.note(feed.Update{Type: feed.Missed}) // since New, somebody may have changed something
	s.inbox.Unlock()
	for {
		next := s.turn(ctx)
		timer := time.NewTimer(max(0, next.Sub(s.now())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listen takes in what the feed tells.
func (s *Service) listen(ctx context.Context, watcher *feed.Watcher) {
	defer watcher.Close()
	for {
		updates, err := watcher.Next(ctx)
		if err != nil {
			return
		}
		s.inbox.Lock()
		told := false
		for _, update := range updates {
			told = s.inbox.note(update) || told
		}
		s.inbox.Unlock()
		if told {
			s.stir()
		}
	}
}

// turn does what is to be done now, and returns when to look again at the latest.
func (s *Service) turn(ctx context.Context) time.Time {
	s.work.Lock()
	defer s.work.Unlock()
	now := s.now()
	if err := s.refresh(); err != nil {
		s.logger.Error("plans cannot be read; trying again", "err", err)
		return now.Add(retryWrite)
	}
	if err := s.begin(now); err != nil {
		s.logger.Error("runs cannot be started; trying again", "err", err)
		s.stale = true
		return now.Add(retryWrite)
	}
	if err := s.advanceRuns(ctx, now); err != nil {
		s.logger.Error("runs cannot be moved on; trying again", "err", err)
		s.stale = true
		return now.Add(retryWrite)
	}
	s.tellFreshness(now)
	return s.next(now)
}

// next is when something is due, at most lookAgain away.
func (s *Service) next(now time.Time) time.Time {
	s.mem.RLock()
	defer s.mem.RUnlock()
	at := now.Add(lookAgain)
	for _, e := range s.mem.plans {
		if due := e.due(); !due.IsZero() && due.Before(at) {
			at = due
		}
	}
	for _, r := range s.mem.runs {
		if !r.wake.IsZero() && r.wake.Before(at) {
			at = r.wake
		}
	}
	if at.Before(now) {
		return now
	}
	return at
}

func (s *Service) publish(plan string) {
	s.options.Feed.Publish(feed.Update{Type: feed.PlanChanged, Plan: plan})
}

// failure makes any error one that an edge can show, and logs those that are our
// own fault.
func (s *Service) failure(doing string, err error) *job.Failure {
	f := job.AsFailure(err)
	if f.Code != job.Internal {
		return f
	}
	s.logger.Error(doing, "err", err)
	if errors.Is(err, syscall.ENOSPC) {
		return job.Fail(job.Unavailable, "%s: %s", doing, syscall.ENOSPC).WithHint("make space on the disk with the coordinator's data")
	}
	return job.Fail(job.Unavailable, "%s: %s", doing, err).
		WithHint("the coordinator cannot read or write its database now; nothing is known to have changed; see its log")
}

// Package alert turns conditions, which hold or do not, into alerts, which are
// raised once and resolved once, and are remembered. It owns alerts and silences.
//
// Everything is level-triggered: what is raised and resolved follows from what
// holds now and what is stored, so that nothing depends on an event having been
// seen.
package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/hashicorp/go-hclog"
)

const (
	tick   = 10 * time.Second // conditions are looked at so often, whatever happens
	settle = 30 * time.Second // after a start, before what does not hold is believed gone
	soon   = time.Second      // after something has changed
	// steady is how long a sentence that only counts on stays as it is stored.
	steady = 15 * time.Minute
	// keepResolved is how many alerts are remembered that do not hold.
	keepResolved = 10_000
	pruneEvery   = time.Hour
)

// Options are what a service works with. All but Now are required.
type Options struct {
	Store *store.Store
	Feed  *feed.Feed
	// Conditions returns all that holds now. It is called by one goroutine. After an
	// error everything stays as it is.
	Conditions func(ctx context.Context) ([]fleet.Condition, error)
	Logger     hclog.Logger
	Now        func() time.Time // default time.Now
}

// Service raises and resolves alerts. It is safe for concurrent use.
type Service struct {
	options Options
	store   *store.Store
	logger  hclog.Logger
	wake    chan struct{}

	mu       sync.Mutex
	open     map[string]fleet.Alert // by key of the condition: what is stored and holds
	updated  map[string]time.Time   // by id: when its sentence was stored last
	silences []fleet.Silence        // what is stored
	pruned   time.Time
}

// New returns a service of what the store holds. Nothing is raised before Run.
func New(options Options) (*Service, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	s := &Service{options: options, store: options.Store, logger: options.Logger.Named("alert"), wake: make(chan struct{}, 1)}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	return s, nil
}

// load reads memory from the store. The caller holds mu, or is alone.
func (s *Service) load() error {
	alerts, err := s.store.OpenAlerts()
	if err != nil {
		return err
	}
	s.open, s.updated = map[string]fleet.Alert{}, map[string]time.Time{}
	for _, alert := range alerts {
		s.open[alert.Key()] = alert.Alert
	}
	s.silences, err = s.store.Silences()
	return err
}

// apply stores changes. After an ambiguous error memory is read again, so that it
// says what the disk says. The caller holds mu, and changes memory afterwards.
func (s *Service) apply(changes ...store.Change) error {
	_, err := s.store.Apply(changes...)
	if errors.Is(err, store.ErrAmbiguous) {
		err = errors.Join(err, s.load())
	}
	return err
}

// Run looks at the conditions every now and then, and soon after something has
// changed, until the context ends, whose error it returns.
func (s *Service) Run(ctx context.Context) error {
	watcher := s.options.Feed.Watch()
	defer watcher.Close()
	go s.follow(ctx, watcher)
	settled := time.Now().Add(settle)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-s.wake:
			if !pause(ctx, soon) {
				return ctx.Err()
			}
		}
		if err := s.evaluate(ctx, !time.Now().Before(settled)); err != nil && ctx.Err() == nil {
			s.logger.Error("alerts could not be brought up to date", "err", err)
		}
		timer.Reset(tick)
	}
}

// follow wakes Run when something has changed that conditions are about.
func (s *Service) follow(ctx context.Context, watcher *feed.Watcher) {
	for {
		batch, err := watcher.Next(ctx)
		if err != nil {
			return
		}
		for _, update := range batch {
			if telling(update) {
				s.prod()
				break
			}
		}
	}
}

// telling reports whether conditions may be others after an update.
func telling(update feed.Update) bool {
	switch update.Type {
	case feed.JobChanged:
		return update.Job.State.Terminal()
	case feed.HostChanged, feed.RepositoryChanged, feed.PlanChanged, feed.Missed:
		return true
	}
	return false
}

// prod lets Run look soon.
func (s *Service) prod() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// pause waits, and reports whether the context still lives.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Alerts returns one page of alerts: those that hold first, then newest first.
// The error is a *job.Failure when the filter is at fault.
func (s *Service) Alerts(_ context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error) {
	return s.store.Alerts(filter)
}

// Alert returns an alert. The error is a *job.Failure if it is not there.
func (s *Service) Alert(_ context.Context, id string) (fleet.Alert, error) {
	alert, found, err := s.store.Alert(id)
	if err == nil && !found {
		err = job.Fail(job.NotFound, "there is no alert %q", id).WithHint("borgfleet alert list shows all")
	}
	return alert.Alert, err
}

// Package notify tells people and programs of alerts and of runs of plans: rules
// choose what goes to which targets, and what is to be sent is stored before it is
// sent. A crash may repeat a message, and never loses one. It owns targets, rules
// and deliveries.
package notify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/secret"
	"github.com/hashicorp/go-hclog"
)

// Vault encrypts addresses at rest. It is safe for concurrent use.
type Vault interface {
	Encrypt(value secret.Value) ([]byte, error)
	Decrypt(ciphertext []byte) (secret.Value, error)
}

// Options are what a service works with. All but URL, Now and Client are required.
type Options struct {
	Store  *store.Store
	Vault  Vault
	Feed   *feed.Feed
	URL    string // of the page, for links in messages; empty: there are none
	Logger hclog.Logger
	Now    func() time.Time // default time.Now
	Client *http.Client     // of webhooks and pings; default: one that goes to no address that only this machine's own network knows
}

// Service sends notifications. It is safe for concurrent use.
type Service struct {
	options Options
	store   *store.Store
	logger  hclog.Logger
	client  *http.Client
	wake    chan struct{}

	changing sync.Mutex // held while targets or rules are changed

	mu      sync.Mutex
	targets map[string]*target
	rules   []fleet.Rule            // what is stored, by name
	alerts  map[string]*store.Alert // by id: those of which something may have to be told
	runs    []fleet.Run             // that began or ended, and of which nothing is put down yet
	passed  []string                // ids of runs that ended, of which nobody wants to know
	pruned  time.Time
}

const (
	tick       = 5 * time.Second // what is to be told is looked at so often, whatever happens
	pruneEvery = time.Hour
)

// New returns a service of what the store holds. Nothing is sent before Run.
func New(options Options) (*Service, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Client == nil {
		options.Client = newClient()
	}
	s := &Service{
		options: options, store: options.Store, logger: options.Logger.Named("notify"), client: options.Client,
		wake: make(chan struct{}, 1), targets: map[string]*target{}, alerts: map[string]*store.Alert{},
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("read notifications: %w", err)
	}
	untold, err := options.Store.UntoldRuns()
	if err != nil {
		return nil, fmt.Errorf("read runs that nobody was told of: %w", err)
	}
	for _, run := range untold {
		s.ran(run.Run)
	}
	return s, nil
}

// load makes memory what the store holds. The caller holds mu, or is alone.
func (s *Service) load() error {
	targets, err := s.store.Targets()
	if err != nil {
		return err
	}
	if s.rules, err = s.store.Rules(); err != nil {
		return err
	}
	pending, err := s.store.OpenDeliveries()
	if err != nil {
		return err
	}
	records := map[string]store.Target{}
	for _, record := range targets {
		records[record.Name] = record
	}
	s.follow(records)
	for name, t := range s.targets {
		t.record, t.pending = records[name], nil
	}
	for _, d := range pending {
		if t, known := s.targets[d.Target]; known {
			t.pending = append(t.pending, d)
		}
	}
	return s.loadAlerts()
}

// loadAlerts reads every alert of which something may have to be told. The caller
// holds mu, or is alone.
func (s *Service) loadAlerts() error {
	alerts, err := s.store.AllAlerts()
	if err != nil {
		return err
	}
	clear(s.alerts)
	for _, alert := range alerts {
		if s.outstanding(&alert) {
			s.alerts[alert.ID] = &alert
		}
	}
	return nil
}

// Run puts down what is to be told, and sends it, until the context ends, whose
// error it returns. What is under way then is sent again after the next start.
func (s *Service) Run(ctx context.Context) error {
	watcher := s.options.Feed.Watch()
	defer watcher.Close()
	var workers sync.WaitGroup
	defer workers.Wait()
	if err := s.take([]feed.Update{{Type: feed.Missed}}); err != nil { // what was raised since New
		return fmt.Errorf("read alerts: %w", err)
	}
	workers.Go(func() { s.watch(ctx, watcher) })
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		if err := s.round(); err != nil {
			s.logger.Error("notifications could not be put down", "err", err)
		}
		s.employ(ctx, &workers)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), s.round()) // runs that are not put down yet
		case <-s.wake:
		case <-ticker.C:
		}
	}
}

// employ gives every target that has none a goroutine that sends what waits for
// it, so that none delays another.
func (s *Service) employ(ctx context.Context, workers *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.targets {
		if !t.working {
			t.working = true
			workers.Go(func() { s.work(ctx, t) })
		}
	}
}

// round looks once at what is to be told, and puts it down.
func (s *Service) round() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.options.Now().UTC()
	r, err := s.look(now)
	if err != nil {
		return err
	}
	if now.Sub(s.pruned) >= pruneEvery {
		r.changes = append(r.changes, store.PruneDeliveries(keepDeliveries))
		s.pruned = now
	}
	err = s.put(r)
	if errors.Is(err, store.ErrAmbiguous) {
		err = errors.Join(err, s.load())
	}
	return err
}

// watch follows the alerts.
func (s *Service) watch(ctx context.Context, watcher *feed.Watcher) {
	for {
		batch, err := watcher.Next(ctx)
		if err != nil {
			return
		}
		if err := s.take(batch); err != nil {
			s.logger.Error("alerts could not be read", "err", err)
		}
	}
}

// take reads again the alerts that have changed.
func (s *Service) take(batch []feed.Update) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var faults []error
	for _, update := range batch {
		switch update.Type {
		case feed.Missed:
			faults = append(faults, s.loadAlerts())
		case feed.AlertChanged:
			alert, found, err := s.store.Alert(update.Alert.ID)
			if faults = append(faults, err); found && err == nil {
				s.alerts[alert.ID] = &alert
			}
		default:
			continue
		}
		s.prod()
	}
	return errors.Join(faults...)
}

// prod lets Run look at once.
func (s *Service) prod() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

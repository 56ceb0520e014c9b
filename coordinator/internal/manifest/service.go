package manifest

import (
	"context"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// Fleet changes many hosts and repositories at once. It is safe for concurrent
// use; faults are joined, each a *fleet.ObjectError, and after one nothing has
// changed.
type Fleet interface {
	CheckFleet(ctx context.Context, change fleet.FleetChange) error
	// ChangeFleet makes the change and others in one transaction.
	ChangeFleet(ctx context.Context, by fleet.Actor, change fleet.FleetChange, also ...store.Change) error
}

// Plans keeps the plans. It is safe for concurrent use; faults are joined, each a
// *fleet.ObjectError of plan/NAME whose cause begins with the field.
type Plans interface {
	// Specs returns what people have said of each plan, by name.
	Specs(ctx context.Context) (map[string]fleet.PlanSpec, error)
	// CheckPlans finds what would be wrong if plans were put and removed while
	// hosts and repositories were these. Plans that stay are looked at, too.
	CheckPlans(ctx context.Context, put map[string]fleet.PlanSpec, remove []string, world fleet.World) error
	// ApplyPlans puts and removes plans in one transaction.
	ApplyPlans(ctx context.Context, by fleet.Actor, put map[string]fleet.PlanSpec, remove []string) error
}

// Notifications keeps targets and rules of notifications. It is safe for
// concurrent use; its faults are joined, each a *job.Failure that begins with the
// whole path of the field: notify.targets.ops.url.
type Notifications interface {
	Targets(ctx context.Context) ([]fleet.Target, error)
	Rules(ctx context.Context) ([]fleet.Rule, error)
	// Compare makes the checks of Apply, and returns what it would do: action (add,
	// change, remove) and object (target/ops).
	Compare(ctx context.Context, targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) ([][2]string, error)
	// Apply puts all of them, and with prune removes the others.
	Apply(ctx context.Context, by fleet.Actor, targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) error
}

// Options are what a service works with. All are required.
type Options struct {
	Store  *store.Store
	Fleet  Fleet
	Plans  Plans
	Notify Notifications
	Logger hclog.Logger
}

// Service applies texts, and writes them. It is safe for concurrent use; texts are
// applied one after the other.
type Service struct {
	options Options
	logger  hclog.Logger
	mu      sync.Mutex
}

// New returns a service.
func New(options Options) *Service {
	return &Service{options: options, logger: options.Logger.Named("manifest")}
}

// state is what there is now.
type state struct {
	hosts        map[string]fleet.Host
	repositories map[string]fleet.Repository
	plans        map[string]fleet.PlanSpec
	targets      map[string]fleet.Target
	rules        map[string]fleet.Rule
	notes        map[string]store.ManifestNote
}

// read returns what there is now.
func (s *Service) read(ctx context.Context) (state, error) {
	st := state{
		hosts: map[string]fleet.Host{}, repositories: map[string]fleet.Repository{},
		targets: map[string]fleet.Target{}, rules: map[string]fleet.Rule{},
	}
	hosts, err := s.options.Store.Hosts()
	if err != nil {
		return st, fmt.Errorf("read hosts: %w", err)
	}
	for _, host := range hosts {
		st.hosts[host.Name] = host
	}
	repositories, err := s.options.Store.Repositories()
	if err != nil {
		return st, fmt.Errorf("read repositories: %w", err)
	}
	for _, repository := range repositories {
		st.repositories[repository.Name] = repository
	}
	if st.notes, err = s.options.Store.ManifestNotes(); err != nil {
		return st, fmt.Errorf("read notes of manifests: %w", err)
	}
	if st.plans, err = s.options.Plans.Specs(ctx); err != nil {
		return st, fmt.Errorf("read plans: %w", err)
	}
	return st, s.readNotify(ctx, &st)
}

func (s *Service) readNotify(ctx context.Context, st *state) error {
	targets, err := s.options.Notify.Targets(ctx)
	if err != nil {
		return fmt.Errorf("read targets: %w", err)
	}
	for _, target := range targets {
		st.targets[target.Name] = target
	}
	rules, err := s.options.Notify.Rules(ctx)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	for _, rule := range rules {
		st.rules[rule.Name] = rule
	}
	return nil
}

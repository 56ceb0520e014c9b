package plan_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var alice = fleet.Actor{Name: "operator:alice", Role: bus.Admin, From: "test"}

// simulation is a coordinator with its store, dispatch and plans as they are, and
// hosts that only say what they did. Its clock is the bubble's, moved to a week
// that has something to it.
type simulation struct {
	t       testing.TB
	dir     string
	offset  atomic.Int64 // nanoseconds by which its clock is ahead
	mu      sync.Mutex
	hosts   map[string]*machine
	stream  []bus.Event
	told    int
	jobs    *dispatch.Service // nil: the coordinator is down
	plans   *plan.Service
	store   *store.Store
	changes *feed.Feed
	stop    func()
	blow    *blow // what is to go wrong next
	dead    bool  // the coordinator stores nothing more, and is about to be killed
	died    chan struct{}
	over    chan struct{}
	fate    func(*machine, bus.Order) fate // nil: all goes well
}

// simulate makes hosts web01, web02, … and two repositories, at a moment.
func simulate(t testing.TB, count int, from time.Time) *simulation {
	t.Helper()
	s := &simulation{t: t, dir: t.TempDir(), hosts: map[string]*machine{}, died: make(chan struct{}, 1), over: make(chan struct{})}
	s.offset.Store(int64(time.Until(from)))
	s.open()
	var changes []store.Change
	for i := range count {
		name := fmt.Sprintf("web%02d", i+1)
		changes = append(changes, store.CreateHost(fleet.Host{Name: name, Mode: fleet.ModeAgent, CreatedAt: from, Labels: map[string]string{"role": "web"}}))
		s.hosts[name] = &machine{name: name, on: true, attempts: map[string]*attempt{}, files: 14_000}
	}
	for _, name := range []string{"main", "second"} {
		changes = append(changes, store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: name, Location: "ssh://borg@" + name + ".example.net/./repo"}}))
	}
	if _, err := s.store.Apply(changes...); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() {
		s.kill()
		close(s.over)
	})
	return s
}

func (s *simulation) now() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }

func (s *simulation) open() {
	s.t.Helper()
	opened, err := store.Open(filepath.Join(s.dir, "store.db"), hclog.NewNullLogger())
	if err != nil {
		s.t.Fatal(err)
	}
	s.store = opened
}

// start is the start of a coordinator on what is stored.
func (s *simulation) start() {
	s.t.Helper()
	changes, presence := feed.New(), dispatch.NewPresence(s.now)
	jobs, err := dispatch.New(dispatch.Options{
		Store: s.store, Link: s, Registry: s, Presence: presence, Feed: changes, LogDir: filepath.Join(s.dir, "logs"),
		Limits: dispatch.Limits{Running: 50, PerHost: 1, PerStore: 50, Expire: 7 * 24 * time.Hour}, Logger: hclog.NewNullLogger(), Now: s.now,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	jobs.CaughtUp()
	plans, err := plan.New(plan.Options{Store: s.store, Jobs: crashing{jobs, s}, Feed: changes, Runs: s, Logger: hclog.NewNullLogger(), Now: s.now})
	if err != nil {
		s.t.Fatal(err)
	}
	plans.WrapApply(s.storing)
	s.mu.Lock()
	s.jobs, s.plans, s.changes, s.dead = jobs, plans, changes, false
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = jobs.Run(ctx) })  // ctx's error
	running.Go(func() { _ = plans.Run(ctx) }) // ctx's error
	running.Go(func() { s.beat(ctx, jobs) })
	s.stop = func() {
		cancel()
		running.Wait()
	}
}

// kill ends the coordinator.
func (s *simulation) kill() {
	s.mu.Lock()
	s.jobs = nil
	s.mu.Unlock()
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	if err := s.store.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *simulation) restart() {
	s.t.Helper()
	s.kill()
	s.open()
	s.start()
}

// beat keeps hosts present, and hands over what they have told.
func (s *simulation) beat(ctx context.Context, jobs *dispatch.Service) {
	for _, m := range s.machines() {
		s.hello(jobs, m)
	}
	ticker := time.NewTicker(20 * time.Second)
	defer ticker.Stop()
	for {
		s.deliver(jobs)
		for _, m := range s.machines() {
			if s.isOn(m) {
				jobs.HostConnected(m.name)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *simulation) machines() []*machine {
	return slices.SortedFunc(maps.Values(s.hosts), func(a, b *machine) int { return cmpText(a.name, b.name) })
}

func (s *simulation) isOn(m *machine) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return m.on
}

// turn switches a host on or off.
func (s *simulation) turn(name string, on bool) {
	s.t.Helper()
	m := s.hosts[name]
	s.mu.Lock()
	m.on = on
	jobs := s.jobs
	s.mu.Unlock()
	if jobs == nil {
		return
	}
	if on {
		s.hello(jobs, m)
	} else {
		jobs.HostDisconnected(name)
	}
}

func (s *simulation) hello(jobs *dispatch.Service, m *machine) {
	s.mu.Lock()
	if !m.on {
		s.mu.Unlock()
		return
	}
	s.stream, m.untold = append(s.stream, m.untold...), nil
	hello := bus.Hello{Host: m.name, AgentVersion: "1", BorgVersion: "1.2.4", Slots: 1, At: s.now(), Stamp: bus.Stamp{Journal: "journal", Revision: m.revision}}
	for _, a := range m.attempts {
		hello.Attempts = append(hello.Attempts, bus.HostAttempt{Job: a.order.Job, Attempt: a.order.Attempt, LastSeq: a.last, Finished: a.over})
	}
	hello.JournalDepth = len(s.stream) - s.told
	s.mu.Unlock()
	if _, err := jobs.HandleHello(context.Background(), hello); err != nil {
		s.t.Errorf("hello of %s: %v", m.name, err)
	}
}

// deliver hands over what was told and not taken in yet.
func (s *simulation) deliver(jobs *dispatch.Service) {
	s.mu.Lock()
	var batch []bus.StreamEvent
	for i := s.told; i < len(s.stream); i++ {
		batch = append(batch, bus.StreamEvent{Sequence: uint64(i + 1), Event: s.stream[i]})
	}
	end := len(s.stream)
	s.mu.Unlock()
	if len(batch) == 0 || jobs.HandleEvents(context.Background(), batch) != nil {
		return
	}
	s.mu.Lock()
	s.told = max(s.told, end)
	s.mu.Unlock()
}

// UpdateFacts implements dispatch.Registry.
func (s *simulation) UpdateFacts(context.Context, string, fleet.Facts, string) error { return nil }

// Hosts implements dispatch.Registry.
func (s *simulation) Hosts(context.Context) ([]fleet.HostView, error) { return nil, nil }

// Passphrase implements dispatch.Registry.
func (s *simulation) Passphrase(context.Context, string) (secret.Value, error) {
	return secret.Value{}, nil
}

// Started implements plan.RunListener.
func (s *simulation) Started(fleet.Run) {}

// Ended implements plan.RunListener.
func (s *simulation) Ended(fleet.Run) {}

// until lets time pass.
func (s *simulation) until(at time.Time) {
	s.t.Helper()
	if d := at.Sub(s.now()); d > 0 {
		time.Sleep(d)
	}
	synctest.Wait()
}

func (s *simulation) add(name string, spec fleet.PlanSpec) {
	s.t.Helper()
	if _, err := s.plans.AddPlan(context.Background(), alice, name, spec); err != nil {
		s.t.Fatal(err)
	}
}

// runs returns all runs of a plan, oldest first.
func (s *simulation) runs(name string) []fleet.Run {
	s.t.Helper()
	page, err := s.plans.PlanRuns(context.Background(), fleet.RunFilter{Plan: name, Limit: store.MaxPlanRuns})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Reverse(page.Runs)
	return page.Runs
}

// conditions returns what is wrong now: kind, plan and host.
func (s *simulation) conditions() []string {
	found := []string{}
	for _, c := range s.plans.Conditions() {
		found = append(found, c.Kind+" "+c.Plan+" "+c.Host)
	}
	slices.Sort(found)
	return found
}

// backups returns how many backups of a plan a host has run.
func (s *simulation) backups(host, name string) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.hosts[host].ran {
		if r.Kind == job.Backup && r.Plan == name {
			count++
		}
	}
	return count
}

func cmpText(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

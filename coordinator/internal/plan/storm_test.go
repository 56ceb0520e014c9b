package plan_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
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

// crowd is hosts that take every order, and counts what they are ordered. It is
// also the registry, and stands between plans and dispatch.
type crowd struct {
	*dispatch.Service
	submitted, ordered atomic.Int64
	asked, all         chan struct{} // closed when every job was submitted, and ordered
}

func (c *crowd) Order(context.Context, string, bus.Order) (bus.OrderReply, error) {
	if c.ordered.Add(1) == manyPlans {
		close(c.all)
	}
	return bus.OrderReply{Accepted: true, Stamp: bus.Stamp{Journal: "journal", Revision: 1}}, nil
}

// crowdLink is the crowd as dispatch sees it: its link, and its registry.
type crowdLink struct{ *crowd }

func (crowdLink) Cancel(context.Context, string, bus.Cancel) (bus.CancelReply, error) {
	return bus.CancelReply{}, nil
}

func (crowdLink) Present(context.Context, string, string) bool { return true }

func (crowdLink) UpdateFacts(context.Context, string, fleet.Facts, string) error { return nil }

func (crowdLink) Hosts(context.Context) ([]fleet.HostView, error) { return nil, nil }

func (crowdLink) Passphrase(context.Context, string) (secret.Value, error) {
	return secret.Value{}, nil
}

func (c *crowd) SubmitPlanned(ctx context.Context, by fleet.Actor, planned []fleet.Planned) ([]fleet.Submitted, error) {
	answers, err := c.Service.SubmitPlanned(ctx, by, planned)
	if err == nil && c.submitted.Add(int64(len(planned))) == manyPlans {
		close(c.asked)
	}
	return answers, err
}

// gather makes a store with as many hosts, repositories and plans as are due at
// 02:00, and dispatch with every host there.
func gather(b *testing.B, now func() time.Time) (*store.Store, *crowd, *feed.Feed) {
	b.Helper()
	s := withPlans(b, manyPlans, monday)
	var changes []store.Change
	for i := range manyPlans {
		name := fmt.Sprintf("main%05d", i)
		spec := nightly()
		spec.Selector, spec.Hosts, spec.Repositories = nil, []string{fmt.Sprintf("host%05d", i)}, []string{name}
		spec.Schedule = &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin"}
		changes = append(changes,
			store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: name, Location: "ssh://borg@" + name + ".example.net/./repo"}}),
			store.ChangePlan(fleet.Plan{Name: "plan-" + spec.Hosts[0], PlanSpec: spec, CreatedAt: monday, ChangedAt: monday}))
	}
	if _, err := s.Apply(changes...); err != nil {
		b.Fatal(err)
	}
	c, changed := &crowd{asked: make(chan struct{}), all: make(chan struct{})}, feed.New()
	jobs, err := dispatch.New(dispatch.Options{
		Store: s, Link: crowdLink{c}, Registry: crowdLink{c}, Presence: dispatch.NewPresence(now), Feed: changed,
		LogDir: filepath.Join(b.TempDir(), "logs"), Limits: dispatch.Limits{Running: 2 * manyPlans}, Logger: hclog.NewNullLogger(), Now: now,
	})
	if err != nil {
		b.Fatal(err)
	}
	c.Service = jobs
	jobs.CaughtUp()
	for i := range manyPlans {
		hello := bus.Hello{Host: fmt.Sprintf("host%05d", i), AgentVersion: "1", BorgVersion: "1.2.4", Slots: 1, At: now(), Stamp: bus.Stamp{Journal: "journal", Revision: 1}}
		if _, err := jobs.HandleHello(context.Background(), hello); err != nil {
			b.Fatal(err)
		}
	}
	return s, c, changed
}

// BenchmarkStorm has 10,000 plans due at once, with dispatch and a store as they
// are: from the due time until the last of their jobs is submitted, and until the
// last host has its order. The same number of jobs, submitted by one call, is what
// it is measured by.
func BenchmarkStorm(b *testing.B) {
	b.Run("submit", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			_, c, _ := gather(b, func() time.Time { return day(0, "01:00") })
			planned := make([]fleet.Planned, manyPlans)
			for i := range planned {
				planned[i] = fleet.Planned{Run: string(job.NewID(monday)), Request: job.Request{
					Host: fmt.Sprintf("host%05d", i), Repository: fmt.Sprintf("main%05d", i), Kind: job.Backup, Plan: fmt.Sprintf("plan-host%05d", i),
					Spec: []byte(`{"paths":["/srv"]}`), IdempotencyKey: fmt.Sprintf("run/%d", i),
				}}
			}
			b.StartTimer()
			if answers, err := c.SubmitPlanned(context.Background(), alice, planned); err != nil || answers[0].Err != nil {
				b.Fatal(err, answers[0].Err)
			}
		}
	})
	b.Run("due", func(b *testing.B) {
		var submitted, ordered time.Duration
		for b.Loop() {
			b.StopTimer()
			one, other := storm(b)
			submitted, ordered = submitted+one, ordered+other
			b.StartTimer()
		}
		b.ReportMetric(float64(submitted.Milliseconds())/float64(b.N), "submitted-ms")
		b.ReportMetric(float64(ordered.Milliseconds())/float64(b.N), "ordered-ms")
	})
}

// storm returns how long after the due time the last job was submitted, and ordered.
func storm(b *testing.B) (submitted, ordered time.Duration) {
	b.Helper()
	var offset atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	due := day(0, "01:00")
	offset.Store(int64(time.Until(due.Add(-time.Hour))))
	s, c, changed := gather(b, now)
	offset.Store(int64(time.Until(due.Add(-3 * time.Second)))) // it has the time to look around
	for i := range manyPlans {
		c.HostConnected(fmt.Sprintf("host%05d", i))
	}
	plans, err := plan.New(plan.Options{Store: s, Jobs: c, Feed: changed, Logger: hclog.NewNullLogger(), Now: now})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })     // ctx's error
	running.Go(func() { _ = plans.Run(ctx) }) // ctx's error
	<-c.asked
	submitted = now().Sub(due)
	<-c.all
	ordered = now().Sub(due)
	cancel()
	running.Wait()
	return submitted, ordered
}

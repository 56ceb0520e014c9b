package plan_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

const manyPlans = 10_000

// taker takes every job at once.
type taker struct {
	taken   atomic.Int64
	refuses atomic.Pointer[job.Failure] // every job, as long as it is set
}

func (t *taker) SubmitPlanned(_ context.Context, _ fleet.Actor, planned []fleet.Planned) ([]fleet.Submitted, error) {
	answers := make([]fleet.Submitted, len(planned))
	if f := t.refuses.Load(); f != nil {
		for i := range answers {
			answers[i].Err = f
		}
		return answers, nil
	}
	for i, p := range planned {
		answers[i].Job = job.Job{ID: job.NewID(time.Now()), Host: p.Host, Repository: p.Repository, Kind: p.Kind, State: job.Queued, Plan: p.Plan, Run: p.Run}
	}
	t.taken.Add(int64(len(planned)))
	return answers, nil
}

func (t *taker) Cancel(context.Context, fleet.Actor, job.ID) (job.Job, error) {
	return job.Job{}, nil
}

// withPlans makes a store with a plan for each of as many hosts, each with a
// history.
func withPlans(t testing.TB, count int, from time.Time) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store.db"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	changes := []store.Change{store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: "main"}})}
	for i := range count {
		host := fmt.Sprintf("host%05d", i)
		spec := nightly()
		spec.Selector, spec.Hosts = nil, []string{host}
		spec.Schedule = &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin"}
		changes = append(changes,
			store.CreateHost(fleet.Host{Name: host, CreatedAt: from}),
			store.CreatePlan(fleet.Plan{Name: "plan-" + host, PlanSpec: spec, CreatedAt: from, ChangedAt: from}, from),
			store.NoteBackup("plan-"+host, store.Sample{BackupSummary: fleet.BackupSummary{
				Job: job.NewID(from), Host: host, Repository: "main", State: job.Succeeded, FinishedAt: from.Add(-time.Hour), NFiles: 14_000,
			}}),
		)
	}
	if _, err := s.Apply(changes...); err != nil {
		t.Fatal(err)
	}
	return s
}

func newService(t testing.TB, s *store.Store, jobs plan.Jobs, now func() time.Time) *plan.Service {
	t.Helper()
	service, err := plan.New(plan.Options{Store: s, Jobs: jobs, Feed: feed.New(), Logger: hclog.NewNullLogger(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// BenchmarkFreshness evaluates 10,000 plans: at most 50 ms a tick.
func BenchmarkFreshness(b *testing.B) {
	filled := withPlans(b, manyPlans, monday)
	service := newService(b, filled, &taker{}, func() time.Time { return monday.Add(time.Hour) })
	b.Run("read", func(b *testing.B) { // what the others are measured by
		for b.Loop() {
			if plans, err := filled.Plans(); err != nil || len(plans) != manyPlans {
				b.Fatal(len(plans), err)
			}
		}
	})
	b.Run("tick", func(b *testing.B) {
		for b.Loop() {
			service.Tick()
		}
	})
	b.Run("rows", func(b *testing.B) {
		for b.Loop() {
			if rows, err := service.Freshness(context.Background()); err != nil || len(rows) != manyPlans {
				b.Fatal(len(rows), err)
			}
		}
	})
	b.Run("conditions", func(b *testing.B) {
		for b.Loop() {
			_ = service.Conditions()
		}
	})
}

// BenchmarkDue starts 10,000 plans that are due at once: at most 1 s until the last
// of their jobs is asked for.
func BenchmarkDue(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		now := day(0, "00:59")
		jobs := &taker{}
		service := newService(b, withPlans(b, manyPlans, monday), jobs, func() time.Time { return now })
		now = day(0, "01:00")
		b.StartTimer()
		service.Turn(context.Background())
		if got := jobs.taken.Load(); got != manyPlans {
			b.Fatalf("%d jobs were asked for", got)
		}
	}
}

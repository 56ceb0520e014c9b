package alert_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/alert"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// world is what holds, as a test says it.
type world struct {
	mu    sync.Mutex
	holds []fleet.Condition
	err   error
}

func (w *world) set(conditions ...fleet.Condition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds = conditions
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *world) conditions(context.Context) ([]fleet.Condition, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.holds), w.err
}

// rig is a service that runs on a fake clock.
type rig struct {
	*alert.Service
	t     *testing.T
	store *store.Store
	feed  *feed.Feed
	world *world
	stop  func()
}

func openStore(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(path, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a service over a store until stop is called.
func start(t *testing.T, s *store.Store, w *world) *rig {
	t.Helper()
	f := feed.New()
	service, err := alert.New(alert.Options{Store: s, Feed: f, Conditions: w.conditions, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	synctest.Wait()
	return &rig{service, t, s, f, w, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}}
}

// simulate runs a test with a rig in a bubble.
func simulate(t *testing.T, test func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, filepath.Join(t.TempDir(), "db"))
		defer s.Close()
		r := start(t, s, &world{})
		defer r.stop()
		test(t, r)
	})
}

func (r *rig) list(f fleet.AlertFilter) fleet.AlertPage {
	r.t.Helper()
	page, err := r.Alerts(r.t.Context(), f)
	if err != nil {
		r.t.Fatal(err)
	}
	return page
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func overdue(plan string) fleet.Condition {
	return fleet.Condition{Kind: "overdue", Severity: fleet.SeverityCritical, Plan: plan, Host: "web1", Repository: "main", Message: plan + " is overdue"}
}

func TestAConditionIsRaisedOnceAndResolvedOnce(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		watcher := r.feed.Watch()
		defer watcher.Close()
		pass(time.Minute)
		r.world.set(overdue("daily"))
		pass(10 * time.Second)
		first := r.list(fleet.AlertFilter{}).Alerts
		if len(first) != 1 || first[0].ResolvedAt != nil || first[0].Since.IsZero() || first[0].Plan != "daily" {
			t.Fatalf("%+v", first)
		}
		pass(time.Hour)
		r.world.set()
		pass(10 * time.Second)
		page := r.list(fleet.AlertFilter{})
		if len(page.Alerts) != 1 || page.Open != 0 || page.Alerts[0].ID != first[0].ID || page.Alerts[0].ResolvedAt == nil {
			t.Fatalf("%+v", page)
		}
		r.world.set(overdue("daily"))
		pass(10 * time.Second)
		if page = r.list(fleet.AlertFilter{}); len(page.Alerts) != 2 || page.Open != 1 || page.Alerts[0].ID == first[0].ID {
			t.Fatalf("%+v", page)
		}
		batch, err := watcher.Next(t.Context())
		if err != nil || len(batch) != 2 || batch[0].Alert.ResolvedAt == nil || batch[1].Alert.ResolvedAt != nil {
			t.Errorf("%+v, %v", batch, err) // the newest of each alert
		}
	})
}

func TestAChangeIsSeenSoon(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		pass(3 * time.Second)
		r.world.set(overdue("daily"))
		r.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &job.Job{State: job.Running}})
		pass(1500 * time.Millisecond)
		if n := r.list(fleet.AlertFilter{}).Open; n != 0 {
			t.Error("a job that only began had everything looked at")
		}
		r.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &job.Job{State: job.Failed}})
		pass(1500 * time.Millisecond)
		if n := r.list(fleet.AlertFilter{}).Open; n != 1 {
			t.Errorf("%d alerts", n)
		}
	})
}

func TestNothingIsResolvedRightAfterAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, filepath.Join(t.TempDir(), "db"))
		defer s.Close()
		w := &world{}
		w.set(overdue("daily"))
		r := start(t, s, w)
		id := r.list(fleet.AlertFilter{}).Alerts[0].ID
		r.stop()
		w.set()
		r = start(t, s, w)
		defer r.stop()
		pass(20 * time.Second)
		if page := r.list(fleet.AlertFilter{}); page.Open != 1 || page.Alerts[0].ID != id {
			t.Fatalf("%+v", page)
		}
		pass(20 * time.Second)
		if page := r.list(fleet.AlertFilter{}); page.Open != 0 {
			t.Fatalf("%+v", page)
		}
	})
}

func TestWhatIsNotKnownChangesNothing(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.world.set(overdue("daily"))
		pass(time.Minute)
		r.world.set()
		r.world.fail(errors.New("disk"))
		pass(time.Minute)
		if r.list(fleet.AlertFilter{}).Open != 1 {
			t.Error("resolved though nothing was known")
		}
	})
}

func TestOfSeveralConditionsWithOneKeyTheWorstCounts(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		mild, other := overdue("daily"), overdue("weekly")
		mild.Severity, mild.Message = fleet.SeverityWarning, "mild"
		mild.Labels = map[string]string{"site": "a"}
		r.world.set(mild, overdue("daily"), mild, other)
		pass(time.Minute)
		alerts := r.list(fleet.AlertFilter{Plan: "daily"}).Alerts
		if len(alerts) != 1 || alerts[0].Severity != fleet.SeverityCritical || alerts[0].Message == "mild" || alerts[0].Labels["site"] != "a" {
			t.Errorf("%+v", alerts)
		}
		r.world.set(mild, other)
		pass(time.Minute)
		if alerts := r.list(fleet.AlertFilter{Plan: "daily"}).Alerts; len(alerts) != 1 || alerts[0].Severity != fleet.SeverityWarning {
			t.Errorf("%+v", alerts)
		}
	})
}

func TestASentenceThatOnlyCountsOnIsNotStoredEachTime(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		c := overdue("daily")
		r.world.set(c)
		pass(time.Minute)
		c.Message = "now for 37 h"
		r.world.set(c)
		before, _ := r.store.Sequence()
		pass(5 * time.Minute)
		if after, _ := r.store.Sequence(); after != before {
			t.Errorf("%d transactions", after-before)
		}
		pass(15 * time.Minute)
		if alerts := r.list(fleet.AlertFilter{}).Alerts; alerts[0].Message != "now for 37 h" {
			t.Errorf("%+v", alerts)
		}
	})
}

func TestSilences(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		by := fleet.Actor{Name: "operator:alice", From: "http 192.0.2.1"}
		r.world.set(overdue("daily"), overdue("weekly"))
		pass(time.Minute)
		silence, err := r.AddSilence(t.Context(), by, fleet.Silence{Plan: "dai*", Until: time.Now().Add(time.Hour), Reason: "moving"})
		if err != nil || silence.ID == "" || silence.By != by.Name {
			t.Fatalf("%+v, %v", silence, err)
		}
		silencers := func() map[string]string {
			all := map[string]string{}
			for _, a := range r.list(fleet.AlertFilter{}).Alerts {
				all[a.Plan] = a.Silenced
			}
			return all
		}
		if diff := cmp.Diff(map[string]string{"daily": silence.ID, "weekly": ""}, silencers()); diff != "" {
			t.Error("not quiet at once", diff)
		}
		pass(2 * time.Hour)
		if diff := cmp.Diff(map[string]string{"daily": "", "weekly": ""}, silencers()); diff != "" {
			t.Error("quiet after its end", diff)
		}
		if left, err := r.Silences(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("%+v, %v", left, err)
		}
		silence, err = r.AddSilence(t.Context(), by, fleet.Silence{Kind: "*", Until: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		r.world.set(overdue("daily"), overdue("hourly"))
		pass(time.Minute)
		if got := silencers(); got["hourly"] != silence.ID {
			t.Errorf("what is raised later is not quiet: %v", got)
		}
		if err := r.RemoveSilence(t.Context(), by, silence.ID); err != nil {
			t.Fatal(err)
		}
		if got := silencers(); got["hourly"] != "" {
			t.Errorf("quiet without a silence: %v", got)
		}
		if err := job.AsFailure(r.RemoveSilence(t.Context(), by, silence.ID)); err == nil || err.Code != job.NotFound {
			t.Errorf("%v", err)
		}
	})
}

func TestBadSilences(t *testing.T) {
	for name, test := range map[string]struct {
		silence fleet.Silence
		field   string
	}{
		"about nothing": {fleet.Silence{Until: time.Now().Add(time.Hour)}, "kind"},
		"over already":  {fleet.Silence{Host: "web1", Until: time.Now().Add(-time.Second)}, "until"},
		"for ever":      {fleet.Silence{Host: "web1", Until: time.Now().Add(1000 * 24 * time.Hour)}, "until"},
		"no glob":       {fleet.Silence{Host: "[web", Until: time.Now().Add(time.Hour)}, "host"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, filepath.Join(t.TempDir(), "db"))
			defer s.Close()
			service, err := alert.New(alert.Options{Store: s, Feed: feed.New(), Conditions: (&world{}).conditions, Logger: hclog.NewNullLogger()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = service.AddSilence(t.Context(), fleet.Actor{}, test.silence)
			if f := job.AsFailure(err); f == nil || f.Code != job.InvalidRequest || f.Message[:len(test.field)+1] != test.field+":" {
				t.Errorf("%v", err)
			}
		})
	}
}

package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// planRun is a run, numbered by the hour.
func planRun(plan string, n int, state fleet.RunState) store.PlanRun {
	due := trackStart.Add(time.Duration(n) * time.Hour)
	run := store.PlanRun{Run: fleet.Run{ID: string(job.NewID(due)), Plan: plan, Due: due, StartedAt: due, State: state, Tasks: []fleet.Task{}}}
	if state != fleet.RunRunning {
		ended := due.Add(10 * time.Minute)
		run.FinishedAt = &ended
	}
	return run
}

func TestPlansAreStored(t *testing.T) {
	s := newTracked(t)
	secret := fleet.Plan{Name: "secret", Canary: "only here", PlanSpec: fleet.PlanSpec{Hosts: []string{"web1"}}}
	apply(t, s, store.CreatePlan(secret, trackStart), store.SetPlanCursor("secret", trackStart.Add(time.Hour)), store.SetPlanCursor("gone", trackStart))
	if got, found, err := s.Plan("secret"); err != nil || !found || !cmp.Equal(got, secret) {
		t.Errorf("%v %v %s", err, found, cmp.Diff(secret, got))
	}
	if _, err := s.Apply(store.CreatePlan(secret, trackStart)); !errors.Is(err, store.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	if _, err := s.Apply(store.ChangePlan(fleet.Plan{Name: "gone"})); !errors.Is(err, store.ErrMissing) {
		t.Errorf("changed what is not there: %v", err)
	}
	cursors, err := s.PlanCursors()
	want := map[string]time.Time{"daily": trackStart, "secret": trackStart.Add(time.Hour)}
	if diff := cmp.Diff(want, cursors); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestPlanRunsInPages(t *testing.T) {
	s := newTracked(t)
	apply(t, s, store.CreatePlan(fleet.Plan{Name: "daily-db"}, trackStart))
	states := []fleet.RunState{fleet.RunSucceeded, fleet.RunFailed, fleet.RunSucceeded, fleet.RunRunning}
	for i, state := range states {
		apply(t, s, store.PutPlanRun(planRun("daily", i, state)), store.PutPlanRun(planRun("daily-db", i, state)))
	}
	hours := func(f fleet.RunFilter) (got []string) {
		for {
			page, err := s.PlanRuns(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, run := range page.Runs {
				got = append(got, fmt.Sprint(run.Plan, run.Due.Hour()-trackStart.Hour()))
			}
			if f.Cursor = page.Cursor; f.Cursor == "" {
				return got
			}
		}
	}
	for name, c := range map[string]struct {
		filter fleet.RunFilter
		want   []string
	}{
		"of a plan": {fleet.RunFilter{Plan: "daily", Limit: 3}, []string{"daily3", "daily2", "daily1", "daily0"}},
		"of all":    {fleet.RunFilter{State: fleet.RunRunning, Limit: 5}, []string{"daily3", "daily-db3"}},
		"of a time": {fleet.RunFilter{Plan: "daily", Since: trackStart.Add(2 * time.Hour), Limit: 1}, []string{"daily3", "daily2"}},
		"of a kind": {fleet.RunFilter{Plan: "daily-db", State: fleet.RunSucceeded, Limit: 1}, []string{"daily-db2", "daily-db0"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := hours(c.filter)
			if name == "of all" && len(got) == 2 && got[0] == c.want[1] { // of one moment: in any order
				got[0], got[1] = got[1], got[0]
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := s.PlanRuns(fleet.RunFilter{Cursor: "x"}); job.AsFailure(err).Code != job.InvalidRequest {
		t.Errorf("a cursor from nowhere: %v", err)
	}
}

func TestOldRunsGo(t *testing.T) {
	s := newTracked(t)
	open := planRun("daily", 0, fleet.RunRunning)
	apply(t, s, store.PutPlanRun(open))
	for i := range store.MaxPlanRuns + 20 {
		apply(t, s, store.PutPlanRun(planRun("daily", i+1, fleet.RunSucceeded)))
	}
	marks, err := s.RunMarks("daily", 1000)
	if err != nil || len(marks) != store.MaxPlanRuns+1 || marks[0].ID != open.ID || marks[1].Seconds != 600 {
		t.Errorf("%d marks, the first %+v, %v", len(marks), marks[0], err)
	}
	runs, err := s.OpenPlanRuns()
	if err != nil || len(runs) != 1 || runs[0].ID != open.ID {
		t.Errorf("%d open runs, %v", len(runs), err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	apply(t, s, store.DeletePlan("daily"))
	if _, err := s.Apply(store.PutPlanRun(open)); !errors.Is(err, store.ErrMissing) {
		t.Errorf("a run of no plan: %v", err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

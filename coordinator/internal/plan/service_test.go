package plan_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// code is the code of a failure; empty: there is none.
func code(err error) job.Code {
	if err == nil {
		return ""
	}
	return job.AsFailure(err).Code
}

func TestSuspiciousBackupHoldsPrunes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := simulate(t, 1, monday), context.Background()
		p := hourly()
		p.Hosts, p.Retention, p.After = []string{"web01"}, &fleet.Retention{KeepDaily: 7}, []job.Kind{job.Prune}
		s.add("files", p)
		s.until(day(2, "11:00"))
		s.holds("web01", 5)
		pruned := func(run int) string { return string(s.runs("files")[run].Tasks[1].State) }
		s.until(day(2, "15:00"))
		if diff := cmp.Diff([]string{"suspicious files web01"}, s.conditions()); diff != "" || pruned(14) != "skipped" {
			t.Errorf("after an odd backup the prune was %s:\n%s", pruned(14), diff)
		}
		s.holds("web01", 14_000)
		s.until(day(2, "19:00")) // one as usual accepts nothing
		if diff := cmp.Diff([]string{"suspicious files web01"}, s.conditions()); diff != "" || pruned(15) != "skipped" {
			t.Errorf("after a normal backup the prune was %s:\n%s", pruned(15), diff)
		}
		if err := s.plans.AcceptBackup(ctx, alice, "files", "web01", "second", "a cleanup"); err != nil {
			t.Fatal(err)
		}
		if got := code(s.plans.AcceptBackup(ctx, alice, "files", "", "", "")); got != job.Conflict {
			t.Errorf("accepted twice: %q", got)
		}
		s.until(day(2, "23:00"))
		if found := s.conditions(); len(found) > 0 || pruned(16) != "succeeded" {
			t.Errorf("after it was accepted the prune was %s: %q", pruned(16), found)
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := simulate(t, 2, monday), context.Background()
		s.add("hourly", hourly())
		s.until(day(0, "05:00"))
		until := day(1, "13:00")
		if _, err := s.plans.PausePlan(ctx, alice, "hourly", &until, "we move"); err != nil {
			t.Fatal(err)
		}
		s.until(day(1, "09:00"))
		s.restart()
		s.until(day(1, "12:59"))
		view, err := s.plans.Plan(ctx, "hourly")
		if err != nil || view.State != fleet.PlanPaused || len(s.runs("hourly")) != 1 || !view.Next[0].Equal(day(1, "16:00")) {
			t.Errorf("paused: %s, %d runs, next %v, %v", view.State, len(s.runs("hourly")), view.Next, err)
		}
		if found := s.conditions(); len(found) > 0 {
			t.Errorf("paused: %q", found)
		}
		s.until(day(1, "13:05"))
		s.restart() // the newest backup is older than it may be, and the run after the pause is to come
		s.until(day(1, "14:00"))
		if found := s.conditions(); len(found) > 0 {
			t.Errorf("after the pause: %q", found)
		}
		s.until(day(1, "17:00"))
		runs := s.runs("hourly")
		if len(runs) != 2 || runs[1].Trigger != fleet.TriggerSchedule || !runs[1].Due.Equal(day(1, "16:00")) {
			t.Errorf("after the pause: %+v", runs)
		}
	})
}

func TestRunPlanByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := simulate(t, 2, monday), context.Background()
		p := hourly()
		p.Schedule = nil
		s.add("now", p)
		asked := fleet.RunRequest{Hosts: []string{"web02"}, IdempotencyKey: "k"}
		run, jobs, err := s.plans.RunPlan(ctx, alice, "now", asked)
		if err != nil || len(jobs) != 1 || jobs[0].Host != "web02" || jobs[0].Run != run.ID || run.Trigger != fleet.TriggerManual {
			t.Fatalf("%+v %+v %v", run, jobs, err)
		}
		again, jobs, err := s.plans.RunPlan(ctx, alice, "now", asked)
		if err != nil || again.ID != run.ID || len(jobs) != 1 {
			t.Errorf("asked again: %s, not %s, %d jobs, %v", again.ID, run.ID, len(jobs), err)
		}
		_, _, err = s.plans.RunPlan(ctx, alice, "now", fleet.RunRequest{Hosts: []string{"web02"}})
		if code(err) != job.Conflict {
			t.Errorf("while it runs: %v", err)
		}
		_, _, err = s.plans.RunPlan(ctx, alice, "now", fleet.RunRequest{Hosts: []string{"web09"}})
		if code(err) != job.InvalidRequest {
			t.Errorf("a host that is none of its: %v", err)
		}
		s.until(monday.Add(time.Hour))
		if got, err := s.plans.PlanRun(ctx, run.ID); err != nil || got.State != fleet.RunSucceeded {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestCancelRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := simulate(t, 2, monday), context.Background()
		p := hourly()
		p.Repositories = []string{"main", "second"}
		s.add("now", p)
		run, _, err := s.plans.RunPlan(ctx, alice, "now", fleet.RunRequest{})
		if err != nil {
			t.Fatal(err)
		}
		s.until(monday.Add(5 * time.Minute))
		if _, err := s.plans.CancelRun(ctx, alice, run.ID); err != nil {
			t.Fatal(err)
		}
		s.until(monday.Add(10 * time.Minute))
		got, err := s.plans.PlanRun(ctx, run.ID)
		if err != nil || got.State != fleet.RunCancelled || got.FinishedAt == nil {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestPlansAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := simulate(t, 2, monday), context.Background()
		s.add("daily", nightly())
		if _, err := s.plans.AddPlan(ctx, alice, "daily", nightly()); code(err) != job.Conflict {
			t.Errorf("added twice: %v", err)
		}
		wrong := nightly()
		wrong.Repositories, wrong.MaxAge = []string{"nowhere"}, "soon"
		if _, err := s.plans.AddPlan(ctx, alice, "wrong", wrong); err == nil || !strings.Contains(job.AsFailure(err).Message, "nowhere") || !strings.Contains(job.AsFailure(err).Message, "max_age") {
			t.Errorf("not everything that is wrong: %v", err)
		}
		changed := nightly()
		changed.Schedule = &fleet.Schedule{Every: "1h"}
		if _, err := s.plans.ChangePlan(ctx, alice, "daily", changed); err != nil {
			t.Fatal(err)
		}
		if err := s.plans.ApplyPlans(ctx, alice, map[string]fleet.PlanSpec{"daily": changed, "other": hourly()}, nil); err != nil {
			t.Fatal(err)
		}
		s.restart()
		view, err := s.plans.Plan(ctx, "daily")
		if err != nil || !view.Next[0].Equal(monday.Add(time.Hour)) || strings.Join(view.On, " ") != "web01 web02" || view.State != fleet.NeverYet {
			t.Errorf("%+v, %v", view, err)
		}
		coming, err := s.plans.Calendar(ctx, s.now(), s.now().Add(5*time.Hour))
		if err != nil || len(coming) != 5*2+2*2 {
			t.Errorf("%d to come, %v", len(coming), err)
		}
		if err := s.plans.RemovePlan(ctx, alice, "daily"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.plans.Plan(ctx, "daily"); code(err) != job.UnknownPlan {
			t.Errorf("after it was removed: %v", err)
		}
	})
}

func TestOverlappingRuns(t *testing.T) {
	for overlap, want := range map[fleet.Overlap]string{
		fleet.OverlapSkip:    "succeeded skipped succeeded skipped", // the third is due when the first is over
		fleet.OverlapQueue:   "succeeded succeeded running skipped",
		fleet.OverlapReplace: "cancelled cancelled cancelled running",
	} {
		t.Run(string(overlap), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(t, 1, monday)
				p := hourly()
				p.Hosts, p.Schedule = []string{"web01"}, &fleet.Schedule{Every: "12m", Overlap: overlap}
				s.add("often", p)
				s.until(monday.Add(57 * time.Minute)) // a backup takes 20 minutes
				var got []string
				for _, run := range s.runs("often") {
					got = append(got, string(run.State))
				}
				if strings.Join(got, " ") != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		})
	}
}

// TestRefusedJobs refuses the first jobs of runs: what is only so now is asked for
// again.
func TestRefusedJobs(t *testing.T) {
	for refused, want := range map[job.Code]fleet.RunState{
		job.DiskFull: fleet.RunRunning, job.Unavailable: fleet.RunRunning, job.RefusedByHost: fleet.RunFailed,
	} {
		t.Run(string(refused), func(t *testing.T) {
			now, jobs := monday, &taker{}
			service := newService(t, withPlans(t, 1, monday), jobs, func() time.Time { return now })
			jobs.refuses.Store(job.Fail(refused, "not now"))
			now = day(0, "01:00")
			service.Turn(t.Context())
			now = now.Add(10 * time.Second)
			jobs.refuses.Store(nil)
			service.Turn(t.Context())
			page, err := service.PlanRuns(t.Context(), fleet.RunFilter{})
			if err != nil || len(page.Runs) != 1 || page.Runs[0].State != want || (page.Runs[0].Tasks[0].Job != "") != (want == fleet.RunRunning) {
				t.Errorf("%+v, %v", page.Runs, err)
			}
		})
	}
}

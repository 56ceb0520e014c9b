package notify_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func run(plan string, state fleet.RunState) fleet.Run {
	began := time.Now().UTC()
	run := fleet.Run{ID: "01KAP7QV00000000000000000A", Plan: plan, State: state, StartedAt: began, Tasks: []fleet.Task{
		{Host: "web1", Repository: "main", Kind: job.Backup, State: state},
	}}
	if state != fleet.RunRunning {
		ended := began.Add(time.Minute)
		run.FinishedAt = &ended
	}
	return run
}

func TestHealthchecksArePinged(t *testing.T) {
	const id = "?rid=019aac7b-ec00-0000-0000-00000000000a"
	for name, test := range map[string]struct {
		url  string
		runs []string // of the rule
		want []string
	}{
		"a check": {"https://hc.example.net/uuid", nil, []string{
			"https://hc.example.net/uuid/start" + id, "https://hc.example.net/uuid" + id, "https://hc.example.net/uuid/fail" + id, "https://hc.example.net/uuid/fail" + id,
		}},
		"a check for each plan": {"https://hc.example.net/key/{plan}?create=1", nil, []string{
			"https://hc.example.net/key/daily/start?create=1&rid=" + id[5:], "https://hc.example.net/key/daily?create=1&rid=" + id[5:],
			"https://hc.example.net/key/daily/fail?create=1&rid=" + id[5:], "https://hc.example.net/key/daily/fail?create=1&rid=" + id[5:],
		}},
		"as a rule says": {"https://hc.example.net/uuid", []string{"skipped", "failure"}, []string{
			"https://hc.example.net/uuid/fail" + id, "https://hc.example.net/uuid/log" + id, "https://hc.example.net/uuid/fail" + id,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, r *rig) {
				r.target(fleet.NewTarget{Name: "hc", Kind: "healthchecks", URL: secretOf(test.url)})
				r.rule(fleet.Rule{Name: "pings", Plans: []string{"dai*"}, Targets: []string{"hc"}, Runs: test.runs})
				r.Started(run("daily", fleet.RunRunning))
				r.Started(run("weekly", fleet.RunRunning))
				for _, state := range []fleet.RunState{fleet.RunSucceeded, fleet.RunFailed, fleet.RunSkipped, fleet.RunMissed} {
					pass(time.Second)
					r.Ended(run("daily", state))
				}
				pass(time.Second)
				got := []string{}
				for _, p := range r.web.got() {
					got = append(got, p.url)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestAlertsGoIntoTheLogOfACheck(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.target(fleet.NewTarget{Name: "hc", Kind: "healthchecks", URL: secretOf("https://hc.example.net/key/{plan}")})
		r.raise(fleet.Condition{Plan: "daily"})
		pass(time.Minute)
		posts := r.web.got()
		if len(posts) != 1 || posts[0].url != "https://hc.example.net/key/daily/log" || !strings.Contains(string(posts[0].body), "daily is overdue") {
			t.Errorf("%+v", posts)
		}
	})
}

func TestRunsAreToldAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, w := t.TempDir(), &web{}
		r := start(t, dir, w)
		r.target(fleet.NewTarget{Name: "hc", Kind: "healthchecks", URL: secretOf("https://hc.example.net/uuid")})
		w.answers(hang("hc"))
		r.Ended(run("daily", fleet.RunFailed))
		r.stop()
		w.answers(nil)
		r = start(t, dir, w)
		defer r.stop()
		pass(time.Second)
		if posts := w.got(); len(posts) != 1 || !strings.HasPrefix(posts[0].url, "https://hc.example.net/uuid/fail?") {
			t.Errorf("%+v", posts)
		}
	})
}

func TestRunsAreToldWhereARuleSaysSo(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		spec := fleet.PlanSpec{Labels: map[string]string{"team": "web"}}
		if _, err := r.store.Apply(store.CreatePlan(fleet.Plan{Name: "daily", PlanSpec: spec}, time.Now())); err != nil {
			t.Fatal(err)
		}
		r.webhook("ops")
		r.rule(fleet.Rule{Name: "runs", Kinds: []string{"run"}, Runs: []string{"success", "failed"}, Labels: spec.Labels, Hosts: []string{"web*"}, Targets: []string{"ops"}})
		r.Started(run("daily", fleet.RunRunning))
		r.Ended(run("daily", fleet.RunWarning))
		r.Ended(run("weekly", fleet.RunSucceeded))
		pass(time.Second)
		want(t, r, "[borgfleet] daily warning after 1 min")
		r.raise(fleet.Condition{Plan: "daily"})
		pass(time.Minute)
		want(t, r)
	})
}

func TestARunIsToldThatEndedBeforeAStart(t *testing.T) {
	dir, web := t.TempDir(), &web{}
	synctest.Test(t, func(t *testing.T) {
		r := start(t, dir, web)
		r.webhook("ops")
		r.rule(fleet.Rule{Name: "runs", Plans: []string{"daily"}, Targets: []string{"ops"}, Runs: []string{"success"}})
		wanted, other := run("daily", fleet.RunSucceeded), run("weekly", fleet.RunSucceeded)
		other.ID = string(job.NewID(time.Now()))
		_, err := r.store.Apply(
			store.CreatePlan(fleet.Plan{Name: "daily"}, time.Now()), store.CreatePlan(fleet.Plan{Name: "weekly"}, time.Now()),
			store.PutPlanRun(store.PlanRun{Run: wanted}), store.OweRun(wanted.ID),
			store.PutPlanRun(store.PlanRun{Run: other}), store.OweRun(other.ID),
		)
		if err != nil {
			t.Fatal(err)
		}
		r.stop() // before it was told
		for range 2 {
			r = start(t, dir, web)
			pass(time.Minute)
			if left, err := r.store.UntoldRuns(); err != nil || len(left) > 0 {
				t.Errorf("%+v are to be told of, %v", left, err)
			}
			if err := r.store.Check(); err != nil {
				t.Error(err)
			}
			r.stop()
		}
	})
	if posts := web.got(); len(posts) != 1 || !strings.Contains(string(posts[0].body), "daily") {
		t.Errorf("%d messages: %+v", len(posts), posts)
	}
}

package faults_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
)

// planRun is a run of a plan as the API shows it.
type planRun struct {
	ID, Plan, Trigger, State string
	Due                      time.Time
	FinishedAt               *time.Time `json:"finished_at"`
	Tasks                    []struct {
		Host, Repository, Kind, Dump, State, Reason string
		Job                                         job.ID
	}
}

func (w *world) runsOf(plan string) (runs []planRun, err error) {
	var page struct{ Runs []planRun }
	err = w.c.Get("/api/v1/plans/"+plan+"/runs?limit=100", &page)
	slices.Reverse(page.Runs)
	return page.Runs, err
}

// awaitRuns waits until every plan has as many runs as it is to have, and all of
// them are over.
func (w *world) awaitRuns() {
	w.t.Helper()
	for plan, want := range w.plans {
		harness.Eventually(w.t, fmt.Sprintf("plan %s to have %d runs that are over", plan, want), func() error {
			runs, err := w.runsOf(plan)
			open := slices.ContainsFunc(runs, func(r planRun) bool { return r.FinishedAt == nil })
			if err != nil || open || len(runs) < want {
				return fmt.Errorf("%+v, %w", runs, err)
			}
			return nil
		})
	}
}

// discoverPlanned adds the jobs that plans have asked for.
func (w *world) discoverPlanned() {
	w.t.Helper()
	for plan := range w.plans {
		var page job.Page
		if err := w.c.Get(fmt.Sprintf("/api/v1/jobs?plan=%s&limit=%d", url.QueryEscape(plan), job.MaxPage), &page); err != nil {
			w.t.Fatal(err)
		}
		for _, j := range page.Jobs {
			if j.Plan == plan && !slices.Contains(w.asked, j.ID) {
				w.asked = append(w.asked, j.ID)
			}
		}
	}
}

// checkPlans looks whether each plan has one run for each due time, and each run
// each of its jobs once, and says of them what they say.
func (w *world) checkPlans(f *finding) {
	tasks := map[job.ID]string{} // the run that has the job
	for plan, want := range w.plans {
		runs, err := w.runsOf(plan)
		if err != nil || len(runs) != want {
			f.breach(twice, "plan %s has %d runs, not %d (%v): %+v", plan, len(runs), want, err, runs)
		}
		due := map[time.Time]bool{}
		for _, run := range runs {
			if due[run.Due] {
				f.breach(twice, "plan %s has two runs for %s", plan, run.Due)
			}
			due[run.Due] = true
			w.checkRun(f, run, tasks)
		}
	}
	for _, j := range f.jobs {
		preview := false
		if prune, ok := j.Spec.(job.PruneSpec); ok {
			preview = prune.DryRun
		}
		if j.Plan != "" && !preview && (tasks[j.ID] == "" || tasks[j.ID] != j.Run) {
			f.breach(twice, "job %s of run %q is a task of run %q", j.ID, j.Run, tasks[j.ID])
		}
	}
}

func (w *world) checkRun(f *finding, run planRun, tasks map[job.ID]string) {
	steps := map[[4]string]bool{}
	for _, t := range run.Tasks {
		step := [4]string{t.Host, t.Repository, t.Kind, t.Dump}
		if steps[step] || tasks[t.Job] != "" {
			f.breach(twice, "run %s of plan %s does %v twice, or has job %s of another", run.ID, run.Plan, step, t.Job)
		}
		steps[step] = true
		if t.Job == "" {
			continue
		}
		tasks[t.Job] = run.ID
		truth := map[job.State]string{job.Expired: "missed"}
		if j := w.c.Job(t.Job); t.State != cmp.Or(truth[j.State], string(j.State)) {
			f.breach(lost, "run %s of plan %s says that %v is %s, and its job %s is %s", run.ID, run.Plan, step, t.State, j.ID, j.State)
		}
	}
}

// advance sets all clocks ahead.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.ahead += d
	w.points.Clock(w.ahead)
	for _, h := range w.hosts {
		h.points.Clock(w.ahead)
	}
}

// toTheHour sets the clocks to just before the next full hour, when plans are due:
// each has a run more.
func (w *world) toTheHour() {
	w.t.Helper()
	const before = 2 * time.Second
	now := time.Now().Add(w.ahead).Add(before)
	w.advance(now.Truncate(time.Hour).Add(time.Hour).Sub(now))
	for plan := range w.plans {
		w.plans[plan]++
	}
}

// hourly adds a plan that is due each full hour. The clocks are set into an hour,
// so that it is not due by itself.
func (s *scene) hourly(plan string) {
	s.t.Helper()
	if s.ahead == 0 {
		now := time.Now()
		s.advance(now.Truncate(time.Hour).Add(90 * time.Minute).Sub(now))
	}
	s.call(http.MethodPost, "/api/v1/plans", map[string]any{
		"name": plan, "hosts": []string{s.host.Host}, "repositories": []string{s.repo.name}, "paths": []string{"/etc/hostname"},
		"schedule": map[string]any{"every": "1h"}, "retention": map[string]any{"keep_last": 5}, "after": []string{"prune"},
	})
	s.plans[plan] = 0
}

// call makes a request of the API that must succeed.
func (s *scene) call(method, path string, body any) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := s.c.Request(method, path, string(text))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		s.t.Fatalf("%s %s: %s", method, path, response.Status)
	}
}

// dueAt are plans that are due, with the coordinator held at a point.
func dueAt(point string, plans ...string) phase {
	name := fmt.Sprintf("%d due, %s", len(plans), point)
	return phase{name, func(s *scene) {
		for _, plan := range plans {
			s.hourly(plan)
		}
		s.points.Arm(point)
		s.toTheHour()
		s.points.AwaitReached(point)
	}, func(s *scene) { s.points.Release(point) }}
}

func planCases() []scenario {
	return []scenario{
		broken("coordinator", dueAt(fault.RunStored, "one"), killCoordinator),
		broken("coordinator", dueAt(fault.RunStored, "one"), stopCoordinator),
		quick(broken("coordinator", dueAt(fault.PlannedStored, "one"), killCoordinator)),
		broken("coordinator", dueAt(fault.PlannedStored, "one"), stopCoordinator),
		broken("coordinator", dueAt(fault.RunEnded, "one"), killCoordinator),
		broken("coordinator", dueAt(fault.RunEnded, "one"), stopCoordinator),
		broken("coordinator", dueAt(fault.RunStored, "one", "two"), killCoordinator),
		broken("coordinator", dueAt(fault.PlannedStored, "one", "two"), killCoordinator),
		broken("coordinator", dueAt(fault.OrderStored, "one", "two"), killCoordinator),
		scenario{name: "coordinator / kill / over a due time", play: overADueTime},
		ends(scenario{name: "coordinator / kill / held at planned-stored, over the next due time", play: overTheNext}, job.Succeeded, job.Expired),
		ends(scenario{name: "coordinator / kill / a run is cancelled", play: cancelledRun}, job.Cancelled),
		broken("agent", dueAtAgent(fault.OrderJournaled), killAgent),
		broken("agent", dueAtAgent(fault.FinishedJournaled), cutAgent),
	}
}

// overADueTime has a due time pass while the coordinator is dead: it is made up
// once, however often it is started.
func overADueTime(s *scene) {
	s.hourly("one")
	s.toTheHour()
	s.awaitRuns()
	s.c.Kill()
	s.advance(time.Hour)
	s.plans["one"]++
	s.c.Restart()
	s.awaitRuns()
	if runs, err := s.runsOf("one"); err != nil || runs[1].Trigger != "catch_up" {
		s.t.Errorf("it was made up as %+v, %v", runs, err)
	}
	s.c.Kill()
	s.c.Restart()
	s.toTheHour()
}

// overTheNext kills the coordinator at a point and lets it be away until the next
// run is due: each has its jobs once.
func overTheNext(s *scene) {
	held := dueAt(fault.PlannedStored, "one")
	held.reach(s)
	s.c.Kill()
	held.leave(s)
	s.advance(time.Hour)
	s.plans["one"]++
	s.c.Restart()
}

// cancelledRun kills the coordinator when the cancellation of a run's job is
// stored.
func cancelledRun(s *scene) {
	s.hourly("one")
	s.host.points.Arm(fault.OrderRead)
	s.toTheHour()
	s.host.points.AwaitReached(fault.OrderRead)
	runs, err := s.runsOf("one")
	if err != nil || len(runs) != 1 {
		s.t.Fatalf("runs %+v, %v", runs, err)
	}
	s.points.Arm(fault.CancelStored)
	go func() {
		if response, err := s.c.Request(http.MethodPost, "/api/v1/runs/"+runs[0].ID+"/cancel", ""); err == nil {
			_ = response.Body.Close() // it may be killed before it answers
		}
	}()
	s.points.AwaitReached(fault.CancelStored)
	s.c.Kill()
	s.points.Release(fault.CancelStored)
	s.host.points.Release(fault.OrderRead)
	s.c.Restart()
	s.awaitRuns()
	if runs, err := s.runsOf("one"); err != nil || runs[0].State != "cancelled" {
		s.t.Errorf("the run is %+v, %v", runs, err)
	}
}

// dueAtAgent is a plan whose backup's agent is held at a point.
func dueAtAgent(point string) phase {
	return phase{"planned, " + point, func(s *scene) {
		s.hourly("one")
		s.host.points.Arm(point)
		s.toTheHour()
		s.host.points.AwaitReached(point)
	}, func(s *scene) { s.host.points.Release(point) }}
}

// allSent returns an error unless nothing is left to be sent.
func (s *scene) allSent() error {
	var page struct {
		Deliveries []struct {
			SentAt *time.Time `json:"sent_at"`
		}
	}
	if err := s.c.Get("/api/v1/deliveries?limit=100", &page); err != nil {
		return err
	}
	if len(page.Deliveries) == 0 {
		return errors.New("there are none")
	}
	for _, d := range page.Deliveries {
		if d.SentAt == nil {
			return fmt.Errorf("one waits: %+v", page.Deliveries)
		}
	}
	return nil
}

package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

var at = day(1, "02:00")

// tasksOf reads tasks: "web1/main/backup=running:j1", the job may be left out.
func tasksOf(texts ...string) []fleet.Task {
	var tasks []fleet.Task
	for _, text := range texts {
		what, how, _ := strings.Cut(text, "=")
		parts := strings.Split(what, "/")
		state, id, _ := strings.Cut(how, ":")
		task := fleet.Task{Host: parts[0], Repository: parts[1], Kind: job.Kind(parts[2]), Job: job.ID(id), State: fleet.RunState(state), NotBefore: at}
		if len(parts) > 3 {
			task.Dump = parts[3]
		}
		tasks = append(tasks, task)
	}
	return tasks
}

func textsOf(tasks []fleet.Task) []string {
	var texts []string
	for _, t := range tasks {
		text := t.Host + "/" + t.Repository + "/" + string(t.Kind)
		if t.Dump != "" {
			text += "/" + t.Dump
		}
		text += "=" + string(t.State)
		if t.Job != "" {
			text += ":" + string(t.Job)
		}
		texts = append(texts, text)
	}
	return texts
}

// jobsIn makes jobs by id from "j1 succeeded".
func jobsIn(texts ...string) map[job.ID]job.Job {
	jobs := map[job.ID]job.Job{}
	for _, text := range texts {
		id, state, _ := strings.Cut(text, " ")
		j := job.Job{ID: job.ID(id), State: job.State(state)}
		if state == "skipped" {
			j.State, j.Failure = job.Cancelled, job.Fail(job.Skipped, "a hook said so")
		}
		if j.State.Terminal() {
			finished := at.Add(20 * time.Minute)
			j.FinishedAt = &finished
		}
		jobs[j.ID] = j
	}
	return jobs
}

func earlierRun(texts ...string) []fleet.Run {
	return []fleet.Run{{ID: "earlier", Due: day(0, "02:00"), Tasks: tasksOf(texts...)}}
}

// stepCase is one step of a run.
type stepCase struct {
	plan      func(*fleet.PlanSpec)
	tasks     []string
	jobs      []string
	scene     plan.Scene
	cancelled bool
	want      []string // tasks after it
	submit    string   // places
	cancel    string
	ends      fleet.RunState // empty: it goes on
	reason    string         // of the last task
}

func caring(p *fleet.PlanSpec) {
	p.Retention, p.After = &fleet.Retention{KeepDaily: 7}, []job.Kind{job.Prune, job.Compact}
}

func checking(p *fleet.PlanSpec) {
	p.Check, p.RestoreTest = &fleet.CheckPolicy{Every: "7d"}, &fleet.RestoreTest{Every: "30d"}
}

func overlapping(o fleet.Overlap) func(*fleet.PlanSpec) {
	return func(p *fleet.PlanSpec) { p.Schedule = &fleet.Schedule{Cron: "0 2 * * *", Overlap: o} }
}

func inOrder(stop bool) func(*fleet.PlanSpec) {
	return func(p *fleet.PlanSpec) { p.Order, p.StopOnFailure = fleet.Sequential, stop }
}

func ago(d time.Duration) *time.Time {
	then := at.Add(-d)
	return &then
}

func stepsOfBackups() map[string]stepCase {
	return map[string]stepCase{
		"all hosts begin": {
			tasks: []string{"a/m/backup=running", "b/m/backup=running"}, want: []string{"a/m/backup=running", "b/m/backup=running"}, submit: "[0 1]",
		},
		"one repository after the other": {
			tasks: []string{"a/m/backup=running", "a/n/backup=running"}, want: []string{"a/m/backup=running", "a/n/backup=running"}, submit: "[0]",
		},
		"the next repository, also after a failure": {
			tasks: []string{"a/m/backup=running:j1", "a/n/backup=running"}, jobs: []string{"j1 failed"},
			want: []string{"a/m/backup=failed:j1", "a/n/backup=running"}, submit: "[1]",
		},
		"nobody took the first in its time": {
			tasks: []string{"a/m/backup=running:j1", "a/n/backup=running"}, jobs: []string{"j1 expired"},
			want: []string{"a/m/backup=missed:j1", "a/n/backup=missed"}, ends: fleet.RunMissed, reason: "the host was away",
		},
		"jobs that run": {tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 running"}, want: []string{"a/m/backup=running:j1"}},
		"it ends": {
			tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 warning"}, want: []string{"a/m/backup=warning:j1"}, ends: fleet.RunWarning,
		},
		"a hook asked to leave it out": {
			tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 skipped"}, want: []string{"a/m/backup=skipped:j1"}, ends: fleet.RunSkipped, reason: "a hook said so",
		},
		"its job is gone": {
			tasks: []string{"a/m/backup=running:j1"}, want: []string{"a/m/backup=failed:j1"}, ends: fleet.RunFailed, reason: "its job is not known any more",
		},
		"a host that the plan is not for any more": {
			tasks: []string{"a/m/backup=running"}, scene: plan.Scene{Gone: "a"}, want: []string{"a/m/backup=cancelled"}, ends: fleet.RunCancelled,
			reason: "the plan is not for this host any more",
		},
		"its hours come too late": {
			tasks: []string{"a/m/backup=running"}, scene: plan.Scene{Shut: true}, want: []string{"a/m/backup=skipped"}, ends: fleet.RunSkipped,
			reason: "its hours do not begin before the next run is due",
		},
		"the coordinator was away for too long": {
			tasks: []string{"a/m/backup=running"}, scene: plan.Scene{Now: at.Add(7 * time.Hour), Late: 6 * time.Hour},
			want: []string{"a/m/backup=missed"}, ends: fleet.RunMissed, reason: "the coordinator was away",
		},
		"the coordinator was away for a while": {
			tasks: []string{"a/m/backup=running"}, scene: plan.Scene{Now: at.Add(5 * time.Hour), Late: 6 * time.Hour}, want: []string{"a/m/backup=running"}, submit: "[0]",
		},
		"cancelled": {
			tasks: []string{"a/m/backup=running:j1", "a/n/backup=running"}, jobs: []string{"j1 running"}, cancelled: true,
			want: []string{"a/m/backup=running:j1", "a/n/backup=cancelled"}, cancel: "[j1]", reason: "cancelled by alice",
		},
		"hosts in order": {
			plan: inOrder(false), tasks: []string{"a/m/backup=running:j1", "b/m/backup=running"}, jobs: []string{"j1 running"},
			want: []string{"a/m/backup=running:j1", "b/m/backup=running"},
		},
		"the next in order": {
			plan: inOrder(false), tasks: []string{"a/m/backup=running:j1", "b/m/backup=running"}, jobs: []string{"j1 failed"},
			want: []string{"a/m/backup=failed:j1", "b/m/backup=running"}, submit: "[1]",
		},
		"the next in order, long after": {
			plan: inOrder(false), tasks: []string{"a/m/backup=succeeded:j1", "b/m/backup=running"}, scene: plan.Scene{Now: at.Add(9 * time.Hour), Late: 6 * time.Hour},
			want: []string{"a/m/backup=succeeded:j1", "b/m/backup=running"}, submit: "[1]",
		},
		"order stops on failure": {
			plan: inOrder(true), tasks: []string{"a/m/backup=running:j1", "b/m/backup=running"}, jobs: []string{"j1 failed"},
			want: []string{"a/m/backup=failed:j1", "b/m/backup=skipped"}, ends: fleet.RunFailed, reason: "the backup of a did not succeed, and stop_on_failure is set",
		},
	}
}

func stepsOfOverlap() map[string]stepCase {
	busy := plan.Scene{Earlier: earlierRun("a/m/backup=running:j0")}
	waiting := plan.Scene{Earlier: append(earlierRun("a/m/backup=running:j0"), fleet.Run{ID: "waits", Tasks: tasksOf("a/m/backup=running")})}
	return map[string]stepCase{
		"left out while the last one runs": {
			tasks: []string{"a/m/backup=running", "b/m/backup=running"}, jobs: []string{"j0 running"}, scene: busy,
			want: []string{"a/m/backup=skipped", "b/m/backup=running"}, submit: "[1]",
		},
		"care of the last one does not count": {
			tasks: []string{"a/m/backup=running"}, scene: plan.Scene{Earlier: earlierRun("a/m/backup=succeeded:j0", "a/m/check=running:j9")},
			want: []string{"a/m/backup=running"}, submit: "[0]",
		},
		"soon after a start, more is known soon": {
			tasks: []string{"a/m/backup=running"}, jobs: []string{"j0 running"},
			scene: plan.Scene{Earlier: busy.Earlier, Early: true}, want: []string{"a/m/backup=running"},
		},
		"the last one ends at once": {
			tasks: []string{"a/m/backup=running"}, jobs: []string{"j0 failed"}, scene: busy, want: []string{"a/m/backup=running"},
		},
		"it waits": {
			plan: overlapping(fleet.OverlapQueue), tasks: []string{"a/m/backup=running"}, jobs: []string{"j0 running"}, scene: busy, want: []string{"a/m/backup=running"},
		},
		"only one waits": {
			plan: overlapping(fleet.OverlapQueue), tasks: []string{"a/m/backup=running"}, jobs: []string{"j0 running"}, scene: waiting,
			want: []string{"a/m/backup=skipped"}, ends: fleet.RunSkipped, reason: "another run waits for its run of 2026-03-23 02:00 UTC already",
		},
		"it waits for the one that it replaces": {
			plan: overlapping(fleet.OverlapReplace), tasks: []string{"a/m/backup=running"}, jobs: []string{"j0 running"}, scene: busy, want: []string{"a/m/backup=running"},
		},
		"it is replaced": {
			plan: overlapping(fleet.OverlapReplace), tasks: []string{"a/m/backup=running:j1", "a/n/backup=running"}, jobs: []string{"j1 running"},
			scene: plan.Scene{Later: []fleet.Run{{ID: "later", Due: day(2, "02:00"), Tasks: tasksOf("a/m/backup=running")}}},
			want:  []string{"a/m/backup=running:j1", "a/n/backup=cancelled"}, cancel: "[j1]", reason: "replaced by the run of 2026-03-25 02:00 UTC",
		},
	}
}

func stepsOfCare() map[string]stepCase {
	backedUp := []string{"a/m/backup=succeeded:j1"}
	return map[string]stepCase{
		"a prune follows": {
			plan: caring, tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 succeeded"}, want: []string{"a/m/backup=succeeded:j1", "a/m/prune=running"}, submit: "[1]",
		},
		"nothing is pruned after a failure": {
			plan: caring, tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 failed"}, want: []string{"a/m/backup=failed:j1"}, ends: fleet.RunFailed,
		},
		"nothing is pruned after what looks odd": {
			plan: caring, tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 succeeded"}, scene: plan.Scene{Odd: true},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=skipped"}, ends: fleet.RunSucceeded,
			reason: "a backup looks suspicious, and nothing is pruned until somebody accepts it",
		},
		"nothing is pruned while one is held": {
			plan: caring, tasks: backedUp, scene: plan.Scene{Held: true}, want: []string{"a/m/backup=succeeded:j1", "a/m/prune=skipped"}, ends: fleet.RunSucceeded,
			reason: "a backup looks suspicious, and nothing is pruned until somebody accepts it",
		},
		"pruned although it looks odd": {
			plan:  func(p *fleet.PlanSpec) { caring(p); p.Suspicion = fleet.SuspectAlert },
			tasks: []string{"a/m/backup=running:j1"}, jobs: []string{"j1 succeeded"}, scene: plan.Scene{Odd: true},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=running"}, submit: "[1]",
		},
		"a dump has a prune of its own": {
			plan: caring, tasks: []string{"a/m/backup/pg=succeeded:j1", "a/m/backup=succeeded:j2"},
			want: []string{"a/m/backup/pg=succeeded:j1", "a/m/backup=succeeded:j2", "a/m/prune/pg=running", "a/m/prune=running"}, submit: "[2 3]",
		},
		"space is freed when all hosts are done": {
			plan: caring, tasks: []string{"a/m/backup=succeeded:j1", "b/m/backup=running:j2", "a/m/prune=succeeded:j3"}, jobs: []string{"j2 running"},
			want: []string{"a/m/backup=succeeded:j1", "b/m/backup=running:j2", "a/m/prune=succeeded:j3"},
		},
		"space is freed": {
			plan: caring, tasks: []string{"a/m/backup=succeeded:j1", "b/m/backup=failed:j2", "a/m/prune=succeeded:j3"}, scene: plan.Scene{Compact: ago(25 * time.Hour)},
			want: []string{"a/m/backup=succeeded:j1", "b/m/backup=failed:j2", "a/m/prune=succeeded:j3", "a/m/compact=running"}, submit: "[3]",
		},
		"space was freed today": {
			plan: caring, tasks: []string{"a/m/backup=succeeded:j1", "a/m/prune=succeeded:j3"}, scene: plan.Scene{Compact: ago(3 * time.Hour)},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=succeeded:j3"}, ends: fleet.RunSucceeded,
		},
		"check and restore test are due": {
			plan: checking, tasks: []string{"a/m/backup=succeeded:j1", "b/m/backup=warning:j2"}, scene: plan.Scene{Checked: ago(8 * 24 * time.Hour)},
			want: []string{"a/m/backup=succeeded:j1", "b/m/backup=warning:j2", "a/m/check=running", "a/m/restore-test=running", "b/m/restore-test=running"}, submit: "[2 3 4]",
		},
		"retention was taken away": {
			tasks: []string{"a/m/backup=succeeded:j1", "a/m/prune=running"}, want: []string{"a/m/backup=succeeded:j1", "a/m/prune=skipped"},
			ends: fleet.RunSucceeded, reason: "the plan does not prune any more",
		},
		"retention was taken away while the prune waits": {
			tasks: []string{"a/m/backup=succeeded:j1", "a/m/prune=running:j2"}, jobs: []string{"j2 queued"},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=running:j2"}, cancel: "[j2]",
		},
		"retention was taken away while it prunes": {
			tasks: []string{"a/m/backup=succeeded:j1", "a/m/prune=running:j2"}, jobs: []string{"j2 running"},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=running:j2"},
		},
		"retention was taken away, and the prune with it": {
			tasks: []string{"a/m/backup=succeeded:j1", "a/m/prune=running:j2"}, jobs: []string{"j2 cancelled"},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=skipped:j2"}, ends: fleet.RunSucceeded, reason: "the plan does not prune any more",
		},
		"a prune was cancelled": {
			plan: caring, tasks: []string{"a/m/backup=succeeded:j1", "a/m/prune=running:j2"}, jobs: []string{"j2 cancelled"}, scene: plan.Scene{Compact: ago(time.Hour)},
			want: []string{"a/m/backup=succeeded:j1", "a/m/prune=cancelled:j2"}, ends: fleet.RunCancelled,
		},
		"checks and tests were taken away": {
			tasks: []string{"a/m/backup=succeeded:j1", "a/m/check=running", "a/m/restore-test=running"},
			want:  []string{"a/m/backup=succeeded:j1", "a/m/check=skipped", "a/m/restore-test=skipped"}, ends: fleet.RunSucceeded,
			reason: "the plan has no restore tests any more",
		},
		"nothing is due": {
			plan: checking, tasks: backedUp, scene: plan.Scene{Checked: ago(time.Hour), Tested: ago(time.Hour)}, want: backedUp, ends: fleet.RunSucceeded,
		},
		"another run checks": {
			plan: checking, tasks: backedUp, scene: plan.Scene{Checking: true, Tested: ago(time.Hour)}, want: backedUp, ends: fleet.RunSucceeded,
		},
		"each follows once": {
			plan: checking, tasks: []string{"a/m/backup=succeeded:j1", "a/m/check=failed:j2", "a/m/restore-test=succeeded:j3"},
			want: []string{"a/m/backup=succeeded:j1", "a/m/check=failed:j2", "a/m/restore-test=succeeded:j3"}, ends: fleet.RunFailed,
		},
	}
}

func TestStepsOfBackups(t *testing.T) { play(t, stepsOfBackups()) }

func TestStepsOfOverlap(t *testing.T) { play(t, stepsOfOverlap()) }

func TestStepsOfCare(t *testing.T) { play(t, stepsOfCare()) }

func play(t *testing.T, cases map[string]stepCase) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			run := &store.PlanRun{Run: fleet.Run{ID: "run", State: fleet.RunRunning, StartedAt: at, Tasks: tasksOf(c.tasks...)}}
			if c.cancelled {
				run.Cancelled = "alice"
			}
			if c.scene.Now.IsZero() {
				c.scene.Now = at
			}
			c.scene.Jobs, c.scene.Plan.Repositories = jobsIn(c.jobs...), []string{"m", "n"}
			if c.plan != nil {
				c.plan(&c.scene.Plan)
			}
			step := plan.Advance(run, c.scene)
			if diff := cmp.Diff(c.want, textsOf(run.Tasks)); diff != "" {
				t.Error(diff)
			}
			if got := list(step.Submit); got != c.submit {
				t.Errorf("submits %s, want %s", got, c.submit)
			}
			if got := list(step.Cancel); got != c.cancel {
				t.Errorf("cancels %s, want %s", got, c.cancel)
			}
			if last := run.Tasks[len(run.Tasks)-1]; last.Reason != c.reason {
				t.Errorf("reason %q, want %q", last.Reason, c.reason)
			}
			if ended := run.FinishedAt != nil; ended != (c.ends != "") || ended && run.State != c.ends {
				t.Errorf("ended %v as %s, want %q", ended, run.State, c.ends)
			}
			checkAgain(t, *run, c, step)
		})
	}
}

// checkAgain checks that a step, decided again, says the same: a crash after it
// repeats nothing.
func checkAgain(t *testing.T, run store.PlanRun, c stepCase, step plan.Step) {
	t.Helper()
	c.scene.Held = c.scene.Held || step.Held > 0 && c.scene.Plan.Suspicion != fleet.SuspectAlert // it was stored
	again := plan.Advance(&run, c.scene)
	if diff := cmp.Diff(step.Submit, again.Submit); diff != "" {
		t.Errorf("decided again:\n%s", diff)
	}
	if len(run.Tasks) != len(c.want) {
		t.Errorf("decided again there are %d tasks", len(run.Tasks))
	}
}

func list[T any](values []T) string {
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprint(values)
}

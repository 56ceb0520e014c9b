package cli_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

const runID = "01JD9X7P0000000000ABCDEFGH"

func dailyPlan() fleet.PlanView {
	spec := fleet.PlanSpec{
		Hosts: []string{"web1"}, Repositories: []string{"main"}, Schedule: &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin", Jitter: "15m"},
		Retention: &fleet.Retention{KeepDaily: 7}, Dumps: []fleet.Dump{{Hook: "dump-postgres"}},
	}
	spec.Paths = []string{"/etc"}
	last := &fleet.BackupSummary{Host: "web1", Repository: "main", FinishedAt: time.Now().Add(-50 * time.Hour)}
	return fleet.PlanView{
		Plan: fleet.Plan{Name: "daily", PlanSpec: spec}, On: []string{"web1"}, State: fleet.Overdue,
		Freshness: []fleet.Freshness{{
			Plan: "daily", Host: "web1", Repository: "main", State: fleet.Overdue, LastSuccess: last, Message: "no good backup for 50 h",
			Suspicion: &fleet.Suspicion{Message: "3 files, usually 14,200"},
		}},
		Next: []time.Time{time.Now().Add(time.Hour)},
		Runs: []fleet.RunMark{{State: fleet.RunSucceeded}, {State: fleet.RunFailed}, {State: fleet.RunMissed}},
	}
}

func runOf(state fleet.RunState) fleet.Run {
	run := fleet.Run{ID: runID, Plan: "daily", Trigger: fleet.TriggerManual, By: "operator:alice", State: state, StartedAt: at(0), Due: at(0)}
	task := fleet.Task{Host: "web1", Repository: "main", Kind: job.Backup, Job: backupID, State: state}
	pruning := fleet.Task{Host: "web1", Repository: "main", Kind: job.Prune, State: fleet.RunSkipped, Reason: "the backup is suspicious"}
	if state == fleet.RunRunning {
		pruning.State, pruning.Reason = fleet.RunRunning, ""
	} else {
		run.FinishedAt = pointer(at(30))
	}
	run.Tasks = []fleet.Task{task, pruning}
	return run
}

// planned is a coordinator with a plan, whose run ends in a state after some looks.
func planned(t *testing.T, end fleet.RunState) *coordinator {
	t.Helper()
	c := full(t)
	first := backup(job.Queued)
	first.Run = runID
	start := map[string]any{"run": runOf(fleet.RunRunning), "jobs": []job.Job{first}}
	looks := 0
	for call, answer := range map[string]any{
		"GET /plans": map[string]any{"plans": []fleet.PlanView{dailyPlan()}}, "GET /plans/daily": dailyPlan(),
		"POST /plans": dailyPlan(), "PUT /plans/daily": dailyPlan(), "DELETE /plans/daily": nil,
		"POST /plans/daily/pause": dailyPlan(), "POST /plans/daily/resume": dailyPlan(), "POST /plans/daily/accept": dailyPlan(),
		"POST /plans/daily/run": start, "POST /plans/daily/restore-test": first,
		"GET /plans/none":                 fleet.UnknownPlan("none"),
		"GET /runs":                       fleet.RunPage{Runs: []fleet.Run{runOf(fleet.RunFailed)}, Cursor: "more"},
		"POST /runs/" + runID + "/cancel": runOf(fleet.RunCancelled),
		"GET /freshness":                  map[string]any{"freshness": dailyPlan().Freshness},
		"GET /calendar":                   map[string]any{"occurrences": []fleet.Occurrence{{Plan: "daily", Host: "web1", At: at(0), Seconds: 203}}, "omitted": 2},
		"GET /runs/" + runID: asker(func(*http.Request, string) any {
			if looks++; looks < 2 {
				return runOf(fleet.RunRunning)
			}
			return runOf(end)
		}),
	} {
		c.answers[call] = answer
	}
	return c
}

func TestPlanCommandsAsk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.yaml")
	if err := os.WriteFile(file, []byte("hosts: [web1]\nrepositories: [main]\npaths: [/etc]\nschedule: {every: 6h}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := `"hosts":["web1"],"repositories":["main"],"paths":["/etc"],"schedule":{"every":"6h"}}`
	c := planned(t, fleet.RunSucceeded)
	for _, step := range []struct{ stdin, args, want string }{
		{"", "plan add daily -f " + file, `POST /plans {"name":"daily",` + fromFile},
		{"hosts: [web1]\nrepositories: [main]\npaths: [/etc]\nschedule: {every: 6h}\n", "plan change daily -f -", `PUT /plans/daily {` + fromFile},
		{"", "plan add daily --host web1 --repo main --cron @daily --timezone Europe/Berlin --keep-daily 7 --exclude *.log --before-hook dump --check 7d --restore-test 30d --dump pg /etc",
			`POST /plans {"name":"daily","hosts":["web1"],"repositories":["main"],"paths":["/etc"],"exclude":["*.log"],"hooks":{"before":["dump"]},"dumps":[{"hook":"pg"}],` +
				`"schedule":{"cron":"@daily","timezone":"Europe/Berlin"},"retention":{"keep_daily":7},"after":["prune","compact"],"check":{"every":"7d"},"restore_test":{"every":"30d","canary":true}}`},
		{"", "plan add daily --selector role=web --repo main --every 6h --sequential --keep-last 3 --no-compact --content-from dump",
			`POST /plans {"name":"daily","selector":{"role":"web"},"repositories":["main"],"paths":null,"content_from":"dump","order":"sequential","schedule":{"every":"6h"},"retention":{"keep_last":3},"after":["prune"]}`},
		{"", "plan pause daily --until 2099-01-01T00:00:00Z --reason moved", `POST /plans/daily/pause {"until":"2099-01-01T00:00:00Z","reason":"moved"}`},
		{"", "plan pause daily", `POST /plans/daily/pause {}`},
		{"", "plan resume daily", `POST /plans/daily/resume`},
		{"", "plan remove daily --yes", `DELETE /plans/daily`},
		{"", "plan run daily --host web1 --idempotency-key k", `POST /plans/daily/run {"hosts":["web1"],"idempotency_key":"k"}`},
		{`{"plan":"daily"}`, "job submit -", `POST /plans/daily/run {}`},
		{"", "plan accept daily --reason right", `POST /plans/daily/accept {"host":"web1","repository":"main","reason":"right"}`},
		{"", "plan restore-test daily --no-watch", `POST /plans/daily/restore-test {"host":"web1","repository":"main"}`},
		{"", "plan freshness --host web1 --state overdue", `GET /freshness?host=web1&limit=500&state=overdue`},
		{"", "plan history daily --state failed --limit 3", `GET /runs?limit=3&plan=daily&state=failed`},
		{"", "run list --plan daily --since 2026-11-22T00:00:00Z", `GET /runs?limit=50&plan=daily&since=2026-11-22T00%3A00%3A00Z`},
		{"", "run cancel " + runID, `POST /runs/` + runID + `/cancel`},
		{"", "job list --plan daily", `GET /jobs?limit=50&plan=daily`},
	} {
		if r := c.run(t, step.stdin, strings.Fields(step.args)...); r.code != 0 {
			t.Errorf("%s: exit code %d: %s", step.args, r.code, r.err)
			continue
		}
		if diff := cmp.Diff(step.want, c.asked[len(c.asked)-1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.args, diff)
		}
	}
}

func TestPlanCommandsSay(t *testing.T) {
	c := planned(t, fleet.RunSucceeded)
	for args, wants := range map[string][]string{
		"plan list":                {"daily", "overdue", "2 d 2 h ago", "in 59 min"},
		"plan list --state fresh":  {"PLAN"},
		"plan show daily":          {"0 2 * * *, Europe/Berlin, jitter 15m", "/etc, the dump of dump-postgres", ".FM", "no good backup for 50 h"},
		"plan show daily --yaml":   {"repositories:\n- main\n", "cron: 0 2 * * *"},
		"plan freshness":           {"PLAN", "overdue", "no good backup for 50 h"},
		"plan calendar":            {"daily", "web1", "3 min 23 s", "2 more later"},
		"plan calendar --host db1": {"Nothing is due within 1 d"},
		"plan run daily":           {runID + " run of daily: running", string(backupID)},
		"plan accept daily":        {"3 files, usually 14,200"},
		"run show " + runID:        {"run of daily: running", "waiting", "by operator:alice"},
		"run list":                 {runID, "failed", "30 s", "--cursor more"},
		"plan list --json":         {`"name": "daily"`},
		"plan remove daily --yes":  {"Its archives stay"},
	} {
		t.Run(args, func(t *testing.T) {
			r := c.run(t, "", strings.Fields(args)...)
			for _, want := range wants {
				if r.code != 0 || !strings.Contains(r.out, want) {
					t.Errorf("exit code %d, no %q in:\n%s%s", r.code, want, r.out, r.err)
				}
			}
		})
	}
}

// What plan show --yaml prints, plan change takes as the same plan.
func TestAPlanAsYAMLIsTaken(t *testing.T) {
	c := planned(t, fleet.RunSucceeded)
	text := c.run(t, "", "plan", "show", "daily", "--yaml").out
	if r := c.run(t, text, "plan", "change", "daily", "-f", "-"); r.code != 0 {
		t.Fatal(r.err)
	}
	want := `PUT /plans/daily {"hosts":["web1"],"repositories":["main"],"paths":["/etc"],"dumps":[{"hook":"dump-postgres"}],"schedule":{"cron":"0 2 * * *","timezone":"Europe/Berlin","jitter":"15m"},"retention":{"keep_daily":7}}`
	if diff := cmp.Diff(want, c.asked[len(c.asked)-1]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWatchedRunsEndWithTheirOutcome(t *testing.T) {
	for end, code := range map[fleet.RunState]int{
		fleet.RunSucceeded: 0, fleet.RunWarning: console.ExitWarning, fleet.RunFailed: console.ExitJobFailed,
		fleet.RunCancelled: console.ExitJobFailed, fleet.RunSkipped: console.ExitJobFailed, fleet.RunMissed: console.ExitJobFailed,
	} {
		for _, args := range []string{"backup daily", "plan run daily --watch", "run watch " + runID} {
			t.Run(string(end)+" "+args, func(t *testing.T) {
				r := planned(t, end).run(t, "", strings.Fields(args)...)
				if r.code != code || !strings.Contains(r.out, "run of daily: "+string(end)+" after 30 s") {
					t.Errorf("exit code %d, want %d:\n%s%s", r.code, code, r.out, r.err)
				}
				for _, said := range []string{"backup of web1 into main: running", "prune of web1 in main: waiting", "prune of web1 in main: skipped: the backup is suspicious"} {
					if !strings.Contains(r.err, said) {
						t.Errorf("not said: %q in\n%s", said, r.err)
					}
				}
			})
		}
	}
}

func TestMistakesWithPlans(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("paths: [/etc]\nschedule: {chron: '0 2 * * *'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := planned(t, fleet.RunSucceeded)
	for name, test := range map[string]struct{ args, says string }{
		"flags beside a plan":    {"backup daily --exclude *.log", "leave out the flags"},
		"two plans":              {"backup daily weekly", "--repo=REPOSITORY"},
		"a file and flags":       {"plan add daily -f " + bad + " --host web1", "leave out the other flags"},
		"an unknown key":         {"plan add daily -f " + bad, "chron"},
		"no file":                {"plan change daily", "--file=FILE"},
		"two ends":               {"plan pause daily --for 7d --until 2099-01-01", "exclude each other"},
		"an end that is over":    {"plan pause daily --until 2020-01-01", "is over already"},
		"nobody to ask":          {"plan remove daily", "--yes"},
		"nothing suspicious":     {"plan accept daily --host db1", "is suspicious"},
		"nothing to test":        {"plan restore-test daily --host db1", "backs up no such host"},
		"no such plan":           {"plan show none", "there is no plan"},
		"no such state":          {"plan list --state old", "--state"},
		"no such state of a run": {"run list --state old", "--state"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t, "", strings.Fields(test.args)...)
			if r.code == 0 || !strings.Contains(r.err, test.says) {
				t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
			}
		})
	}
}

// A job that a plan asked for says so.
func TestJobsSayTheirPlan(t *testing.T) {
	c, j := full(t), backup(job.Succeeded)
	j.Plan, j.Run = "daily", "01JD9X7R0000000000ABCDEFGH"
	c.answers["GET /jobs/"+string(backupID)] = j
	r := c.run(t, "", "job", "show", string(backupID))
	if !strings.Contains(r.out, "daily") || !strings.Contains(r.out, j.Run) {
		t.Errorf("it does not:\n%s%s", r.out, r.err)
	}
}

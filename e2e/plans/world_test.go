package plans_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/job"
)

// world is a coordinator with agents, who have one clock that is ahead of the
// real one by as much as the test says.
type world struct {
	t      *testing.T
	c      *harness.Coordinator
	agents map[string]*harness.Agent
	points *lab.Points
	ahead  time.Duration
	dir    string
}

// run is a run of a plan as the API shows it.
type run struct {
	ID, Plan, Trigger, State string
	Due                      time.Time
	FinishedAt               *time.Time `json:"finished_at"`
	Tasks                    []struct {
		Host, Repository, Kind, State, Reason string
		Job                                   job.ID
	}
}

// newWorld starts it. The clock begins in the middle of an hour.
func newWorld(t *testing.T, config string, hosts ...string) *world {
	t.Helper()
	w := &world{t: t, agents: map[string]*harness.Agent{}, points: lab.New(t).Points("clock"), dir: t.TempDir()}
	now := time.Now()
	w.advance(now.Truncate(time.Hour).Add(90 * time.Minute).Sub(now))
	w.c = harness.StartCoordinatorWith(t, harness.CoordinatorOptions{Env: w.points.Env(), Config: config})
	for _, host := range hosts {
		w.agents[host] = w.c.AddAgent(host, harness.AgentOptions{Env: w.points.Env()})
	}
	return w
}

// advance sets the clock ahead.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.ahead += d
	w.points.Clock(w.ahead)
}

// toTheHour sets the clock to just before the next full hour, when plans that run
// each hour are due.
func (w *world) toTheHour() {
	w.t.Helper()
	const before = 2 * time.Second
	now := time.Now().Add(w.ahead).Add(before)
	w.advance(now.Truncate(time.Hour).Add(time.Hour).Sub(now))
}

// apply makes everything match a manifest, and returns what was printed.
func (w *world) apply(manifest string) string {
	w.t.Helper()
	return w.c.MustCLI("apply", "--yes", "-f", w.write("fleet.yaml", manifest))
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return file
}

// runs are those of a plan, oldest first.
func (w *world) runs(plan string) []run {
	w.t.Helper()
	var page struct{ Runs []run }
	if err := w.c.Get("/api/v1/plans/"+plan+"/runs?limit=100", &page); err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(page.Runs)
	return page.Runs
}

// awaitRuns waits until a plan has so many runs, and all of them are over.
func (w *world) awaitRuns(plan string, n int) []run {
	w.t.Helper()
	var runs []run
	harness.Eventually(w.t, fmt.Sprintf("plan %s to have %d runs that are over", plan, n), func() error {
		runs = w.runs(plan)
		over := 0
		for _, r := range runs {
			if r.FinishedAt != nil {
				over++
			}
		}
		if len(runs) != n || over != n {
			return fmt.Errorf("there are %d, %d of them over: %s", len(runs), over, show(runs))
		}
		return nil
	})
	return runs
}

func show(v any) string {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// kinds counts the jobs of a run that ended well, by kind.
func (r run) kinds() map[string]int {
	kinds := map[string]int{}
	for _, task := range r.Tasks {
		if task.State == "succeeded" {
			kinds[task.Kind]++
		}
	}
	return kinds
}

// job returns the newest job of a kind in the runs of a plan on a host.
func (w *world) job(plan, host, repository string, kind job.Kind) job.Job {
	w.t.Helper()
	runs := w.runs(plan)
	for _, r := range slices.Backward(runs) {
		for _, task := range slices.Backward(r.Tasks) {
			if task.Host == host && task.Repository == repository && task.Kind == string(kind) && task.Job != "" {
				return w.c.Job(task.Job)
			}
		}
	}
	w.t.Fatalf("plan %s has no %s of %s in %s: %s", plan, kind, host, repository, show(runs))
	return job.Job{}
}

// fresh is how a plan stands.
func (w *world) fresh(plan string) (state string) {
	w.t.Helper()
	var view struct{ State string }
	if err := w.c.Get("/api/v1/plans/"+plan, &view); err != nil {
		w.t.Fatal(err)
	}
	return view.State
}

// alerts are the open alerts of a plan, by kind and host.
func (w *world) alerts(plan string) []string {
	w.t.Helper()
	var page struct {
		Alerts []struct{ Kind, Host string }
	}
	if err := w.c.Get("/api/v1/alerts?open=true&plan="+plan, &page); err != nil {
		w.t.Fatal(err)
	}
	kinds := []string{}
	for _, a := range page.Alerts {
		kinds = append(kinds, a.Kind+" "+a.Host)
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// awaitAlerts waits until the open alerts of a plan are these.
func (w *world) awaitAlerts(plan string, want ...string) {
	w.t.Helper()
	harness.Eventually(w.t, fmt.Sprintf("the alerts of plan %s to be %q", plan, want), func() error {
		if got := w.alerts(plan); !slices.Equal(got, want) {
			return fmt.Errorf("they are %q", got)
		}
		return nil
	})
}

// passphrase writes the file of a repository's passphrase.
func (w *world) passphrase(name string) (file, passphrase string) {
	passphrase = "correct horse of " + name
	return w.write(name+".pass", passphrase+"\n"), passphrase
}

// own are the archives whose names begin so.
func own(archives []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(archives), func(name string) bool { return !strings.HasPrefix(name, prefix) })
}

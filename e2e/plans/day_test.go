package plans_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestPlanByItself has a plan for two hosts and two repositories run each hour,
// with everything that may belong to it.
func TestPlanByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", "web1", "db1")
	tree := filepath.Join(w.dir, "tree")
	harness.MakeTree(t, tree, 20, 4<<10)
	mainFile, mainPass := w.passphrase("main")
	otherFile, otherPass := w.passphrase("other")
	locations := map[string]string{"main": filepath.Join(w.dir, "main"), "other": filepath.Join(w.dir, "other")}
	passes := map[string]string{"main": mainPass, "other": otherPass}
	manifest := fmt.Sprintf(`
repositories:
  main: {location: %s, passphrase_file: %s}
  other: {location: %s, passphrase_file: %s}
plans:
  hourly:
    hosts: [web1, db1]
    repositories: [main, other]
    paths: [%s]
    schedule: {every: 1h}
    retention: {keep_last: 2}
    after: [prune, compact]
    check: {every: 1d}
    restore_test: {every: 1d, files: 5, canary: true}
    max_age: 3h
`, locations["main"], mainFile, locations["other"], otherFile, tree)
	w.apply(manifest)
	if out := w.apply(manifest); !strings.Contains(out, "Nothing to change") {
		t.Errorf("a second apply says %q", out)
	}
	for repository := range locations {
		w.c.Init("web1", repository)
	}
	for n := 1; n <= 4; n++ {
		w.toTheHour()
		runs := w.awaitRuns("hourly", n)
		last := runs[n-1]
		if last.State != "succeeded" || last.Trigger != "schedule" {
			t.Fatalf("run %d: %s", n, show(last))
		}
		want := map[string]int{"backup": 4, "prune": 4}
		if n == 1 { // the first of a day
			want["compact"], want["check"], want["restore-test"] = 2, 2, 4
		}
		if got := last.kinds(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("run %d has %v, want %v", n, got, want)
		}
	}
	for repository, location := range locations {
		left := harness.Archives(t, location, passes[repository])
		for _, host := range []string{"web1", "db1"} {
			w.keepsWhatBorgKeeps(host, repository, own(left, host+"-hourly-"))
			w.hasEvidence(host, repository)
		}
		if out := harness.Borg(t, passes[repository], "check", location); out.Code != 0 {
			t.Errorf("borg check %s: %s", location, out.Stderr)
		}
	}
	if state := w.fresh("hourly"); state != "fresh" {
		t.Errorf("the plan is %s", state)
	}
	w.awaitAlerts("hourly")
}

// keepsWhatBorgKeeps makes archives of the same names and times in a repository of
// its own, and has borg itself prune them.
func (w *world) keepsWhatBorgKeeps(host, repository string, left []string) {
	w.t.Helper()
	location := filepath.Join(w.t.TempDir(), "oracle")
	borg := func(args ...string) string {
		w.t.Helper()
		out := harness.Borg(w.t, "", args...)
		if out.Code != 0 {
			w.t.Fatalf("borg %s: %s", strings.Join(args, " "), out.Stderr)
		}
		return out.Stdout + out.Stderr
	}
	borg("init", "-e", "none", location)
	for _, r := range w.runs("hourly") {
		for _, task := range r.Tasks {
			if task.Kind != string(job.Backup) || task.Host != host || task.Repository != repository {
				continue
			}
			j := w.c.Job(task.Job)
			borg("create", "--timestamp", j.StartedAt.UTC().Format("2006-01-02T15:04:05"), location+"::"+j.Result.Archive, "/etc/hostname")
		}
	}
	borg("prune", "--keep-last", "2", "-P", host+"-hourly-", location)
	if want := harness.Archives(w.t, location, ""); !slices.Equal(want, left) {
		w.t.Errorf("%s has kept %v of %s, borg itself keeps %v", repository, left, host, want)
	}
}

func (w *world) hasEvidence(host, repository string) {
	w.t.Helper()
	e := w.job("hourly", host, repository, job.TestRestore).Result.Evidence
	if e == nil || e.Same != e.Files-1 || e.Different+e.Changed+e.Gone > 0 || e.Canary == nil || !*e.Canary || e.Files < 5 {
		w.t.Errorf("restore test of %s in %s: %s", host, repository, show(e))
	}
}

// TestDueWhileTheCoordinatorIsAway kills the coordinator over a due time.
func TestDueWhileTheCoordinatorIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", "web1")
	w.apply(w.daily("max_age: 5h"))
	w.c.Init("web1", "main")
	w.toTheHour()
	w.awaitRuns("small", 1)
	w.c.Kill()
	w.advance(time.Hour) // over one due time
	w.c.Restart()
	runs := w.awaitRuns("small", 2)
	if last := runs[1]; last.Trigger != "catch_up" || last.State != "succeeded" || !last.Due.Equal(runs[0].Due.Add(time.Hour)) {
		t.Errorf("it was made up as %s", show(last))
	}
	w.c.Kill() // what was made up is not made up again
	w.c.Restart()
	w.toTheHour()
	if last := w.awaitRuns("small", 3)[2]; last.Trigger != "schedule" || last.State != "succeeded" {
		t.Errorf("the next one is %s", show(last))
	}
	if archives := harness.Archives(t, filepath.Join(w.dir, "main"), "correct horse of main"); len(archives) != 3 {
		t.Errorf("three runs have left %v", archives)
	}
}

// daily is a manifest with a small plan that runs each hour.
func (w *world) daily(more string) string {
	w.t.Helper()
	file, _ := w.passphrase("main")
	return fmt.Sprintf(`
repositories:
  main: {location: %s, passphrase_file: %s}
plans:
  small:
    hosts: [web1]
    repositories: [main]
    paths: [/etc/hostname]
    schedule: {every: 1h}
    %s
`, filepath.Join(w.dir, "main"), file, more)
}

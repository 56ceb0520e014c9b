package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// deleting is a coordinator on which a dry run finds so much, or fails.
func deleting(t *testing.T, found job.Result, state job.State) *coordinator {
	t.Helper()
	c := full(t)
	look, done := finished(state, job.DeleteSpec{DryRun: true}, found), finished(job.Succeeded, job.DeleteSpec{}, found)
	look.ID, done.ID = lookID, breakID
	if state == job.Failed {
		look.Failure = job.Fail(job.ArchiveMissing, "there is no archive b")
	}
	c.answers["POST /jobs"] = asker(func(_ *http.Request, body string) any {
		if strings.Contains(body, "dry_run") {
			return look
		}
		return done
	})
	c.ends = map[job.ID][]client.Event{lookID: {{Type: client.EventSnapshot, Job: &look}}, breakID: {{Type: client.EventSnapshot, Job: &done}}}
	return c
}

func TestDeleteArchives(t *testing.T) {
	two := job.Result{Deleted: []string{"a", "b"}}
	many := job.Result{Deleted: []string{"a", "b"}, DeletedOmitted: 1200}
	const question = "archives of main? [y/N]"
	look, lookGlob := `delete {"archives":["a","b"],"dry_run":true}`, `delete {"glob":"*","dry_run":true}`
	deleted, deletedGlob := `delete {"archives":["a","b"]}`, `delete {"glob":"*"}`
	for name, test := range map[string]struct {
		found   job.Result
		state   job.State
		args    string
		answers [][2]string // none: nobody is at a terminal
		code    int
		specs   []string
		says    string
	}{
		"seen":                 {two, job.Succeeded, "a b", [][2]string{{"Delete 2 " + question, "y"}}, 0, []string{look, deleted}, "  would delete a\n"},
		"not after all":        {two, job.Succeeded, "a b", [][2]string{{question, "n"}}, console.ExitFailed, []string{look}, "nothing was changed"},
		"what the glob was":    {two, job.Succeeded, "--glob *", [][2]string{{question, "y"}}, 0, []string{lookGlob, deleted}, "  deleted a\n"},
		"too many to name":     {many, job.Succeeded, "--glob *", [][2]string{{"Delete 1,202 " + question, "y"}}, 0, []string{lookGlob, deletedGlob}, "and 1,200 archives more"},
		"one is missing":       {two, job.Warning, "a b", [][2]string{{question, "y"}}, 0, []string{look, deleted}, "  deleted b\n"},
		"missing":              {job.Result{}, job.Failed, "a b", [][2]string{}, console.ExitJobFailed, []string{look}, "there is no archive b"},
		"nothing matches":      {job.Result{}, job.Warning, "--glob *", [][2]string{}, console.ExitWarning, []string{lookGlob}, "no archive matches"},
		"script":               {two, job.Succeeded, "a b", nil, console.ExitUsage, nil, "add --yes"},
		"script with JSON":     {two, job.Succeeded, "a b --json", [][2]string{}, console.ExitUsage, nil, "add --yes"},
		"script, sure":         {two, job.Succeeded, "a b --yes", nil, 0, []string{deleted}, "  deleted a\n"},
		"script, only looking": {two, job.Succeeded, "a b --dry-run --json", nil, 0, []string{look}, `"dry_run": true`},
		"no archive":           {two, job.Succeeded, "--yes", nil, console.ExitUsage, nil, "there is nothing to delete"},
		"names and a glob":     {two, job.Succeeded, "a b --glob *", nil, console.ExitUsage, nil, "cannot be combined"},
	} {
		t.Run(name, func(t *testing.T) {
			c := deleting(t, test.found, test.state)
			args := append(strings.Fields("archive delete main --host web1"), strings.Fields(test.args)...)
			var r result
			if test.answers == nil {
				r = c.run(t, "", args...)
			} else {
				r = c.at(t, test.answers, args...)
			}
			if diff := cmp.Diff(test.specs, c.specs()); r.code != test.code || diff != "" || !strings.Contains(r.out+r.err, test.says) {
				t.Errorf("exit code %d, want %d with %q:\n%s%s\nsubmitted (-want +got):\n%s", r.code, test.code, test.says, r.out, r.err, diff)
			}
		})
	}
}

// mounting is a coordinator whose mount job is told so much of.
func mounting(t *testing.T, events ...client.Event) *coordinator {
	t.Helper()
	c := ending(t, mounted(job.Queued))
	c.events = events
	return c
}

// mounted is a mount job in a state.
func mounted(state job.State) job.Job {
	j := finished(state, job.MountSpec{Archive: "web1-1", MountPoint: "/mnt/it is", Idle: 7200}, job.Result{})
	j.Result = nil
	if state == job.Failed {
		j.Failure = job.Fail(job.TargetNotEmpty, "/mnt/a is not empty")
	}
	return j
}

// usedMount is one that can be looked into.
func usedMount() job.Job {
	j := mounted(job.Running)
	j.Progress = &job.Progress{Phase: job.PhaseMounted}
	return j
}

func toldOf(j job.Job) client.Event { return client.Event{Type: client.EventJob, Job: &j} }

var usable = client.Event{Type: client.EventProgress, Progress: &client.Progress{Job: backupID, Progress: job.Progress{Phase: job.PhaseMounted}}}

// A mount command ends when the directory can be used, and leaves it mounted.
func TestMount(t *testing.T) {
	args := []string{"archive", "mount", "main", "web1-1", "/mnt/it is", "--idle", "2h", "--host", "web1"}
	c := mounting(t, toldOf(mounted(job.Queued)), toldOf(mounted(job.Running)), usable)
	r := c.run(t, "", args...)
	want := "web1-1 of main is mounted on web1 at /mnt/it is\n  until nobody has used it for 2 h, or: borgfleet archive umount '/mnt/it is' --host web1\n"
	if r.code != 0 || r.out != want || c.specs()[0] != `mount {"archive":"web1-1","mount_point":"/mnt/it is","idle":7200}` {
		t.Errorf("exit code %d, %q:\n%s%s", r.code, c.specs(), r.out, r.err)
	}
	var answer job.Job
	if r = c.run(t, "", append(args, "--json")...); json.Unmarshal([]byte(r.out), &answer) != nil || answer.State != job.Running || answer.Progress == nil || r.err != "" {
		t.Errorf("as JSON: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	c = mounting(t, toldOf(mounted(job.Running)), toldOf(mounted(job.Failed)))
	if r = c.run(t, "", args...); r.code != console.ExitJobFailed || !strings.Contains(r.out, "target_not_empty: /mnt/a is not empty") {
		t.Errorf("not empty: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	c = mounting(t, toldOf(mounted(job.Running)), usable, toldOf(mounted(job.Running)), toldOf(mounted(job.Succeeded)))
	if r = c.run(t, "", append(args, "--watch")...); r.code != 0 || !strings.HasPrefix(r.out, want+"mount of main on web1: succeeded") {
		t.Errorf("watched: exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	c = mounting(t, toldOf(mounted(job.Running)), usable)
	c.run(t, "", "archive", "mount", "main", "/mnt/a", "--expires", "1h", "--host", "web1", "--timeout", "1h")
	if specs := c.specs(); len(specs) != 1 || specs[0] != `mount {"mount_point":"/mnt/a"}` {
		t.Errorf("all archives: %q", specs)
	}
}

// Ctrl-C leaves a mount as it is, and says how to end it.
func TestLeaveAMount(t *testing.T) {
	c := mounting(t, toldOf(mounted(job.Running)), usable, toldOf(mounted(job.Running)), logged(1, job.LevelInfo, "still there"))
	r := c.interrupted(t, "still there", "job", "watch", string(backupID))
	if r.code != console.ExitFailed || !strings.Contains(r.err, "it stays mounted (to end it: borgfleet archive umount '/mnt/it is' --host web1)") {
		t.Errorf("exit code %d:\n%s", r.code, r.err)
	}
}

// Where something is mounted is known from the jobs that run.
func TestUmountWhereItIs(t *testing.T) {
	other := mounted(job.Running)
	other.Host = "db1"
	elsewhere := other
	elsewhere.Spec = job.MountSpec{MountPoint: "/mnt/other"}
	for name, test := range map[string]struct {
		running []job.Job
		host    string
	}{"here": {[]job.Job{elsewhere, mounted(job.Running)}, "web1"}, "not known": {nil, ""}, "on two": {[]job.Job{other, mounted(job.Running)}, ""}} {
		t.Run(name, func(t *testing.T) {
			c := ending(t, finished(job.Succeeded, job.UmountSpec{MountPoint: "/mnt/it is"}, job.Result{}))
			c.answers["GET /hosts"] = map[string]any{"hosts": []map[string]string{{"name": "web1"}, {"name": "db1"}}}
			c.answers["GET /jobs"] = job.Page{Jobs: test.running}
			r := c.run(t, "", "archive", "umount", "/mnt/it is/")
			if got := c.specOf(t); got.Host != test.host || got.Repository != "" || (r.code == 0) != (test.host != "") {
				t.Errorf("exit code %d on %q:\n%s%s", r.code, got.Host, r.out, r.err)
			}
		})
	}
}

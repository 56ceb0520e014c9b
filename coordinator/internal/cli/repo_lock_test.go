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

const (
	lookID  = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHM")
	breakID = job.ID("01JD9X7Q2M4T6W8Y0ABCDEFGHN")
)

// locked is a coordinator whose host finds these holders, or cannot see any.
func locked(t *testing.T, warnings []string, locks ...job.Lock) *coordinator {
	t.Helper()
	c := full(t)
	made := func(id job.ID, spec job.BreakLockSpec) job.Job {
		j := backup(job.Succeeded)
		j.ID, j.Kind, j.Spec = id, job.BreakLock, spec
		j.Result = &job.Result{Duration: 1, Locks: locks, Broken: !spec.DryRun && len(locks) > 0, Warnings: warnings}
		return j
	}
	look, broken := made(lookID, job.BreakLockSpec{DryRun: true}), made(breakID, job.BreakLockSpec{})
	waits := look
	waits.State, waits.Result, waits.Reason = job.Queued, nil, "repository main is busy with backup of web1"
	c.answers["POST /jobs"] = asker(func(_ *http.Request, body string) any {
		if strings.Contains(body, "dry_run") {
			return waits
		}
		return broken
	})
	c.ends = map[job.ID][]client.Event{
		lookID:  {{Type: client.EventSnapshot, Job: &waits}, {Type: client.EventJob, Job: &look}},
		breakID: {{Type: client.EventSnapshot, Job: &broken}},
	}
	return c
}

func (c *coordinator) specs() (specs []string) {
	for _, asked := range c.asked {
		if body, ok := strings.CutPrefix(asked, "POST /jobs "); ok {
			var request job.Request
			_ = json.Unmarshal([]byte(body), &request)
			specs = append(specs, string(request.Kind)+" "+string(request.Spec))
		}
	}
	return specs
}

func TestBreakLock(t *testing.T) {
	gone := job.Lock{Holder: "web1@borgfleet-x.4711-0", PID: 4711, Exclusive: true, Process: job.Dead}
	alive := job.Lock{Holder: "web1@borgfleet-x.4712-0", PID: 4712, Process: job.Alive}
	foreign := job.Lock{Holder: "db2@99.12-0", PID: 12, Process: job.Unknown}
	look, broken, forced := `break-lock {"dry_run":true}`, `break-lock {}`, `break-lock {"force":true}`
	for name, test := range map[string]struct {
		locks    []job.Lock
		warnings []string
		args     string
		answers  [][2]string // none: nobody is at a terminal
		code     int
		specs    []string
		says     string
	}{
		"gone":                {locks: []job.Lock{gone}, answers: [][2]string{{"All of them are gone", "y"}}, specs: []string{look, broken}, says: "web1@borgfleet-x.4711-0  4711     exclusive  dead"},
		"gone, but no":        {locks: []job.Lock{gone}, answers: [][2]string{{"All of them are gone", "n"}}, code: console.ExitFailed, specs: []string{look}, says: "nothing was changed"},
		"nobody":              {answers: [][2]string{}, specs: []string{look}, says: "nobody holds the lock"},
		"says why it waits":   {answers: [][2]string{}, specs: []string{look}, says: "waiting: repository main is busy with backup of web1"},
		"alive":               {locks: []job.Lock{gone, alive}, answers: [][2]string{}, code: console.ExitFailed, specs: []string{look}, says: "may be alive"},
		"foreign":             {locks: []job.Lock{foreign}, answers: [][2]string{}, code: console.ExitFailed, specs: []string{look}, says: "add --force"},
		"foreign, with force": {locks: []job.Lock{foreign}, args: "--force", answers: [][2]string{{"whoever holds it", "y"}}, specs: []string{look, forced}, says: "the lock is broken"},
		"unseen":              {warnings: []string{"cannot be seen"}, answers: [][2]string{}, code: console.ExitFailed, specs: []string{look}, says: "cannot be seen"},
		"script":              {locks: []job.Lock{gone}, code: console.ExitUsage, says: "add --yes"},
		"script, sure":        {locks: []job.Lock{gone}, args: "--yes", specs: []string{broken}, says: "the lock is broken"},
		"script, very sure":   {locks: []job.Lock{foreign}, args: "--yes --force --json", specs: []string{forced}, says: `"broken": true`},
	} {
		t.Run(name, func(t *testing.T) {
			c := locked(t, test.warnings, test.locks...)
			args := append(strings.Fields("repo break-lock main --host web1"), strings.Fields(test.args)...)
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

func TestBreakLockHasItsTimes(t *testing.T) {
	c := locked(t, nil)
	c.run(t, "", strings.Fields("repo break-lock main --host web1 --yes --timeout 90s --expires 2h")...)
	for _, asked := range c.asked {
		if body, ok := strings.CutPrefix(asked, "POST /jobs "); ok && (!strings.Contains(body, `"timeout":90`) || !strings.Contains(body, `"expires_in":7200`)) {
			t.Errorf("submitted %s", body)
		}
	}
	if len(c.specs()) != 1 {
		t.Errorf("submitted %q", c.specs())
	}
}

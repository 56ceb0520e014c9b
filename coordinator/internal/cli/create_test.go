package cli_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// creating is a coordinator without repositories, on which an init ends in a
// state and a backup succeeds.
func creating(t *testing.T, state job.State) *coordinator {
	t.Helper()
	c := newCoordinator(t)
	initial, done := backup(state), backup(job.Succeeded)
	initial.ID, initial.Kind, initial.Spec, initial.Result = listID, job.Init, job.InitSpec{}, nil
	c.ends = map[job.ID][]client.Event{
		listID: {{Type: client.EventJob, Job: &initial}}, backupID: {{Type: client.EventJob, Job: &done}},
	}
	c.answers["GET /repositories/main"] = job.Fail(job.UnknownRepository, "there is no repository main")
	c.answers["POST /repositories"] = map[string]any{"name": "main", "generated_passphrase": "correct horse"}
	c.answers["POST /jobs"] = asker(func(_ *http.Request, body string) any {
		if strings.Contains(body, `"kind":"init"`) {
			return initial
		}
		return done
	})
	return c
}

// did returns the requests that change something, without their bodies, and the
// kinds of jobs.
func (c *coordinator) did() (changes []string) {
	for _, asked := range c.asked {
		what, body, _ := strings.Cut(asked, " {")
		if strings.HasPrefix(what, "GET") {
			continue
		}
		for _, kind := range []string{"init", "backup"} {
			if strings.Contains(body, `"kind":"`+kind+`"`) {
				what = kind
			}
		}
		changes = append(changes, what)
	}
	return changes
}

var createArgs = []string{"backup", "--host", "web1", "--repo", "main", "--create", "/srv/main", "--generate-passphrase", "/etc"}

// One command makes a repository known, creates it, and backs up.
func TestBackupCreates(t *testing.T) {
	all := []string{"POST /repositories", "init", "backup"}
	for name, test := range map[string]struct {
		state job.State
		did   []string
		code  int
		says  string // on standard error
	}{
		"good":          {job.Succeeded, all, console.ExitDone, ""},
		"with warnings": {job.Warning, all, console.ExitDone, ""},
		"failed":        {job.Failed, all[:2], console.ExitJobFailed, "borgfleet repo init main --host web1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := creating(t, test.state)
			r := c.run(t, "", createArgs...)
			if r.code != test.code || !strings.Contains(r.out, "\ncorrect horse\n") || !strings.Contains(r.err, test.says) || strings.Contains(r.err, "correct horse") {
				t.Errorf("exit code %d, want %d:\n%s%s", r.code, test.code, r.out, r.err)
			}
			if got := c.did(); !slices.Equal(got, test.did) {
				t.Errorf("did %q, want %q", got, test.did)
			}
			c.asked = nil
			r = c.run(t, "", append(createArgs, "--json")...)
			var last job.Job
			if err := json.Unmarshal([]byte(r.out), &last); err != nil || string(last.Kind) != test.did[len(test.did)-1] || r.code != test.code {
				t.Errorf("as JSON: exit code %d, %v:\n%s%s", r.code, err, r.out, r.err)
			}
			if !strings.Contains(r.err, "passphrase of main: correct horse\n") {
				t.Errorf("the passphrase is lost:\n%s", r.err)
			}
		})
	}
}

// A repository that is known is used, if it is the one that is meant.
func TestBackupIntoAKnownRepository(t *testing.T) {
	c := creating(t, job.Succeeded)
	known := fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: "main", Location: "/srv/main"}}}
	c.answers["GET /repositories/main"] = known
	if r := c.run(t, "", createArgs...); r.code != 0 || !slices.Equal(c.did(), []string{"backup"}) {
		t.Errorf("exit code %d, did %q:\n%s%s", r.code, c.did(), r.out, r.err)
	}
	known.Location, c.asked = "/srv/other", nil
	c.answers["GET /repositories/main"] = known
	if r := c.run(t, "", createArgs...); r.code != console.ExitUsage || len(c.did()) > 0 || !strings.Contains(r.err, "at /srv/other and not at /srv/main") {
		t.Errorf("elsewhere: exit code %d, did %q:\n%s%s", r.code, c.did(), r.out, r.err)
	}
	c.answers["GET /repositories/main"] = job.Fail(job.NotAllowed, "no")
	c.asked = nil
	if r := c.run(t, "", createArgs...); r.code != console.ExitUnreachable || len(c.did()) > 0 {
		t.Errorf("not allowed: exit code %d, did %q:\n%s%s", r.code, c.did(), r.out, r.err)
	}
}

// With custody hosts, the host that backs up can read the passphrase.
func TestBackupCreatesForItsHost(t *testing.T) {
	c := creating(t, job.Succeeded)
	key := c.addHost(t, "web1")
	r := c.run(t, "", append(createArgs, "--custody", "hosts")...)
	if r.code != 0 {
		t.Fatalf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	c.asked = slices.DeleteFunc(c.asked, func(asked string) bool { return !strings.HasPrefix(asked, "POST /repositories") })
	if made := c.sealed(t, "web1", key); !strings.Contains(r.out, "\n"+made+"\n") {
		t.Errorf("sealed %q:\n%s", made, r.out)
	}
}

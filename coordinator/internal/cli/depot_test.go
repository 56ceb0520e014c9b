package cli_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestAddRepositoryToTheDepot(t *testing.T) {
	for name, test := range map[string]struct {
		state job.State
		code  int
		says  string
	}{
		"good":   {job.Succeeded, 0, "Created repository main in the depot. It may be used by: web1"},
		"failed": {job.Failed, console.ExitJobFailed, "borgfleet repo init main"},
	} {
		t.Run(name, func(t *testing.T) {
			c := ending(t, finished(test.state, job.InitSpec{}, job.Result{}))
			c.answers["POST /repositories"] = map[string]any{"name": "main", "generated_passphrase": "correct horse", "depot": map[string]any{"hosts": []string{"web1"}}}
			args := strings.Fields("repo add main --location depot --quota 1.5T --append-only --host web1 --generate-passphrase")
			r := c.run(t, "", args...)
			if r.code != test.code || !strings.Contains(r.out, test.says) || !strings.Contains(r.out, "\ncorrect horse\n") {
				t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
			}
			want := map[string]any{"quota": 1.5e12, "append_only": true, "hosts": []any{"web1"}}
			if diff := cmp.Diff(want, c.body(t, "POST /repositories")["depot"]); diff != "" {
				t.Errorf("agreed (-want +got):\n%s", diff)
			}
			if got := c.specOf(t); got.Kind != job.Init || got.Host != "" || got.Repository != "main" {
				t.Errorf("submitted %+v", got)
			}
		})
	}
}

// One command makes a repository in the depot, lets its host in, and backs up.
func TestBackupCreatesInTheDepot(t *testing.T) {
	c := creating(t, job.Succeeded)
	args := slices.Clone(createArgs)
	args[slices.Index(args, "/srv/main")] = job.DepotLocation
	r := c.run(t, "", args...)
	if got := c.did(); r.code != 0 || !slices.Equal(got, []string{"POST /repositories", "init", "backup"}) {
		t.Errorf("exit code %d, did %q:\n%s%s", r.code, got, r.out, r.err)
	}
	if diff := cmp.Diff(any(map[string]any{"hosts": []any{"web1"}}), c.body(t, "POST /repositories")["depot"]); diff != "" {
		t.Errorf("agreed (-want +got):\n%s", diff)
	}
}

// The coordinator's own machine is never the only host, and does itself what it
// can in its depot.
func TestWhichHostWithADepot(t *testing.T) {
	local := fleet.HostView{Host: fleet.Host{Name: fleet.LocalHost, Mode: fleet.ModeLocal}}
	for args, want := range map[string]string{
		"repo info main": "", "archive list main --refresh": "", "archive diff main a b": "",
		"repo prune main --keep-last 1": "web1", "archive restore main a --target /t": "web1", "backup --repo main /etc": "web1",
	} {
		c := ending(t, finished(job.Succeeded, job.InfoSpec{}, job.Result{}))
		c.answers["GET /hosts"] = map[string]any{"hosts": []fleet.HostView{local, {Host: fleet.Host{Name: "web1"}}}}
		c.answers["GET /repositories/main"] = fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: "main", Location: job.DepotLocation}}}
		r := c.run(t, "", strings.Fields(args)...)
		if got := c.specOf(t); r.code != 0 || got.Kind == "" || got.Host != want {
			t.Errorf("%s: exit code %d on %q, want %q:\n%s%s", args, r.code, got.Host, want, r.out, r.err)
		}
	}
}

func TestDepotCommands(t *testing.T) {
	c := ending(t, finished(job.Succeeded, job.ListSpec{}, job.Result{}))
	kept := fleet.RepositoryView{Repository: fleet.Repository{
		Repository: job.Repository{Name: "kept", Location: job.DepotLocation},
		Depot: &fleet.Depot{Quota: 500e9, AppendOnly: true, Hosts: []string{"db1", "web1"}, Frozen: &fleet.Frozen{
			At: at(0), Reason: "an archive is gone", Missing: []string{"web1-1", "web1-2"}, Unknown: []string{"evil"},
		}},
	}}
	done := finished(job.Succeeded, job.ListSpec{}, job.Result{})
	for call, answer := range map[string]any{
		"GET /depot":             fleet.DepotView{Address: "backup:2222", Fingerprint: "SHA256:abc", Uses: []fleet.DepotUse{{Repository: "kept", Open: 1, Received: 5e9}}},
		"GET /repositories/kept": kept, "PUT /repositories/kept/hosts/db1": kept, "DELETE /repositories/kept/hosts/*": kept,
		"GET /repositories/kept/transactions": map[string]any{"transactions": []fleet.Transaction{{Number: 41, At: at(0)}}},
		"POST /repositories/kept/rollback":    kept, "POST /repositories/kept/unfreeze": done,
	} {
		c.answers[call] = answer
	}
	for args, want := range map[string][]string{
		"depot show":          {"backup:2222", "SHA256:abc", "5.0 GB"},
		"repo allow kept db1": {"db1, web1"}, "repo deny kept *": {"db1, web1"},
		"repo transactions kept":                        {"41"},
		"repo rollback kept --to 41 --reason bad --yes": {"after transaction 41", "borgfleet repo unfreeze kept", "borgfleet host verify db1 --repo kept --accept-older", "verify web1 --repo"},
		"repo unfreeze kept --reason right":             {"succeeded"},
		"repo show kept": {"kept by the coordinator", "500 GB", "never delete", "db1, web1", "an archive is gone", "web1-2", "evil",
			"repo unfreeze kept", "repo rollback kept", "repo deny kept", "--repo kept --accept-older"},
	} {
		r := c.run(t, "", strings.Fields(args)...)
		for _, text := range want {
			if r.code != 0 || !strings.Contains(r.out, text) {
				t.Errorf("%s: exit code %d, no %q:\n%s%s", args, r.code, text, r.out, r.err)
			}
		}
	}
	if diff := cmp.Diff(map[string]any{"transaction": 41.0, "reason": "bad"}, c.body(t, "POST /repositories/kept/rollback")); diff != "" {
		t.Errorf("rollback (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"reason": "right"}, c.body(t, "POST /repositories/kept/unfreeze")); diff != "" {
		t.Errorf("unfreeze (-want +got):\n%s", diff)
	}
}

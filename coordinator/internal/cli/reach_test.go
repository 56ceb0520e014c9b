package cli_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// shownKey is a new key of a server.
func shownKey(t *testing.T, address string) fleet.ShownKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return fleet.ShownKey{Address: address, Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), Fingerprint: ssh.FingerprintSHA256(key)}
}

// network is a coordinator that reaches a host over SSH, and a server on the way.
type network struct {
	*coordinator
	host, gate fleet.ShownKey
	view       fleet.HostView
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{coordinator: full(t), host: shownKey(t, "me@legacy"), gate: shownKey(t, "me@gate")}
	n.view = fleet.HostView{
		Host: fleet.Host{
			Name: "legacy", Mode: fleet.ModeSSH, Reach: fleet.ReachDepot, SSHKey: n.gate.Key,
			SSH: &fleet.SSHAccess{Address: "me@legacy:22", HostKeys: []string{n.host.Key}, Jump: []fleet.SSHHop{}, PublicKey: n.host.Key, Sudo: true, Slots: 2},
		},
		Online: true,
	}
	verified := finished(job.Succeeded, job.VerifySpec{}, job.Result{Checks: []job.Finding{{Name: "borg", Good: true, Detail: "borg 1.2.4"}}})
	n.events = []client.Event{{Type: client.EventSnapshot, Job: &verified}}
	n.answers["POST /ssh/scan"] = asker(func(_ *http.Request, body string) any {
		keys := map[bool]fleet.ShownKey{true: n.gate, false: n.host}
		return map[string]any{"keys": []fleet.ShownKey{keys[strings.HasPrefix(body, `{"address":"me@gate"`)]}}
	})
	for _, call := range []string{"POST /hosts", "GET /hosts/legacy", "PATCH /hosts/legacy"} {
		n.answers[call] = asker(func(*http.Request, string) any { return n.view })
	}
	n.answers["POST /hosts/legacy/verify"] = verified
	return n
}

// body is what was last sent to an address.
func (c *coordinator) body(t *testing.T, call string) map[string]any {
	t.Helper()
	var fields map[string]any
	for _, asked := range c.asked {
		if text, ok := strings.CutPrefix(asked, call+" "); ok {
			fields = nil
			if err := json.Unmarshal([]byte(text), &fields); err != nil {
				t.Fatal(err)
			}
		}
	}
	return fields
}

func TestAddHostOverSSH(t *testing.T) {
	n := newNetwork(t)
	keyFile := filepath.Join(t.TempDir(), "ssh_host_ed25519_key.pub")
	if err := os.WriteFile(keyFile, []byte("# of legacy\nlegacy "+n.host.Key+" root@legacy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pinned := map[string]any{"address": "me@legacy", "host_keys": []any{n.host.Key}}
	for name, test := range map[string]struct {
		args  string
		ssh   map[string]any // beside the pinned key; nil: not added
		scans int
		says  string
	}{
		"by its fingerprint":    {"--host-key " + n.host.Fingerprint, map[string]any{}, 1, ""},
		"by its key":            {"--host-key " + keyFile, map[string]any{}, 0, ""},
		"believed":              {"--yes", map[string]any{}, 1, n.host.Fingerprint},
		"another key":           {"--host-key SHA256:abc", nil, 1, "and not by a key that was given"},
		"nobody to say":         {"", nil, 1, "add --host-key " + n.host.Fingerprint},
		"with all there can be": {"--yes --sudo --borg /b --dir /d --hooks /h --slots 3 --reach tunnel --own-key", map[string]any{"sudo": true, "borg": "/b", "dir": "/d", "hooks": "/h", "slots": 3.0, "reach": "tunnel", "own_key": true}, 1, ""},
		"over another": {
			"--jump me@gate --host-key " + n.host.Fingerprint + " --host-key " + n.gate.Fingerprint,
			map[string]any{"jump": []any{map[string]any{"address": "me@gate", "host_keys": []any{n.gate.Key}}}}, 2, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			n.asked = nil
			r := n.run(t, "", strings.Fields("host add legacy --ssh me@legacy "+test.args)...)
			if (r.code == 0) != (test.ssh != nil) || !strings.Contains(r.err, test.says) {
				t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
			}
			if scans := strings.Count(strings.Join(n.asked, "\n"), "POST /ssh/scan"); scans != test.scans {
				t.Errorf("%d scans, want %d", scans, test.scans)
			}
			added := n.body(t, "POST /hosts")
			if test.ssh == nil {
				if added != nil {
					t.Errorf("added %v", added)
				}
				return
			}
			want := map[string]any{}
			for _, fields := range []map[string]any{pinned, test.ssh} {
				for key, value := range fields {
					want[key] = value
				}
			}
			if diff := cmp.Diff(map[string]any{"name": "legacy", "ssh": want}, added); diff != "" {
				t.Errorf("added (-want +got):\n%s", diff)
			}
			if !strings.Contains(r.out, "reached over SSH at me@legacy:22") || !strings.Contains(r.out, "borg 1.2.4") || !strings.Contains(r.out, "It can be backed up") {
				t.Errorf("%s%s", r.out, r.err)
			}
		})
	}
}

// A person looks at the fingerprint.
func TestAskedForAHostKey(t *testing.T) {
	n := newNetwork(t)
	for answer, code := range map[string]int{"y": console.ExitDone, "n": console.ExitFailed} {
		n.asked = nil
		r := n.at(t, [][2]string{{"Is it the same?", answer}}, "host", "add", "legacy", "--ssh", "me@legacy")
		if r.code != code || !strings.Contains(r.err, n.host.Fingerprint) || (n.body(t, "POST /hosts") != nil) != (code == 0) {
			t.Errorf("%s: exit code %d:\n%s%s", answer, r.code, r.out, r.err)
		}
	}
}

// What is still to be done is said, with what it takes.
func TestFirstLook(t *testing.T) {
	for name, test := range map[string]struct {
		change func(n *network)
		says   []string
		code   int
		flag   string
	}{
		"not let in": {func(n *network) {
			n.answers["POST /hosts/legacy/verify"] = job.Fail(job.PermissionDenied, "legacy does not let the coordinator's key in")
		}, []string{"~/.ssh/authorized_keys", "ssh-ed25519 ", "borgfleet host verify legacy"}, console.ExitUnreachable, "--yes"},
		"not there": {func(n *network) {
			n.answers["POST /hosts/legacy/verify"] = job.Fail(job.HostUnreachable, "connection refused")
		}, []string{"Added host legacy"}, console.ExitUnreachable, "--keep"},
		"no borg": {func(n *network) {
			n.view.Disabled = true
			n.view.Facts = &fleet.Facts{BorgFailure: job.Fail(job.BorgMissing, "borg is not installed").WithHint("apt install borgbackup")}
		}, []string{"borg is not installed (apt install borgbackup)", "borgfleet host enable legacy"}, 0, "--yes"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			test.change(n)
			r := n.run(t, "", "host", "add", "legacy", "--ssh", "me@legacy", "--yes", test.flag)
			for _, text := range test.says {
				if r.code != test.code || !strings.Contains(r.out, text) {
					t.Errorf("exit code %d, no %q:\n%s%s", r.code, text, r.out, r.err)
				}
			}
			r = n.run(t, "", "host", "add", "legacy", "--ssh", "me@legacy", "--yes", test.flag, "--json")
			if host := (fleet.HostView{}); json.Unmarshal([]byte(r.out), &host) != nil || host.Name != "legacy" || r.code != test.code {
				t.Errorf("as JSON: exit code %d:\n%s%s", r.code, r.out, r.err)
			}
		})
	}
}

// What cannot be reached is a wrong address more often than not.
func TestHostThatIsNotThereIsNotAdded(t *testing.T) {
	n := newNetwork(t)
	n.answers["POST /hosts/legacy/verify"] = job.Fail(job.HostUnreachable, "connection refused")
	n.answers["DELETE /hosts/legacy"] = struct{}{}
	r := n.run(t, "", "host", "add", "legacy", "--ssh", "me@legacy", "--yes")
	if r.code != console.ExitUnreachable || !strings.Contains(r.err, "connection refused; host legacy was not added") || r.out != "" {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if !strings.Contains(strings.Join(n.asked, "\n"), "DELETE /hosts/legacy") {
		t.Errorf("it is still there: %v", n.asked)
	}
}

func TestIdentityFile(t *testing.T) {
	n := newNetwork(t)
	if r := n.run(t, "PRIVATE\n", "host", "add", "legacy", "--ssh", "me@legacy", "--yes", "--identity-file", "-"); r.code != 0 {
		t.Fatalf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	fields, _ := n.body(t, "POST /hosts")["ssh"].(map[string]any)
	if key, _ := fields["key"].(string); !strings.HasPrefix(key, "PRIVATE") || fields["own_key"] != true {
		t.Errorf("sent %v", fields)
	}
}

func TestSetHost(t *testing.T) {
	n := newNetwork(t)
	present := map[string]any{"address": "me@legacy:22", "host_keys": []any{n.host.Key}, "sudo": true, "slots": 2.0}
	with := func(change func(map[string]any)) map[string]any {
		fields := map[string]any{}
		for key, value := range present {
			fields[key] = value
		}
		change(fields)
		return map[string]any{"ssh": fields}
	}
	for name, test := range map[string]struct {
		args string
		want map[string]any
	}{
		"slots":         {"--slots 4", with(func(f map[string]any) { f["slots"] = 4.0 })},
		"no sudo":       {"--no-sudo", with(func(f map[string]any) { delete(f, "sudo") })},
		"its way":       {"--reach tunnel", map[string]any{"reach": "tunnel"}},
		"labels":        {"--label role=web --label old=", map[string]any{"labels": map[string]any{"role": "web"}}},
		"another place": {"--ssh me@legacy2 --yes", with(func(f map[string]any) { f["address"] = "me@legacy2" })},
		"another key":   {"--host-key " + n.host.Fingerprint, with(func(map[string]any) {})},
		"over a gateway": {"--jump me@gate --yes", with(func(f map[string]any) {
			f["jump"] = []any{map[string]any{"address": "me@gate", "host_keys": []any{n.gate.Key}}}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			n.asked = nil
			r := n.run(t, "", strings.Fields("host set legacy "+test.args)...)
			if diff := cmp.Diff(test.want, n.body(t, "PATCH /hosts/legacy")); r.code != 0 || diff != "" {
				t.Errorf("exit code %d (-want +got):\n%s%s%s", r.code, diff, r.out, r.err)
			}
		})
	}
	for command, want := range map[string]bool{"enable": false, "disable": true} {
		if r := n.run(t, "", "host", command, "legacy"); r.code != 0 || n.body(t, "PATCH /hosts/legacy")["disabled"] != want {
			t.Errorf("%s: exit code %d, %v\n%s", command, r.code, n.asked, r.err)
		}
	}
}

func TestVerifyHost(t *testing.T) {
	n := newNetwork(t)
	r := n.run(t, "", strings.Fields("host verify legacy --repo main --accept-moved --accept-older --rebuild-cache --timeout 1m")...)
	want := map[string]any{"repository": "main", "accept_moved": true, "accept_older": true, "rebuild_cache": true, "timeout": 60.0}
	if diff := cmp.Diff(want, n.body(t, "POST /hosts/legacy/verify")); diff != "" || r.code != 0 || !strings.Contains(r.out, "borg 1.2.4") {
		t.Errorf("exit code %d (-want +got):\n%s%s%s", r.code, diff, r.out, r.err)
	}
}

func TestHostKey(t *testing.T) {
	n := newNetwork(t)
	n.answers["GET /ssh/key"] = map[string]string{"public_key": n.host.Key}
	depot := fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: "kept", Location: job.DepotLocation}, Depot: &fleet.Depot{}}}
	at := func(location string) fleet.RepositoryView {
		return fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: "x", Location: location}}}
	}
	n.answers["GET /repositories/kept"] = depot
	n.answers["GET /repositories/far"] = at("ssh://backup@store:2222/srv/o'borg")
	n.answers["GET /repositories/home"] = at("ssh://backup@store/./borg")
	for args, want := range map[string]string{
		"":                                n.host.Key + "\n",
		"legacy":                          n.gate.Key + "\n",
		"legacy --repo far":               `command="borg serve --restrict-to-repository '/srv/o'\''borg'",restrict ` + n.gate.Key,
		"legacy --repo home":              `command="borg serve --restrict-to-repository borg",restrict ` + n.gate.Key,
		"legacy --append-only --repo=far": ` --append-only",restrict ` + n.gate.Key,
	} {
		if r := n.run(t, "", strings.Fields("host key "+args)...); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%q: exit code %d:\n%s%s", args, r.code, r.out, r.err)
		}
	}
	for args, want := range map[string]string{
		"web1": "no key of its own yet", "legacy --repo kept": "borgfleet repo allow kept legacy", "legacy --repo main": "no server has to let anybody in",
	} {
		if r := n.run(t, "", strings.Fields("host key "+args)...); r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("%q: exit code %d:\n%s%s", args, r.code, r.out, r.err)
		}
	}
}

func TestConvertHost(t *testing.T) {
	n := newNetwork(t)
	n.answers["POST /hosts/legacy/convert"] = client.Conversion{Steps: []fleet.ConvertStep{{Name: "copy", Detail: "the agent is there"}}}
	if r := n.run(t, "", "host", "convert", "legacy", "--yes"); r.code != 0 || !strings.Contains(r.out, "the agent is there") || !strings.Contains(r.out, "has an agent now") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	n.answers["POST /hosts/legacy/convert"] = client.Conversion{
		Steps: []fleet.ConvertStep{{Name: "copy", Detail: "the agent is there"}}, Failure: job.Fail(job.Timeout, "it did not say hello"),
	}
	if r := n.run(t, "", "host", "convert", "legacy", "--yes"); r.code == 0 || !strings.Contains(r.out, "the agent is there") || !strings.Contains(r.err, "it did not say hello") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
}

// host show tells the three ways to repositories apart.
func TestShowHostOverSSH(t *testing.T) {
	n := newNetwork(t)
	n.answers["GET /depot"] = fleet.DepotView{Address: "backup:2222"}
	n.answers["GET /repositories"] = map[string]any{"repositories": []fleet.RepositoryView{
		{Repository: fleet.Repository{Repository: job.Repository{Name: "far", Location: "ssh://store/x"}}},
		{Repository: fleet.Repository{Repository: job.Repository{Name: "kept", Location: job.DepotLocation}, Depot: &fleet.Depot{Hosts: []string{"legacy"}}}},
		{Repository: fleet.Repository{Repository: job.Repository{Name: "secret", Location: job.DepotLocation}, Depot: &fleet.Depot{Hosts: []string{"web1"}}}},
	}}
	looked, now := finished(job.Warning, job.VerifySpec{}, job.Result{Checks: []job.Finding{
		{Name: "borg", Good: true, Detail: "borg 1.2.4"}, {Name: "runs", Detail: "there are runs that no job here follows", Hint: "end them"},
	}}), time.Now()
	looked.Kind, looked.FinishedAt = job.Verify, &now
	n.answers["GET /jobs"] = job.Page{Jobs: []job.Job{looked}}
	show := func(want ...string) {
		t.Helper()
		r := n.run(t, "", "host", "show", "legacy")
		for _, text := range want {
			if !strings.Contains(r.out, text) || strings.Contains(r.out, "secret") {
				t.Errorf("exit code %d, no %q:\n%s%s", r.code, text, r.out, r.err)
			}
		}
	}
	show("ssh: the coordinator connects to it", "me@legacy:22", n.host.Fingerprint, "the coordinator's key for all hosts", "as root, by sudo", "2 jobs",
		"far: A, ssh://store/x by the host's own key", "kept: B, the depot at backup:2222", "verified", "just now", "1 of 2 findings", "runs that no job", "hint: end them")
	n.view.Reach, n.view.Disabled = fleet.ReachTunnel, true
	n.view.Problem = job.Fail(job.HostKeyChanged, "it shows another key").WithHint("look who it is")
	show("kept: C, the depot through a tunnel", "not reached: host_key_changed", "it shows another key", "hint: look who it is", "borgfleet host enable legacy")
}

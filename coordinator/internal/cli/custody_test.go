package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/nats-io/nkeys"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// addHost gives the coordinator a host with a key to seal to, and returns it.
func (c *coordinator) addHost(t *testing.T, name string) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	c.answers["GET /hosts/"+name] = fleet.HostView{Host: fleet.Host{Name: name, SealKey: public}}
	return key
}

// sealed returns what the last request carried for a host, opened with its key.
func (c *coordinator) sealed(t *testing.T, host string, key nkeys.KeyPair) string {
	t.Helper()
	last := c.asked[len(c.asked)-1]
	var request struct {
		Sealed map[string]fleet.SealedPassphrase `json:"sealed"`
	}
	if err := json.Unmarshal([]byte(last[strings.Index(last, "{"):]), &request); err != nil {
		t.Fatal(err)
	}
	box := request.Sealed[host]
	value, err := secret.Open(box.Sealed, secret.Purpose{Host: host, Repository: "main"}, key)
	if err != nil {
		t.Fatalf("%s cannot open its box in %s: %v", host, last, err)
	}
	if public, err := key.PublicKey(); err != nil || box.SealKey != public {
		t.Errorf("sealed to %q, %v", box.SealKey, err)
	}
	return string(value.Reveal())
}

// toldOf returns the passphrases that requests carried in clear.
func (c *coordinator) toldOf(passphrase string) (requests []string) {
	for _, asked := range c.asked {
		if strings.Contains(asked, passphrase) || strings.Contains(asked, `"passphrase"`) || strings.Contains(asked, "generate") {
			requests = append(requests, asked)
		}
	}
	return requests
}

// With custody hosts the passphrase leaves this machine for the hosts only.
func TestCustodyHosts(t *testing.T) {
	c := newCoordinator(t)
	web1, web2 := c.addHost(t, "web1"), c.addHost(t, "web2")
	c.answers["POST /repositories"] = fleet.RepositoryView{Repository: fleet.Repository{Repository: job.Repository{Name: "main"}}}
	add := []string{"repo", "add", "main", "--location", "/srv", "--custody", "hosts", "--for", "web1,web2"}

	if r := c.run(t, "a b c\n", append(add, "--passphrase-file", "-")...); r.code != 0 || strings.Contains(r.out+r.err, "a b c") {
		t.Fatalf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if one, two := c.sealed(t, "web1", web1), c.sealed(t, "web2", web2); one != "a b c" || two != one {
		t.Errorf("sealed %q and %q", one, two)
	}
	if told := c.toldOf("a b c"); len(told) > 0 {
		t.Errorf("told in clear: %v", told)
	}

	r := c.run(t, "", append(add, "--generate-passphrase")...)
	made := c.sealed(t, "web1", web1)
	if r.code != 0 || len(made) < 40 || strings.Count(r.out, made+"\n") != 1 {
		t.Errorf("exit code %d, %q:\n%s%s", r.code, made, r.out, r.err)
	}
	var added struct {
		Generated string `json:"generated_passphrase"`
	}
	r = c.run(t, "", append(add, "--generate-passphrase", "--json")...)
	if again := c.sealed(t, "web2", web2); json.Unmarshal([]byte(r.out), &added) != nil || added.Generated != again || again == made {
		t.Errorf("%q, %q, as JSON:\n%s%s", again, made, r.out, r.err)
	}
	if told := c.toldOf(made); len(told) > 0 {
		t.Errorf("told in clear: %v", told)
	}
}

func TestRepoSeal(t *testing.T) {
	c := newCoordinator(t)
	key := c.addHost(t, "web1")
	c.answers["GET /hosts/db1"] = fleet.HostView{Host: fleet.Host{Name: "db1"}}
	c.answers["PATCH /repositories/main"] = fleet.RepositoryView{SealedFor: []string{"web2", "web1"}}
	seal := func(stdin, host string) result {
		return c.run(t, stdin, "repo", "seal", "main", "--host", host, "--passphrase-file", "-")
	}
	if r := seal("a b c\n", "web1"); r.code != 0 || !strings.Contains(r.out, "can be read by: web1, web2\n") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	if got := c.sealed(t, "web1", key); got != "a b c" {
		t.Errorf("sealed %q", got)
	}
	if r := seal("a b c\n", "db1"); r.code != console.ExitFailed || !strings.Contains(r.err, "borgfleet host token db1") {
		t.Errorf("not enrolled: exit code %d: %s", r.code, r.err)
	}
	if r := seal("a\tb\n", "web1"); r.code != console.ExitUsage || !strings.Contains(r.err, "control character") {
		t.Errorf("not for borg: exit code %d: %s", r.code, r.err)
	}
	if told := c.toldOf("a b c"); len(told) > 0 {
		t.Errorf("told in clear: %v", told)
	}
}

func TestWhoReadsThePassphrase(t *testing.T) {
	for want, r := range map[string]fleet.RepositoryView{
		"readable by web1, web2 only":        {Repository: fleet.Repository{Custody: fleet.CustodyHosts}, SealedFor: []string{"web1", "web2"}},
		"readable by no host (see":           {Repository: fleet.Repository{Custody: fleet.CustodyHosts}},
		"kept by the coordinator, encrypted": {Repository: fleet.Repository{HasPassphrase: true}},
		"key exported  never (see":           {HasKey: true},
		"key exported  1 h ago":              {HasKey: true, KeyExportedAt: pointer(time.Now().Add(-90 * time.Minute))},
	} {
		c := newCoordinator(t)
		c.answers["GET /repositories/main"] = r
		if got := c.run(t, "", "repo", "show", "main"); got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("no %q in:\n%s%s", want, got.out, got.err)
		}
	}
}

// exporting is a coordinator on which a key export ends in a state.
func exporting(t *testing.T, state job.State, key string) (c *coordinator, args []string, file string) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c = newCoordinator(t)
	done := backup(state)
	done.Kind, done.Spec, done.Result = job.KeyExport, job.KeyExportSpec{Recipient: identity.Recipient().String()}, &job.Result{KeyExport: key}
	c.answers["POST /jobs"], c.answers["GET /jobs/"+string(backupID)] = done, done
	c.events = []client.Event{{Type: client.EventJob, Job: &done}}
	file = filepath.Join(t.TempDir(), "main.age")
	return c, []string{"repo", "key-export", "main", "--host", "web1", "--recipient", identity.Recipient().String(), "-o", file}, file
}

func TestKeyExport(t *testing.T) {
	for name, test := range map[string]struct {
		state job.State
		key   string
		code  int
	}{
		"good":          {job.Succeeded, "sealed\n", console.ExitDone},
		"with warnings": {job.Warning, "sealed\n", console.ExitWarning},
		"failed":        {job.Failed, "", console.ExitJobFailed},
		"without a key": {job.Succeeded, "", console.ExitFailed},
	} {
		for _, form := range []string{"people", "JSON"} {
			t.Run(name+" for "+form, func(t *testing.T) {
				c, args, file := exporting(t, test.state, test.key)
				if form == "JSON" {
					args = append(args, "--json")
				}
				r := c.run(t, "", args...)
				if r.code != test.code || form == "JSON" && !json.Valid([]byte(r.out)) || form != "JSON" && strings.Contains(r.out, file) != (test.key != "") {
					t.Errorf("exit code %d, want %d:\n%s%s", r.code, test.code, r.out, r.err)
				}
				content, err := os.ReadFile(file)
				if string(content) != test.key || (err == nil) != (test.key != "") {
					t.Errorf("%q, %v", content, err)
				}
				if info, err := os.Stat(file); err == nil && info.Mode().Perm() != 0o600 {
					t.Errorf("mode %v", info.Mode())
				}
				if files, _ := os.ReadDir(filepath.Dir(file)); len(files) > 0 && test.key == "" {
					t.Errorf("left behind: %v", files)
				}
			})
		}
	}
}

// A key that was exported before is not written over, and an identity given in
// the recipient's place goes nowhere.
func TestKeyExportRefuses(t *testing.T) {
	c, args, file := exporting(t, job.Succeeded, "sealed\n")
	if err := os.WriteFile(file, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.run(t, "", args...); r.code != console.ExitUsage || !strings.Contains(r.err, "is there already") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "older" {
		t.Errorf("%q, %v", content, err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r := c.run(t, "", "repo", "key-export", "main", "--host", "web1", "--recipient", identity.String(), "-o", file+"2")
	if r.code != console.ExitUsage || strings.Contains(r.err, identity.String()) || !strings.Contains(r.err, "identity") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if len(c.asked) > 0 {
		t.Errorf("asked %v", c.asked)
	}
}

func TestArchiveRestore(t *testing.T) {
	c := newCoordinator(t)
	done := backup(job.Succeeded)
	done.Kind, done.Spec, done.Result = job.Restore, job.RestoreSpec{Archive: "web1-1", Target: "/r"}, &job.Result{Archive: "web1-1", Target: "/r"}
	c.answers["POST /jobs"], c.events = done, []client.Event{{Type: client.EventJob, Job: &done}}
	r := c.run(t, "", "archive", "restore", "main", "web1-1", "etc/hosts", "srv/a b", "--host", "web1", "--target", "/r", "--overwrite")
	if r.code != 0 || !strings.Contains(r.out, "restored web1-1 into /r on web1") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	want := `POST /jobs {"host":"web1","kind":"restore","repository":"main","spec":{"archive":"web1-1","target":"/r","paths":["etc/hosts","srv/a b"],"overwrite":true}}`
	if c.asked[0] != want {
		t.Errorf("asked %s, want %s", c.asked[0], want)
	}
}

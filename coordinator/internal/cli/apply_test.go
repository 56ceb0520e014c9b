package cli_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
)

const manifestText = "hosts:\n  web1: {}\nrepositories:\n  main: {passphrase_file: main.pass}\n  other: {passphrase_file: /nowhere.pass}\n"

// manifestFile is a file to apply, with a secret beside it.
func manifestFile(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"fleet.yaml": manifestText, "main.pass": "hush\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "fleet.yaml")
}

// applier is a coordinator that finds changes, and needs a secret and a key.
func applier(t *testing.T, needs ...string) *coordinator {
	t.Helper()
	c := newCoordinator(t)
	c.answers["POST /apply"] = asker(func(_ *http.Request, body string) any {
		return fleet.ManifestOutcome{
			Changes: []fleet.ManifestChange{
				{Action: "add", Object: "host/web1"}, {Action: "change", Object: "plan/daily", Fields: []string{`schedule.cron: "0 2 * * *" → "0 3 * * *"`}},
				{Action: "remove", Object: "repository/old"},
			},
			Needs: needs, Unknown: []fleet.UnknownServer{{Host: "legacy", Address: "me@legacy:22", Jump: []fleet.SSHHop{{Address: "me@gate:22"}}}},
			Applied: !strings.Contains(body, `"dry_run":true`),
		}
	})
	c.answers["POST /ssh/scan"] = asker(func(_ *http.Request, body string) any {
		return map[string]any{"keys": []fleet.ShownKey{{Key: "key of " + strings.Split(body, `"`)[3], Fingerprint: "SHA256:abc"}}}
	})
	return c
}

func TestApplyShowsTheDifference(t *testing.T) {
	c := applier(t)
	got := c.run(t, "", "apply", "-f", manifestFile(t), "--dry-run", "--prune")
	want := "+ host/web1\n~ plan/daily\n      schedule.cron: \"0 2 * * *\" → \"0 3 * * *\"\n- repository/old\n" +
		"3 changes: 1 to add, 1 to change, 1 to remove.\nRepositories that are removed are only forgotten here: their data stays.\n"
	if got.code != 0 || got.out != want {
		t.Errorf("%+v, want %q", got, want)
	}
	if len(c.asked) != 1 || !strings.Contains(c.asked[0], `"prune":true`) {
		t.Errorf("asked %q", c.asked)
	}
}

func TestApplyAsksFirst(t *testing.T) {
	c := applier(t)
	if got := c.run(t, "", "apply", "-f", manifestFile(t)); got.code != console.ExitUsage || !strings.Contains(got.err, "--yes") || len(c.asked) != 1 {
		t.Errorf("%+v after %q", got, c.asked)
	}
	if got := c.run(t, manifestText, "apply", "-f", "-"); got.code != console.ExitUsage || !strings.Contains(got.err, "--yes") {
		t.Errorf("%+v", got)
	}
}

func TestApplySendsWhatIsNeeded(t *testing.T) {
	c := applier(t, "main.pass")
	got := c.run(t, "", "apply", "-f", manifestFile(t), "--yes", "--believe-host-keys", "--json")
	var outcome fleet.ManifestOutcome
	if err := json.Unmarshal([]byte(got.out), &outcome); err != nil || got.code != 0 || !outcome.Applied {
		t.Fatalf("%+v (%v)", got, err)
	}
	last := c.asked[len(c.asked)-1]
	for _, want := range []string{`"secrets":{"main.pass":"hush"}`, `"me@gate:22":["key of me@gate:22"]`, `"me@legacy:22":["key of me@legacy:22"]`} {
		if !strings.Contains(last, want) {
			t.Errorf("%s is not in %s", want, last)
		}
	}
	if strings.Contains(got.out+got.err, "hush") {
		t.Errorf("the secret is shown: %+v", got)
	}
	c = applier(t, "/nowhere.pass")
	if got := c.run(t, "", "apply", "-f", manifestFile(t), "--yes"); got.code != 1 || !strings.Contains(got.err, "nowhere.pass") || len(c.asked) != 1 {
		t.Errorf("%+v after %q", got, c.asked)
	}
}

// A coordinator that asks for files of its own choice gets none, and a person
// sees which files are asked for before they are read.
func TestApplyReadsOnlyWhatTheFileNames(t *testing.T) {
	c := applier(t, "main.pass", "/etc/hostname")
	if got := c.run(t, "", "apply", "-f", manifestFile(t), "--yes"); got.code != 1 || !strings.Contains(got.err, `asks for "/etc/hostname"`) || len(c.asked) != 1 {
		t.Errorf("%+v after %q", got, c.asked)
	}
	c = applier(t, "main.pass")
	if got := c.run(t, "", "apply", "-f", manifestFile(t), "--dry-run"); got.code != 0 || !strings.Contains(got.out, "read here, and sent:\n      main.pass\n") {
		t.Errorf("%+v", got)
	}
}

func TestApplyTellsEachFault(t *testing.T) {
	c := newCoordinator(t)
	c.answers["POST /apply"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"code":"invalid_request","detail":"2 faults","errors":[` +
			`{"location":"body.manifest","line":3,"column":5,"field":"hosts.web1.label","message":"there is no such key","hint":"did you mean labels?"},` +
			`{"location":"body.manifest","message":"another"}]}`))
	})
	file := manifestFile(t)
	got := c.run(t, "", "apply", "-f", file)
	for _, want := range []string{
		file + ":3:5: hosts.web1.label: there is no such key (did you mean labels?)\n", file + ": another\n", "2 faults in " + file + ": nothing was changed",
	} {
		if !strings.Contains(got.err, want) {
			t.Errorf("%q is not in %q", want, got.err)
		}
	}
	if got.code != 1 || got.out != "" {
		t.Errorf("%+v", got)
	}
	if got := c.run(t, "", "apply", "-f", file, "--json"); !strings.Contains(got.out, `"line": 3`) {
		t.Errorf("%+v", got)
	}
}

func TestNothingToApply(t *testing.T) {
	c := newCoordinator(t)
	c.answers["POST /apply"] = fleet.ManifestOutcome{}
	c.answers["GET /export"] = map[string]string{"manifest": manifestText}
	if got := c.run(t, "", "apply", "-f", manifestFile(t)); got.code != 0 || got.out != "Nothing to change.\n" {
		t.Errorf("%+v", got)
	}
	if got := c.run(t, "", "export"); got.out != manifestText || got.code != 0 {
		t.Errorf("%+v", got)
	}
	if got := c.run(t, "", "apply", "-f", filepath.Join(t.TempDir(), "none.yaml")); got.code != 1 || !strings.Contains(got.err, "none.yaml") {
		t.Errorf("%+v", got)
	}
}

func TestImportBorgmatic(t *testing.T) {
	isolate(t)
	c := &coordinator{}
	config := filepath.Join("..", "borgmatic", "testdata", "flat.yaml")
	dir := t.TempDir()
	out := filepath.Join(dir, "fleet.yaml")
	got := c.run(t, "", "import", "borgmatic", config, "--host", "web1", "--out", out, "--timezone", "UTC")
	if got.code != 0 || !strings.Contains(got.out, "Wrote "+out) || !strings.Contains(got.err, "ssh_command: it is not mapped") {
		t.Fatalf("%+v", got)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, leak := range []string{"correct horse", "trustsome1", "your-uuid"} {
		if strings.Contains(got.out+got.err+string(text), leak) {
			t.Errorf("%q is shown", leak)
		}
	}
	for name, mode := range map[string]os.FileMode{"web1-offsite.pass": 0o600, "web1.url": 0o600, "hooks-web1/web1-before": 0o700} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v (%v)", name, info, err)
		}
	}
	if got := c.run(t, "", "import", "borgmatic", config, "--host", "web1", "--out", out); got.code != console.ExitUsage || !strings.Contains(got.err, "is there already") {
		t.Errorf("a second time: %+v", got)
	}
	if got := c.run(t, "", "import", "borgmatic", config, "--host", "Web 1"); got.code == 0 {
		t.Errorf("a bad name: %+v", got)
	}
}

package plans_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// TestComeFromBorgmatic takes over what borgmatic does with a repository that it
// has made: the next backup goes there, and what was there stays.
func TestComeFromBorgmatic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", "web1")
	tree, location, passphrase := filepath.Join(w.dir, "tree"), filepath.Join(w.dir, "repository"), "the one that borgmatic had"
	harness.MakeTree(t, tree, 5, 1<<10)
	if out := harness.Borg(t, passphrase, "init", "-e", "repokey-blake2", location); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	if out := harness.Borg(t, passphrase, "create", location+"::web1-2026-01-01T00:00:00", tree); out.Code != 0 {
		t.Fatal(out.Stderr)
	}
	config := w.write("config.yaml", fmt.Sprintf(`
constants:
    root: %s
source_directories:
    - '{root}/tree'
repositories:
    - path: %s
      label: local
encryption_passphrase: "%s"
exclude_patterns: ['*.tmp']
keep_daily: 7
keep_weekly: 4
checks:
    - name: repository
      frequency: 2 weeks
`, w.dir, location, passphrase))
	cron := w.write("borgmatic.cron", "30 3 * * * root borgmatic --verbosity -1 --syslog-verbosity 1\n")
	manifest := filepath.Join(w.dir, "fleet.yaml")
	said := w.c.MustCLI("import", "borgmatic", config, "--host", "web1", "--schedule-from", cron, "--out", manifest)
	if strings.Contains(said, passphrase) {
		t.Errorf("it prints the passphrase:\n%s", said)
	}
	w.c.MustCLI("apply", "--yes", "-f", manifest)
	if again := w.c.MustCLI("apply", "--yes", "-f", manifest); !strings.Contains(again, "Nothing to change") {
		t.Errorf("a second apply says %q", again)
	}
	var plans struct {
		Plans []struct {
			Name     string
			Schedule struct{ Cron string }
		}
	}
	if err := w.c.Get("/api/v1/plans", &plans); err != nil {
		t.Fatal(err)
	}
	if len(plans.Plans) != 1 || plans.Plans[0].Schedule.Cron != "30 3 * * *" {
		t.Fatalf("there are the plans %s", show(plans))
	}
	w.c.MustCLI("backup", plans.Plans[0].Name)
	archives := harness.Archives(t, location, passphrase)
	if len(archives) != 2 || !slices.Contains(archives, "web1-2026-01-01T00:00:00") {
		t.Errorf("there are the archives %v", archives)
	}
}

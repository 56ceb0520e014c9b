package manifest_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
)

// ground is what documented plans are for.
const ground = `
hosts: {web1: {labels: {site: fra, role: db}}}
repositories:
  web1-main: {location: /srv/main, encryption: none}
  shared: {location: /srv/shared, encryption: none}
`

// samples returns the YAML on a page that begins with plans.
func samples(t *testing.T, page ...string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", ".."}, page...)...))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, part := range strings.Split(string(text), "```yaml\nplans:\n")[1:] {
		sample, _, _ := strings.Cut(part, "```")
		found = append(found, "plans:\n"+sample)
	}
	if len(found) == 0 {
		t.Fatalf("%v has no plans", page)
	}
	return found
}

// TestDocumentedPlans holds that the plans that people copy are taken.
func TestDocumentedPlans(t *testing.T) {
	for name, page := range map[string][]string{"readme": {"README.md"}, "plans": {"docs", "plans.md"}} {
		t.Run(name, func(t *testing.T) {
			for _, sample := range samples(t, page...) {
				h := newHouse(t)
				asked := fleet.Manifest{Text: ground + sample, DryRun: true}
				asked.Secrets = secrets(h.apply(t, asked).Needs...)
				asked.DryRun = false
				h.apply(t, asked)
				for _, name := range slices.Sorted(maps.Keys(h.plans.specs)) {
					if err := plan.Check(name, h.plans.specs[name]); err != nil {
						t.Errorf("plan %s: %v", name, err)
					}
				}
			}
		})
	}
}

// TestEveryKeyIsDocumented holds that docs/plans.md has all keys that a plan takes.
func TestEveryKeyIsDocumented(t *testing.T) {
	text := strings.Join(samples(t, "docs", "plans.md"), "\n")
	var schema struct {
		Defs map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "fleet.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"PlanSpec", "Schedule", "Retention", "CheckPolicy", "RestoreTest", "Retry", "Hooks", "Dump"} {
		for key := range schema.Defs[part].Properties {
			if !regexp.MustCompile(`\b` + key + `: `).MatchString(strings.ReplaceAll(text, ":\n", ": \n")) {
				t.Errorf("%s.%s is not in docs/plans.md", part, key)
			}
		}
		if len(schema.Defs[part].Properties) == 0 {
			t.Errorf("the schema has no %s", part)
		}
	}
}

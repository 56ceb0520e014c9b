package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/agent/internal/policy"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func everything() policy.Rules {
	return policy.Rules{Kinds: job.Kinds(), Read: []string{"/"}, Repositories: []string{"*"}}
}

func backup(t *testing.T, paths ...string) bus.Order {
	t.Helper()
	spec, err := json.Marshal(job.BackupSpec{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	return bus.Order{Kind: job.Backup, Spec: spec, Repository: job.Repository{Name: "main", Location: "/srv/main"}}
}

// tree makes data/ and private/ with data/out leading to private, and a link
// alias leading to data.
func tree(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"data/sub", "database", "private"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"data/out": "private", "alias": "data"} {
		if err := os.Symlink(filepath.Join(root, target), filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadRoots(t *testing.T) {
	root := tree(t)
	tests := map[string]struct {
		read    []string
		path    string
		allowed bool
	}{
		"everything":                 {[]string{"/"}, "/etc", true},
		"root of everything":         {[]string{"/"}, "/", true},
		"nothing":                    {nil, "/etc", false},
		"the root itself":            {[]string{root + "/data"}, root + "/data", true},
		"below the root":             {[]string{root + "/data"}, root + "/data/sub", true},
		"root with a slash":          {[]string{root + "/data/"}, root + "/data/sub/", true},
		"second root":                {[]string{"/nowhere", root + "/data"}, root + "/data", true},
		"above the root":             {[]string{root + "/data"}, root, false},
		"same beginning":             {[]string{root + "/data"}, root + "/database", false},
		"dots lead out":              {[]string{root + "/data"}, root + "/data/../private", false},
		"dots stay inside":           {[]string{root + "/data"}, root + "/data/sub/..", true},
		"link leads out":             {[]string{root + "/data"}, root + "/data/out", false},
		"below a link that does":     {[]string{root + "/data"}, root + "/data/out/missing/file", false},
		"missing":                    {[]string{root + "/data"}, root + "/data/missing", true},
		"link from outside into it":  {[]string{root + "/data"}, root + "/alias", false},
		"root given through a link":  {[]string{root + "/alias"}, root + "/alias/sub", true},
		"where the root's link goes": {[]string{root + "/alias"}, root + "/data/sub", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Read = test.read
			failure := rules.Check(backup(t, test.path))
			if (failure == nil) != test.allowed {
				t.Fatalf("failure %v; want allowed %v", failure, test.allowed)
			}
			if failure != nil && (failure.Code != job.RefusedByHost || !strings.Contains(failure.Hint, "policy.read")) {
				t.Errorf("failure %+v does not name the rule", failure)
			}
		})
	}
}

func TestEveryPathIsChecked(t *testing.T) {
	rules := everything()
	rules.Read = []string{"/usr"}
	if failure := rules.Check(backup(t, "/usr/bin", "/etc")); failure == nil || !strings.Contains(failure.Message, "/etc") {
		t.Errorf("failure %v; want one about /etc", failure)
	}
}

func TestKindsAndRepositories(t *testing.T) {
	tests := map[string]struct {
		kinds        []job.Kind
		repositories []string
		rule         string // empty: allowed
	}{
		"all":               {job.Kinds(), []string{"*"}, ""},
		"kind not listed":   {[]job.Kind{job.List}, []string{"*"}, "policy.kinds"},
		"no repository":     {job.Kinds(), nil, "policy.repositories"},
		"by name":           {job.Kinds(), []string{"main"}, ""},
		"by another name":   {job.Kinds(), []string{"mai"}, "policy.repositories"},
		"by part of a name": {job.Kinds(), []string{"m*"}, ""},
		"by location":       {job.Kinds(), []string{"ssh://backup@store/*"}, ""},
		"other location":    {job.Kinds(), []string{"ssh://other@store/*"}, "policy.repositories"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Kinds, rules.Repositories = test.kinds, test.repositories
			failure := rules.Check(bus.Order{Kind: job.Prune, Repository: job.Repository{
				Name: "main", Location: "ssh://backup@store/srv/borg/main"}})
			switch {
			case test.rule == "" && failure != nil:
				t.Errorf("refused: %v", failure)
			case test.rule != "" && (failure == nil || failure.Code != job.RefusedByHost || !strings.Contains(failure.Hint, test.rule)):
				t.Errorf("failure %+v; want a refusal by %s", failure, test.rule)
			}
		})
	}
}

package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/policy"
)

func everything() policy.Rules {
	return policy.Rules{Kinds: job.Kinds(), Read: []string{"/"}, Restore: []string{"/"}, Repositories: []string{"*"}}
}

func restore(t *testing.T, target string) bus.Order {
	t.Helper()
	spec, err := json.Marshal(job.RestoreSpec{Archive: "a", Target: target})
	if err != nil {
		t.Fatal(err)
	}
	return bus.Order{Kind: job.Restore, Spec: spec, Repository: job.Repository{Name: "main", Location: "/srv/main"}}
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
	for link, target := range map[string]string{
		"data/out": "private", "alias": "data", "data/new": "private/new", "data/inner": "data/sub",
	} {
		if err := os.Symlink(filepath.Join(root, target), filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"data/up": "../private/new", "data/loop": "loop", "data/near": "sub/new"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// rootTest is a path, and whether the roots allow it.
type rootTest struct {
	roots   []string
	path    string
	allowed bool
}

// rootTests hold for what may be read as well as for where may be restored to.
func rootTests(root string) map[string]rootTest {
	data := []string{root + "/data"}
	return map[string]rootTest{
		"everything":                 {[]string{"/"}, "/etc", true},
		"root of everything":         {[]string{"/"}, "/", true},
		"all but listed otherwise":   {data, "/", false},
		"nothing":                    {nil, "/etc", false},
		"the root itself":            {data, root + "/data", true},
		"below the root":             {data, root + "/data/sub", true},
		"root with a slash":          {[]string{root + "/data/"}, root + "/data/sub/", true},
		"doubled slashes":            {data, root + "//data///sub", true},
		"second root":                {[]string{"/nowhere", root + "/data"}, root + "/data", true},
		"above the root":             {data, root, false},
		"same beginning":             {data, root + "/database", false},
		"dots lead out":              {data, root + "/data/../private", false},
		"dots stay inside":           {data, root + "/data/sub/..", true},
		"link leads out":             {data, root + "/data/out", false},
		"below a link that does":     {data, root + "/data/out/missing/file", false},
		"link to what is to be made": {data, root + "/data/new", false},
		"relative link upwards":      {data, root + "/data/up/x", false},
		"link in circles":            {data, root + "/data/loop/x", true}, // nobody gets through it
		"link that stays inside":     {data, root + "/data/inner/x", true},
		"dead link that stays":       {data, root + "/data/near", true},
		"missing":                    {data, root + "/data/missing/deep", true},
		"link from outside into it":  {data, root + "/alias", false},
		"root given through a link":  {[]string{root + "/alias"}, root + "/alias/sub", true},
		"where the root's link goes": {[]string{root + "/alias"}, root + "/data/sub", false},
		"missing root":               {[]string{root + "/later"}, root + "/later/x", true},
	}
}

// checkRefusal compares a refusal as a whole.
func checkRefusal(t *testing.T, failure *job.Failure, message, rule string) {
	t.Helper()
	want := job.Fail(job.RefusedByHost, "%s", message).WithHint("policy.%s in the host's agent.yaml does not allow it", rule)
	if diff := cmp.Diff(want, failure); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRestoreRoots(t *testing.T) {
	root := tree(t)
	for name, test := range rootTests(root) {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Restore, rules.Read = test.roots, nil
			failure := rules.Check(restore(t, test.path))
			if (failure == nil) != test.allowed {
				t.Fatalf("failure %v; want allowed %v", failure, test.allowed)
			}
			if failure != nil && (failure.Code != job.RefusedByHost || !strings.Contains(failure.Hint, "policy.restore")) {
				t.Errorf("failure %+v does not name the rule", failure)
			}
		})
	}
}

// What a restore writes to has no links left in it.
func TestTarget(t *testing.T) {
	root := tree(t)
	rules := policy.Rules{Restore: []string{root + "/alias", root + "/data/sub/"}}
	for target, want := range map[string]string{
		root + "/alias/a/b":    root + "/data/a/b",
		root + "/alias//sub/":  root + "/data/sub",
		root + "/alias/near/x": root + "/data/sub/new/x",
	} {
		if got, failure := rules.Target(target); got != want || failure != nil {
			t.Errorf("%s is %s, %v; want %s", target, got, failure, want)
		}
	}
	for target, message := range map[string]string{
		root + "/data":          "this host does not let anything be restored to " + root + "/data",
		root + "/alias/out/etc": "this host does not let anything be restored to " + root + "/private/etc, where " + root + "/alias/out/etc leads",
		root + "/alias/new":     "this host does not let anything be restored to " + root + "/private/new, where " + root + "/alias/new leads",
	} {
		got, failure := rules.Target(target)
		if got != target {
			t.Errorf("%s became %s", target, got)
		}
		checkRefusal(t, failure, message, "restore")
	}
}

func TestRefusalsSayWhatAndWhy(t *testing.T) {
	root := tree(t)
	rules := policy.Rules{Kinds: []job.Kind{job.Backup, job.Restore}, Read: []string{root + "/data"}, Repositories: []string{"main"}}
	other := backup(t, root+"/data")
	other.Repository.Name = "other"
	key := backup(t)
	key.Kind = job.KeyExport
	for rule, test := range map[string]struct {
		order   bus.Order
		message string
	}{
		"kinds":        {key, "this host does not run jobs of kind key-export"},
		"repositories": {other, "this host may not use repository other at /srv/main"},
		"read":         {backup(t, root+"/data", "/etc"), "this host does not let /etc be backed up"},
		"restore":      {restore(t, "/etc"), "this host does not let anything be restored to /etc"},
	} {
		t.Run(rule, func(t *testing.T) { checkRefusal(t, rules.Check(test.order), test.message, rule) })
	}
	checkRefusal(t, rules.Check(backup(t, root+"/data/out/x")),
		"this host does not let "+root+"/private/x be backed up, where "+root+"/data/out/x leads", "read")
}

func TestReadRoots(t *testing.T) {
	root := tree(t)
	for name, test := range rootTests(root) {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Read, rules.Restore = test.roots, nil
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
		"as a whole":        {job.Kinds(), []string{"ssh://backup@store/srv/borg/main"}, ""},
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

// A location with dots in it is not where a pattern sees it.
func TestLocationThatClimbsMatchesNoPattern(t *testing.T) {
	rules := policy.Rules{Kinds: job.Kinds(), Repositories: []string{"/srv/borg/*", "ssh://store/srv/*"}}
	for location, allowed := range map[string]bool{
		"/srv/borg/main": true, "/srv/borg/../other": false, "ssh://store/srv/main": true, "ssh://store/srv/../x": false, "/srv/borg/..main": true,
	} {
		failure := rules.Check(bus.Order{Kind: job.List, Repository: job.Repository{Name: "main", Location: location}})
		if (failure == nil) != allowed {
			t.Errorf("%s: %v", location, failure)
		}
	}
}

func TestDepot(t *testing.T) {
	depot := func(name, location string) bus.Order {
		return bus.Order{Kind: job.List, Spec: []byte("{}"), Depot: &bus.Depot{Address: "depot.example:2222"},
			Repository: job.Repository{Name: name, Location: location}}
	}
	inDepot := depot("vault", bus.DepotURL("vault"))
	noDepot := inDepot
	noDepot.Depot = nil
	tests := map[string]struct {
		glob  string
		order bus.Order
		rule  string // empty: allowed
	}{
		"by depot":                  {"depot", inDepot, ""},
		"by name":                   {"vault", inDepot, ""},
		"by URL":                    {"ssh://*@borgfleet-depot/*", inDepot, ""},
		"all":                       {"*", inDepot, ""},
		"by something else":         {"main", inDepot, "repositories"},
		"not said to be there":      {"depot", noDepot, "repositories"},
		"another repository's URL":  {"depot", depot("vault", bus.DepotURL("other")), "repositories"},
		"another server":            {"depot", depot("vault", "ssh://vault@store/./vault"), "repositories"},
		"a directory of the host":   {"depot", depot("vault", "/srv/vault"), "repositories"},
		"a repository of that name": {"depot", depot("depot", "/srv/depot"), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Repositories = []string{test.glob}
			failure := rules.Check(test.order)
			if test.rule == "" && failure != nil {
				t.Errorf("refused: %v", failure)
			}
			if test.rule != "" && (failure == nil || failure.Code != job.RefusedByHost) {
				t.Errorf("got %v, want a refusal", failure)
			}
		})
	}
}

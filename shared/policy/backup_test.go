package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/policy"
)

func order(t *testing.T, spec job.Spec) bus.Order {
	t.Helper()
	encoded, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return bus.Order{Kind: spec.Kind(), Spec: encoded, Repository: job.Repository{Name: "main", Location: "/srv/main"}}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// hooks makes a directory of hooks, good and bad ones.
func hooks(t *testing.T) (root string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{
		"hooks.d/dump": 0o755, "hooks.d/own": 0o700, "hooks.d/text": 0o644, "hooks.d/group": 0o775, "hooks.d/all": 0o757,
		"hooks.d/dir/inner": 0o755, "open.d/dump": 0o755, "elsewhere": 0o755,
	} {
		write(t, filepath.Join(root, name), "#!/bin/sh\n", mode)
	}
	for link, target := range map[string]string{"hooks.d/link": "dump", "hooks.d/out": "../elsewhere", "hooks.d/dead": "none", "alias": "hooks.d"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "open.d"), 0o777); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		write(t, filepath.Join(root, "hooks.d/foreign"), "#!/bin/sh\n", 0o755)
		if err := os.Chown(filepath.Join(root, "hooks.d/foreign"), 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestHooks(t *testing.T) {
	root := hooks(t)
	for name, test := range map[string]struct {
		dir, hook string
		want      string // below root; empty: refused
		says      string
	}{
		"good":                  {"hooks.d", "dump", "hooks.d/dump", ""},
		"only for its owner":    {"hooks.d", "own", "hooks.d/own", ""},
		"link that stays":       {"hooks.d", "link", "hooks.d/dump", ""},
		"directory by a link":   {"alias", "dump", "hooks.d/dump", ""},
		"missing":               {"hooks.d", "none", "", "there is no hook none"},
		"dead link":             {"hooks.d", "dead", "", "there is no hook dead"},
		"link that leads out":   {"hooks.d", "out", "", "leads out of"},
		"not executable":        {"hooks.d", "text", "", "is not executable"},
		"open to its group":     {"hooks.d", "group", "", "can be written by others"},
		"open to all":           {"hooks.d", "all", "", "can be written by others"},
		"a directory":           {"hooks.d", "dir", "", "is not a regular file"},
		"below another":         {"hooks.d", "dir/inner", "", "has no hook"},
		"above":                 {"hooks.d", "..", "", "has no hook"},
		"in an open directory":  {"open.d", "dump", "", "open.d can be written by others"},
		"of another user":       {"hooks.d", "foreign", "", ""},
		"in a missing one":      {"none.d", "dump", "", "there is no hook"},
		"where there are none":  {"", "dump", "", "has no hook"},
		"backup without a hook": {"hooks.d", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			if test.dir != "" {
				rules.Hooks = filepath.Join(root, test.dir)
			}
			hooks := job.Hooks{After: []string{test.hook}}
			if test.hook == "" {
				hooks.After = nil
			}
			for _, spec := range []job.BackupSpec{{ContentFrom: test.hook}, {PathsFrom: test.hook}, {Hooks: &hooks}} {
				got, failure := rules.Hook(test.hook)
				if test.want != "" && (got != filepath.Join(root, test.want) || failure != nil) {
					t.Errorf("%q, %v; want %s", got, failure, test.want)
				}
				if test.want == "" && (failure == nil || got != "" || failure.Code != job.RefusedByHost || failure.Hint == "" || !strings.Contains(failure.Message, test.says)) {
					t.Errorf("%q, %+v; want a refusal with %q", got, failure, test.says)
				}
				if checked := rules.Check(order(t, spec)); (checked == nil) != (failure == nil || test.hook == "") {
					t.Errorf("the order is judged otherwise: %v", checked)
				}
			}
			into := restore(t, "")
			into.Spec = []byte(`{"archive":"a","paths":["dump"],"content_to":"` + test.hook + `"}`)
			if checked := rules.Check(into); test.hook != "" && (checked == nil) != (test.want != "") {
				t.Errorf("a restore into it: %v", checked)
			}
		})
	}
}

func TestExtraOptions(t *testing.T) {
	rules := everything()
	extra := order(t, job.BackupSpec{Paths: []string{"/etc"}, ExtraOptions: []string{"--noatime"}})
	checkRefusal(t, rules.Check(extra), "this host takes no extra options of borg", "extra_options")
	rules.ExtraOptions = true
	if failure := rules.Check(extra); failure != nil {
		t.Error(failure)
	}
}

func TestFilesOfPatterns(t *testing.T) {
	root := tree(t)
	write(t, root+"/data/good", "# all\n- *.tmp\nP sh\nR "+root+"/data/sub\n", 0o600)
	write(t, root+"/data/bad", "- *.tmp\n R  "+root+"/private\n", 0o600)
	write(t, root+"/data/small", "r etc\n", 0o600)
	write(t, root+"/data/return", "- *.tmp\rR "+root+"/private\n", 0o600)
	write(t, root+"/data/separator", "- *.tmp\n\x1cR "+root+"/private\n", 0o600)
	write(t, root+"/data/windows", "- *.tmp\r\nR "+root+"/data/sub\r\n\r\n", 0o600)
	write(t, root+"/data/long", strings.Repeat("x", 1<<20), 0o600)
	write(t, root+"/private/patterns", "- x\n", 0o600)
	if err := syscall.Mkfifo(root+"/data/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spec job.BackupSpec
		says string // empty: allowed
	}{
		"good":                 {job.BackupSpec{PatternsFrom: []string{root + "/data/good"}}, ""},
		"missing":              {job.BackupSpec{PatternsFrom: []string{root + "/data/none"}}, ""}, // borg says so
		"outside":              {job.BackupSpec{PatternsFrom: []string{root + "/private/patterns"}}, "does not let " + root + "/private/patterns"},
		"by a link":            {job.BackupSpec{ExcludeFrom: []string{root + "/data/out/patterns"}}, "does not let " + root + "/private/patterns"},
		"excluded from inside": {job.BackupSpec{ExcludeFrom: []string{root + "/data/bad"}}, ""}, // only patterns there
		"adds a root":          {job.BackupSpec{PatternsFrom: []string{root + "/data/good", root + "/data/bad"}}, "which " + root + "/data/bad asks for"},
		"adds a relative one":  {job.BackupSpec{PatternsFrom: []string{root + "/data/small"}}, "does not let /etc be"},
		"behind a return":      {job.BackupSpec{PatternsFrom: []string{root + "/data/return"}}, "which " + root + "/data/return asks for"}, // a line end for borg
		"behind a separator":   {job.BackupSpec{PatternsFrom: []string{root + "/data/separator"}}, "is not a file of patterns"},            // a blank for borg
		"with both line ends":  {job.BackupSpec{PatternsFrom: []string{root + "/data/windows"}}, ""},
		"not of lines":         {job.BackupSpec{PatternsFrom: []string{root + "/data/long"}}, "is not a file of patterns"},
		"a pipe":               {job.BackupSpec{PatternsFrom: []string{root + "/data/pipe"}}, "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Read = []string{root + "/data"}
			test.spec.Paths = []string{root + "/data"}
			failure := rules.Check(order(t, test.spec))
			if test.says == "" && failure != nil || test.says != "" && (failure == nil || failure.Code != job.RefusedByHost || !strings.Contains(failure.Message, test.says)) {
				t.Errorf("failure %v; want %q", failure, test.says)
			}
			rules.Read = []string{"/"}
			if failure := rules.Check(order(t, test.spec)); failure != nil {
				t.Errorf("where all may be read: %v", failure)
			}
		})
	}
}

func TestMountPoints(t *testing.T) {
	root := tree(t)
	for name, test := range rootTests(root) {
		t.Run(name, func(t *testing.T) {
			rules := everything()
			rules.Restore, rules.Read = test.roots, nil
			for _, spec := range []job.Spec{job.MountSpec{MountPoint: test.path}, job.UmountSpec{MountPoint: test.path}} {
				failure := rules.Check(order(t, spec))
				if (failure == nil) != test.allowed {
					t.Fatalf("%s: failure %v; want allowed %v", spec.Kind(), failure, test.allowed)
				}
				if failure != nil && (failure.Code != job.RefusedByHost || !strings.Contains(failure.Hint, "policy.restore")) {
					t.Errorf("failure %+v does not name the rule", failure)
				}
			}
		})
	}
	rules := policy.Rules{Restore: []string{root + "/data"}}
	if got, failure := rules.MountPoint(root + "/data/near"); got != root+"/data/sub/new" || failure != nil {
		t.Errorf("%s, %v; want where the link leads", got, failure)
	}
}

func TestOrdersWithoutRepository(t *testing.T) {
	rules := everything()
	rules.Repositories = []string{"main"}
	for _, spec := range []job.Spec{job.UmountSpec{MountPoint: "/srv/x"}, job.VerifySpec{}, job.MountSpec{MountPoint: "/srv/x"}} {
		bare := order(t, spec)
		bare.Repository = job.Repository{}
		if failure := rules.Check(bare); (failure != nil) != spec.Kind().NeedsRepository() {
			t.Errorf("%s without a repository: %v", spec.Kind(), failure)
		}
	}
	other := order(t, job.VerifySpec{})
	other.Repository.Name, other.Repository.Location = "other", "/srv/other"
	if failure := rules.Check(other); failure == nil || !strings.Contains(failure.Hint, "policy.repositories") {
		t.Errorf("verify of a repository that is not allowed: %v", failure)
	}
}

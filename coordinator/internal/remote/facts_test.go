package remote_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// write makes a file that can be run.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestLook(t *testing.T) {
	dir := filepath.Join(t.TempDir(), odd)
	h := open(t, newMachine(), dir)
	facts, failure := h.Look(t.Context())
	if failure != nil {
		t.Fatal(failure)
	}
	if facts.OS == "" || facts.Arch == "" || facts.User == "" || facts.Dir != dir || facts.FreeBytes == 0 || facts.TotalBytes < facts.FreeBytes {
		t.Errorf("facts %+v", facts)
	}
	if facts.ClockAhead.Abs() > 5*time.Second || facts.Borg.Text == "" || facts.BorgFailure != nil || facts.Problem != nil {
		t.Errorf("facts %+v", facts)
	}
	if base, failure := h.BaseDir(t.Context()); base != dir+"/borg" || failure != nil {
		t.Errorf("base directory %q, %v", base, failure)
	}
}

// TestHomeDirectory keeps things in the home directory when nothing else is said.
func TestHomeDirectory(t *testing.T) {
	m, home := newMachine(), t.TempDir()
	m.env = []string{"HOME=" + home}
	for given, want := range map[string]string{"": home + "/.borgfleet", "in/home": home + "/in/home"} {
		if facts, failure := open(t, m, given).Look(t.Context()); failure != nil || facts.Dir != want {
			t.Errorf("%q: %q, %v; want %q", given, facts.Dir, failure, want)
		}
	}
}

func TestVersion(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/old", "#!/bin/sh\necho borg 1.1.16\n", 0o755)
	write(t, dir+"/broken", "#!/bin/sh\necho no module named msgpack >&2\nexit 1\n", 0o755)
	write(t, dir+"/good", "#!/bin/sh\necho a warning >&2\necho borg 1.4.0\n", 0o755)
	for name, test := range map[string]struct {
		borg, version string
		code          job.Code
		says          string
	}{
		"as the PATH finds it": {"", "1.", "", ""},
		"by its path":          {dir + "/good", "1.4.0", "", ""},
		"missing":              {dir + "/nowhere", "", job.BorgMissing, "there is no"},
		"too old":              {dir + "/old", "1.1.16", job.BorgUnsupported, "too old"},
		"broken":               {dir + "/broken", "", job.BorgMissing, "msgpack"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			h := remote.New(remote.Options{Shell: m, Host: "web1", Dir: t.TempDir(), Borg: test.borg, Logger: hclog.NewNullLogger()})
			version, failure := h.Version(t.Context())
			if !strings.HasPrefix(version.Text, test.version) || (failure != nil) != (test.code != "") {
				t.Fatalf("version %q, %v", version.Text, failure)
			}
			if failure != nil && (failure.Code != test.code || !strings.Contains(failure.Message, test.says) || !strings.Contains(failure.Hint, "host set web1 --borg")) {
				t.Errorf("failure %s: %v", failure.Code, failure)
			}
			before := m.execs
			h.Version(t.Context())
			if asked := m.execs > before; asked == (failure == nil) {
				t.Errorf("a good answer is to be kept, another asked for again; asked: %v", asked)
			}
			h.Forget()
			if h.Version(t.Context()); m.execs == before {
				t.Error("a new connection did not make it ask again")
			}
		})
	}
}

func TestInstallHint(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\n": "apt install",
		"NAME=x\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "apt install",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n":    "epel-release",
		"ID=alpine\n":    "apk add",
		"ID=something\n": "",
	} {
		if got := remote.Install(release); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q", release, got)
		}
	}
}

func TestFindings(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	h := open(t, m, dir)
	get := func() map[string]job.Finding {
		found := map[string]job.Finding{}
		for _, f := range h.Findings(t.Context()) {
			if found[f.Name] = f; f.Good == (f.Hint != "") || f.Detail == "" {
				t.Errorf("finding %+v", f)
			}
		}
		return found
	}
	found := get()
	for _, name := range []string{"login", "shell", "directory", "borg", "clock", "space", "fuse", "runs"} {
		if f, ok := found[name]; !ok || !f.Good && name != "space" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	enginetest.Start(t, h, enginetest.Shell("left.1", "sleep 60"), secret.Value{})
	if f := get()["runs"]; f.Good || !strings.Contains(f.Detail, "left.1") {
		t.Errorf("a run that nobody follows: %+v", f)
	}
	m.shell = []string{"/bin/sh", "-c", "exit 7; :"}
	if f := get()["login"]; f.Good {
		t.Errorf("without a login: %+v", f)
	}
	m.shell = []string{"/bin/sh", "-c"}
}

func TestHook(t *testing.T) {
	m, hooks := newMachine(), t.TempDir()
	if err := os.Chmod(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	name := "it's $(a) -hook"
	write(t, filepath.Join(hooks, name), "#!/bin/sh\n", 0o755)
	write(t, filepath.Join(hooks, "plain"), "", 0o644)
	write(t, filepath.Join(hooks, "loose"), "", 0o777)
	if err := os.Symlink("/bin/sh", filepath.Join(hooks, "link")); err != nil {
		t.Fatal(err)
	}
	h := remote.New(remote.Options{Shell: m, Host: "web1", Dir: t.TempDir(), Hooks: hooks, Logger: hclog.NewNullLogger()})
	for hook, why := range map[string]string{
		name: "", "": "not the name", "plain": "not an executable", "loose": "written by others", "link": "symbolic link",
		"missing": "there is no hook", "../hook": "not the name", ".hidden": "not the name",
	} {
		got, failure := h.Policy().Hook(hook)
		switch {
		case why == "":
			if want := filepath.Join(hooks, hook); failure != nil || got != want {
				t.Errorf("%q: %q, %v", hook, got, failure)
			}
		case failure == nil || failure.Code != job.RefusedByHost || !strings.Contains(failure.Message, why):
			t.Errorf("%q: %q, %v, want %s", hook, got, failure, why)
		}
	}
}

func TestWhereLinksLead(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/real/deep", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": "real", "point": dir + "/real/deep"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	p := open(t, newMachine(), t.TempDir()).Policy()
	for given, want := range map[string]string{
		dir + "/link/deep": dir + "/real/deep", dir + "/link/new/er\n": dir + "/real/new/er\n", "/": "/", "/no/such": "/no/such",
	} {
		if got, failure := p.Target(given); got != want || failure != nil {
			t.Errorf("target %q: %q, %v", given, got, failure)
		}
	}
	for given, want := range map[string]string{dir + "/point": dir + "/real/deep", dir + "/link/deep": dir + "/real/deep", "/mnt": "/mnt"} {
		if got, failure := p.MountPoint(given); got != want || failure != nil {
			t.Errorf("mount point %q: %q, %v", given, got, failure)
		}
	}
	if failure := p.Check(bus.Order{Kind: job.Prune}); failure != nil {
		t.Error(failure)
	}
}

func TestKeyAndWay(t *testing.T) {
	m, dir := newMachine(), filepath.Join(t.TempDir(), "with blanks")
	h := open(t, m, dir)
	key, failure := h.EnsureKey(t.Context())
	if failure != nil || !strings.HasPrefix(key, "ssh-ed25519 AAAA") || len(strings.Fields(key)) != 2 {
		t.Fatalf("key %q, %v", key, failure)
	}
	if again, _ := h.EnsureKey(t.Context()); again != key {
		t.Errorf("then the key was %q", again)
	}
	if info, err := os.Stat(dir + "/id_ed25519"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	depot := bus.Depot{Address: "depot.example.net:2222", HostKey: key}
	rsh, failure := h.RSH(t.Context(), depot)
	if failure != nil || !strings.Contains(rsh, dir+"/id_ed25519") || !strings.Contains(rsh, "depot.example.net") {
		t.Errorf("way %q, %v", rsh, failure)
	}
	if text, err := os.ReadFile(dir + "/known_hosts"); err != nil || string(text) != bus.DepotHost+" "+key+"\n" {
		t.Errorf("known hosts %q, %v", text, err)
	}
	before := m.execs
	if again, _ := h.RSH(t.Context(), depot); again != rsh || m.execs != before {
		t.Errorf("then %q", again)
	}
}

func TestKeyWithoutKeygen(t *testing.T) {
	m := newMachine()
	path := without(t)
	m.env = []string{"PATH=" + path}
	h := remote.Odd(open(t, m, t.TempDir()), "", path, "/proc")
	if _, failure := h.EnsureKey(t.Context()); failure == nil || failure.Code != job.KeyMissing || !strings.Contains(failure.Hint, "openssh-client") {
		t.Errorf("failure %v", failure)
	}
	if _, failure := h.RSH(t.Context(), bus.Depot{Address: "a:1"}); failure == nil || !strings.Contains(failure.Message, "no ssh") {
		t.Errorf("failure %v", failure)
	}
}

func TestMounts(t *testing.T) {
	h := open(t, newMachine(), t.TempDir())
	if points, err := h.Mounts().List(); err != nil {
		t.Errorf("list: %q, %v", points, err)
	}
	if err := h.Mounts().Remove(t.Context(), filepath.Join(t.TempDir(), "-nothing here")); err == nil {
		t.Error("what is not mounted was unmounted")
	}
}

// TestInterpreterMissing starts what the system finds to be no program only when
// it is to run.
func TestInterpreterMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "borg")
	write(t, file, "#!/nowhere/python3\n", 0o755)
	h := open(t, newMachine(), t.TempDir())
	_, err := h.Start(t.Context(), process.Command{ID: "job.1", Argv: []string{file}}, secret.Value{})
	exit, _ := enginetest.Follow(t, h, "job.1", process.Offsets{})
	if exit.StartError == "" || exit.StartErrno != syscall.ENOENT {
		t.Errorf("start %v, exit %+v", err, exit)
	}
}

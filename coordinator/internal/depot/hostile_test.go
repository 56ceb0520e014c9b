package depot_test

import (
	"crypto/rand"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// filled returns a depot with a repository that the coordinator made, and to
// which a host that may only add has added an archive.
func filled(t *testing.T) (*lab, *client) {
	t.Helper()
	return filledWith(t, func(*depot.Server) {})
}

func filledWith(t *testing.T, prepare func(*depot.Server)) (*lab, *client) {
	t.Helper()
	template.made.Do(func() { makeTemplate(t) })
	l := newLabWith(t, prepare)
	web := l.host("web1")
	l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault", AppendOnly: true})
	l.copy(template.dir+"/.", l.dir)
	return l, web
}

// makeTemplate makes the repository and its archive: the passphrase alone takes
// borg as long as many a test.
func makeTemplate(t *testing.T) {
	t.Helper()
	template.at = time.Now().Add(-time.Second) // a file system's clock is behind
	l := newLab(t)
	web := l.host("web1")
	l.local("vault", "init", "--encryption=repokey", "REPO")
	l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault", AppendOnly: true})
	l.write(filepath.Join(web.dir, "etc", "motd"), "hello")
	web.do("vault", "create", "REPO::first", "etc")
	patience.Until(t, "the visit to be over", func() bool { return l.use("vault").Open == 0 })
	dir, err := os.MkdirTemp("", "depot-template")
	l.check(err)
	template.dir = dir
	to := filepath.Join(dir, filepath.Base(web.dir))
	l.check(os.Mkdir(to, 0o700))
	l.copy(l.path, dir)
	l.copy(filepath.Join(l.dir, "serve"), dir)
	l.copy(filepath.Join(web.dir, "borg"), to)
	l.copy(filepath.Join(web.dir, "etc"), to)
}

func (l *lab) copy(from, to string) {
	l.t.Helper()
	if said := run(l.t, exec.Command("cp", "-a", from, to)); said.code != 0 {
		l.t.Fatal(said.errors)
	}
}

func (l *lab) archives(repository string) string {
	return strings.Join(strings.Fields(l.local(repository, "list", "--short", "REPO")), " ")
}

func TestWhoMayOnlyAddIsRefused(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	opened := open(l.Dir("vault"), nil)
	for name, test := range map[string]struct {
		cmd  *exec.Cmd
		code int
		says string
	}{
		"to delete the repository":    {cmd: web.borg("vault", "delete", "REPO"), code: 2, says: `"destroy" is refused`},
		"to repair":                   {cmd: web.borg("vault", "check", "--repair", "REPO"), code: 2, says: "a repair is refused"},
		"to change the passphrase":    {cmd: web.borg("vault", "key", "change-passphrase", "REPO"), code: 2, says: `"save_key" is refused`},
		"to break the lock":           {cmd: web.borg("vault", "break-lock", "REPO"), code: 2, says: "passing by the lock is refused"},
		"to pass by the lock":         {cmd: web.borg("vault", "list", "--bypass-lock", "REPO"), code: 2, says: "passing by the lock is refused"},
		"to make it anew":             {cmd: web.borg("vault", "init", "--encryption=none", "REPO"), code: 2, says: "creating a repository is refused"},
		"to write over an archive":    {cmd: web.borg("vault", "create", "REPO::first", "key"), code: 2, says: "already exists"},
		"to destroy what is not open": {cmd: web.speak("vault", negotiate, open(l.Dir("vault"), map[string]any{"create": true}), call("destroy", nil)), code: 1, says: "creating a repository is refused"},
		"to destroy what is open":     {cmd: web.speak("vault", negotiate, opened, call("destroy", nil)), code: 1, says: `"destroy" is refused`},
		"to change the configuration": {cmd: web.speak("vault", negotiate, opened, call("save_key", map[string]any{"keydata": "x\rappend_only = 0"})), code: 1, says: `"save_key" is refused`},
	} {
		t.Run(name, func(t *testing.T) {
			test.cmd.Env = append(test.cmd.Environ(), "BORG_NEW_PASSPHRASE=mine")
			if said := run(t, test.cmd); said.code != test.code || !strings.Contains(said.errors, test.says) {
				t.Errorf("ended with %d and said %s", said.code, said.errors)
			}
		})
	}
	if changed, err := l.ConfigChanged("vault"); err != nil || changed {
		t.Errorf("configuration changed: %t, %v", changed, err)
	}
	if got := l.archives("vault"); got != "first" {
		t.Errorf("archives %q", got)
	}
	l.local("vault", "check", "--verify-data", "REPO")
}

func TestWhatIsDoneToAddedArchivesIsUndone(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"deleted": {"delete", "REPO::first"},
		"pruned":  {"prune", "--keep-last=1", "REPO"},
		"renamed": {"rename", "REPO::first", "other"},
		"changed": {"recreate", "--exclude=etc/motd", "REPO::first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, web := filled(t)
			web.do("vault", "create", "REPO::second", "etc")
			known, err := l.Transactions("vault")
			l.check(err)
			id := l.local("vault", "list", "--format={id}{NL}", "REPO")
			web.do("vault", args...)
			web.do("vault", "compact", "--threshold=0", "REPO")
			if l.local("vault", "list", "--format={id}{NL}", "REPO") == id {
				t.Fatal("nothing was done")
			}
			l.local("vault", "info", "REPO") // our own borg remembers the newest state that it has seen
			l.check(l.Rollback("vault", known[len(known)-1].Number))
			if got := l.local("vault", "list", "--format={id}{NL}", "REPO"); got != id {
				t.Errorf("archives %s, and not %s", got, id)
			}
			l.local("vault", "check", "--verify-data", "REPO")
			l.check(os.RemoveAll(filepath.Join(web.dir, "borg")))
			web.do("vault", "create", "REPO::third", "etc")
			if got := l.archives("vault"); got != "first second third" {
				t.Errorf("archives %q", got)
			}
		})
	}
}

// What the guard is for: borg's own restriction does not hold against this.
func TestBorgItselfLetsAClientDestroy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.local("vault", "init", "--encryption=none", "REPO")
	serve := exec.Command("borg", "serve", "--append-only", "--restrict-to-repository", l.Dir("vault"))
	serve.Stdin = strings.NewReader(string(negotiate) + string(open(l.Dir("vault"), map[string]any{"create": true})) + string(call("destroy", nil)))
	if said := run(t, serve); said.code != 0 {
		t.Fatalf("borg serve ended with %d: %s", said.code, said.errors)
	}
	if _, err := os.Stat(l.Dir("vault")); err == nil {
		t.Log("this borg refuses it: perhaps the guard is not needed any more")
	}
}

func TestNothingButBorgServeIsToBeHad(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	mallory := l.host("mallory")
	l.local("other", "init", "--encryption=none", "REPO")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	l.check(err)
	t.Cleanup(func() { listener.Close() })
	batch := filepath.Join(l.dir, "batch")
	l.write(batch, "ls\n")
	for name, test := range map[string]struct {
		cmd  *exec.Cmd
		says string
	}{
		"a shell":               {cmd: web.ssh("vault", "borgfleet-depot"), says: "shell request failed"},
		"a shell on a terminal": {cmd: web.ssh("vault", "-tt", "borgfleet-depot"), says: "PTY allocation request failed"},
		"a command":             {cmd: web.ssh("vault", "borgfleet-depot", "id"), says: "nothing but borg serve"},
		"a command after it":    {cmd: web.ssh("vault", "borgfleet-depot", "borg -V; borg serve"), says: "nothing but borg serve"},
		"another borg":          {cmd: web.ssh("vault", "borgfleet-depot", "borg list"), says: "nothing but borg serve"},
		"nothing":               {cmd: web.ssh("vault", "borgfleet-depot", ""), says: "shell request failed"},
		"a subsystem":           {cmd: web.ssh("vault", "-s", "borgfleet-depot", "sftp"), says: "subsystem request failed"},
		"sftp":                  {cmd: web.plain("sftp", "-b", batch, "vault@borgfleet-depot"), says: "subsystem request failed"},
		"standard forwarding":   {cmd: web.plain("ssh", "-W", listener.Addr().String(), "vault@borgfleet-depot"), says: "administratively prohibited"},
		"a forward to it":       {cmd: web.plain("ssh", "-oExitOnForwardFailure=yes", "-N", "-R", "0:"+listener.Addr().String(), "vault@borgfleet-depot"), says: "remote port forwarding failed"},
		"another repository":    {cmd: web.borg("other", "list", "REPO"), says: "host web1 may not use repository other (borgfleet repo allow other web1)"},
		"another path":          {cmd: web.borg("vault", "list", "ssh://vault@borgfleet-depot"+l.Dir("other")), says: "Repository path not allowed"},
		"a path that leads out": {cmd: web.borg("vault", "list", "ssh://vault@borgfleet-depot/./vault/../other"), says: "Repository path not allowed"},
		"another host's":        {cmd: mallory.borg("vault", "list", "REPO"), says: "host mallory may not use repository vault"},
		"no key of ours":        {cmd: l.stranger("nobody").ssh("vault", "borgfleet-depot", "borg serve"), says: "Permission denied (publickey)"},
		"no such repository":    {cmd: web.borg("none", "list", "REPO"), says: "host web1 may not use repository none"},
		"a name that is none":   {cmd: web.ssh("../vault", "borgfleet-depot", "borg serve"), says: "Permission denied (publickey)"},
	} {
		t.Run(name, func(t *testing.T) {
			if said := run(t, test.cmd); said.code == 0 || !strings.Contains(said.errors, test.says) {
				t.Errorf("ended with %d and said %q", said.code, said.errors)
			}
		})
	}
	for _, use := range l.Uses() {
		switch {
		case use.Repository == "vault" && use.Refused < 8, use.Repository == "other" && use.Refused != 1, use.Repository == "" && use.Refused != 3:
			t.Errorf("too little was counted: %+v", use)
		case use.Repository == "none":
			t.Error("a client's invention was counted by its name")
		}
	}
}

func TestOptionsOfOtherBorgsAreTaken(t *testing.T) {
	t.Parallel()
	l, web := filled(t)
	for _, command := range []string{
		"borg serve --umask=077 --info --lock-wait=3", "/opt/borg1/bin/borg serve", "borg1 serve --restrict-to-path /",
		"borg serve --debug-profile " + filepath.Join(l.dir, "profile"),
	} {
		cmd := web.ssh("vault", "borgfleet-depot", command)
		cmd.Stdin = strings.NewReader(string(negotiate))
		if said := run(t, cmd); !strings.Contains(said.out, "server_version") {
			t.Errorf("%s: %d, %q, %q", command, said.code, said.out, said.errors)
		}
	}
	if _, err := os.Stat(filepath.Join(l.dir, "profile")); err == nil {
		t.Error("a client's option counted")
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	web := l.host("web1")
	l.local("vault", "init", "--encryption=none", "REPO")
	l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault", Quota: 20_000_000})
	l.bulk(filepath.Join(web.dir, "bulk"), 25_000_000)
	said := run(t, web.borg("vault", "create", "REPO::much", "bulk"))
	if said.code != 2 || !strings.Contains(said.errors, "quota") {
		t.Errorf("ended with %d and said %s", said.code, said.errors)
	}
	l.bulk(filepath.Join(web.dir, "bulk"), 5_000_000)
	web.do("vault", "create", "REPO::little", "bulk")
	l.allow(fleet.DepotGrant{Host: "web1", Repository: "vault", Quota: 1}) // less than borg takes
	web.do("vault", "list", "REPO")
}

func TestGarbageEnds(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, func(s *depot.Server) { s.Hurry(300*time.Millisecond, 300*time.Millisecond, time.Hour) })
	noise := make([]byte, 1<<16)
	rand.Read(noise)
	for name, test := range map[string]struct {
		says []byte
		on   bool // and goes on
	}{
		"nothing":               {},
		"noise":                 {says: noise, on: true},
		"a version, then noise": {says: append([]byte("SSH-2.0-x\r\n"), noise...), on: true},
		"a version for ever":    {says: []byte("SSH-2.0-" + strings.Repeat("x", 200)), on: true},
		"HTTP":                  {says: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", l.Addr().String())
			l.check(err)
			defer c.Close()
			go func() {
				for {
					if _, err := c.Write(test.says); err != nil || !test.on {
						return
					}
				}
			}()
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the connection did not end")
			}
		})
	}
}

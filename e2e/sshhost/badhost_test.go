package sshhost_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestHostsThatCannotBeAdded are hosts to which no connection comes about. Each
// gets one error that says what and where, and nothing is added.
func TestHostsThatCannotBeAdded(t *testing.T) {
	w := newWorld(t)
	good, stranger := w.sshd("good"), w.sshd("stranger")
	drops := droppingServer(t, "SSH-2.0-OpenSSH_9.2\r\n")
	none := net.JoinHostPort("127.0.0.1", fmt.Sprint(harness.FreePort(t)))
	key, hostKey := good.sshd.ClientKeyFile(), good.sshd.HostKeyFile()
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"nobody listens":  {[]string{"--ssh", "root@" + none, "--host-key", hostKey, "--identity-file", key}, []string{none, "refused"}},
		"no such name":    {[]string{"--ssh", "root@nowhere.invalid", "--host-key", hostKey, "--identity-file", key}, []string{"nowhere.invalid"}},
		"drops in login":  {[]string{"--ssh", "root@" + drops, "--host-key", hostKey, "--identity-file", key}, []string{drops}},
		"another key":     {[]string{"--ssh", good.address(), "--host-key", stranger.sshd.HostKeyFile(), "--identity-file", key}, []string{"key", "SHA256:"}},
		"no user":         {[]string{"--ssh", good.sshd.HostPort(), "--host-key", hostKey, "--identity-file", key}, []string{"user"}},
		"not a key":       {[]string{"--ssh", good.address(), "--host-key", hostKey, "--identity-file", "/etc/hostname"}, []string{"/etc/hostname"}},
		"unconfirmed key": {[]string{"--ssh", good.address(), "--identity-file", key}, []string{"--host-key"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.c.CLI(append([]string{"host", "add", "bad"}, test.args...)...)
			if r.Code == 0 {
				t.Errorf("it was added:\n%s", r.Stdout)
			}
			for _, want := range test.want {
				if !strings.Contains(r.Stderr, want) {
					t.Errorf("the error does not say %q:\n%s", want, r.Stderr)
				}
			}
			if r := w.c.CLI("host", "show", "bad"); r.Code == 0 {
				t.Errorf("there is such a host now:\n%s", r.Stdout)
			}
		})
	}
}

// TestHostThatDoesNotLetUsInYet is added, and says what is to be done.
func TestHostThatDoesNotLetUsInYet(t *testing.T) {
	w := newWorld(t)
	h := w.sshd("web1")
	r := w.c.CLI("host", "add", "web1", "--ssh", h.address(), "--host-key", h.sshd.HostKeyFile(), "--dir", h.dir, "--own-key")
	line := regexp.MustCompile(`(?m)^ssh-ed25519 \S+`).FindString(r.Stdout)
	if r.Code == 0 || line == "" || !strings.Contains(r.Stdout, "authorized_keys") {
		t.Fatalf("host add ended with %d:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	h.sshd.Allow(t, line)
	w.c.MustCLI("host", "verify", "web1")
	w.c.AwaitOnline("web1")
}

// droppingServer says a greeting to each client, and closes the connection.
func droppingServer(t *testing.T, greeting string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte(greeting))
			_ = connection.Close()
		}
	}()
	return listener.Addr().String()
}

// TestChangedHostKey has another server answer at a host's address.
func TestChangedHostKey(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1")
	w.repository("a", filepath.Join(t.TempDir(), "r"))
	w.run("web1", job.Init, "a", map[string]any{})
	h.sshd.ChangeHostKey(t)
	harness.Eventually(t, "the job to fail", func() error {
		j := w.submit("web1", job.List, "a", map[string]any{})
		j = w.c.Await(j.ID, job.Failed, job.Succeeded)
		if j.State != job.Failed || j.Failure.Code != job.HostKeyChanged {
			return fmt.Errorf("it is %s: %v", j.State, j.Failure)
		}
		return nil
	})
	r := w.c.CLI("host", "verify", "web1")
	if r.Code == 0 || !strings.Contains(r.Stderr+r.Stdout, "key") {
		t.Errorf("verify ended with %d:\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if status := w.c.MustCLI("status"); !strings.Contains(status, "web1") || !strings.Contains(status, "key") {
		t.Errorf("status says nothing of it:\n%s", status)
	}
}

// TestBorgMissing has a host that has no borg, or one that is too old: it is
// added, and not a source of backups until there is one.
func TestBorgMissing(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"missing": {"", "install"}, "too old": {"#!/bin/sh\necho borg 1.0.11\n", "1.0.11"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := w.sshd("web1")
			borg := filepath.Join(t.TempDir(), "borg")
			if test.script != "" {
				if err := os.WriteFile(borg, []byte(test.script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			out := w.c.MustCLI("host", "add", "web1", "--ssh", h.address(), "--host-key", h.sshd.HostKeyFile(),
				"--identity-file", h.sshd.ClientKeyFile(), "--dir", h.dir, "--borg", borg)
			if !strings.Contains(out, test.want) {
				t.Errorf("host add does not say %q:\n%s", test.want, out)
			}
			w.repository("a", filepath.Join(t.TempDir(), "r"))
			r := w.c.CLI("job", "submit", fmt.Sprintf(`{"host":"web1","kind":"backup","repository":"a","spec":{"paths":[%q]}}`, h.files))
			if r.Code == 0 || !strings.Contains(r.Stderr, "enable") {
				t.Errorf("a backup ended with %d:\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			if r := w.c.CLI("host", "enable", "web1"); r.Code == 0 || !strings.Contains(r.Stderr, test.want) {
				t.Errorf("enable ended with %d:\n%s", r.Code, r.Stderr)
			}
			if err := os.WriteFile(borg, []byte("#!/bin/sh\nexec borg \"$@\"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			w.c.MustCLI("host", "enable", "web1")
			w.run("web1", job.Init, "a", map[string]any{})
			harness.MakeTree(t, h.files, 1, 100)
			w.c.Await(w.backup(h, "a", nil).ID, job.Succeeded)
		})
	}
}

// TestNames has paths, an archive and a comment that a shell would take for its
// own: nothing of them is run, and all of them arrive.
func TestNames(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1")
	w.repository("a", filepath.Join(t.TempDir(), "r '$(touch pwned)'"))
	w.run("web1", job.Init, "a", map[string]any{})
	for _, name := range []string{"plain", " a space ", "a'quote\"s", "$(touch pwned)", "`touch pwned`", "-rf", "a\nline", "a;b&c|d>e", `back\slash`, "*", "ünï"} {
		if err := os.WriteFile(filepath.Join(h.files, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		done := w.run("web1", job.Backup, "a", map[string]any{"paths": []string{filepath.Join(h.files, name)}, "comment": "$(touch pwned) '" + strings.ReplaceAll(name, "\n", " ")})
		if done.Result.NFiles != 1 {
			t.Errorf("%q: %d files", name, done.Result.NFiles)
		}
		target := filepath.Join(h.home, "back "+name)
		if strings.Contains(name, "\n") {
			target = filepath.Join(h.home, "back line")
		}
		w.run("web1", job.Restore, "a", map[string]any{"archive": done.Result.Archive, "target": target})
		text, err := os.ReadFile(filepath.Join(target, h.files, name))
		if err != nil || string(text) != name {
			t.Errorf("%q: %q, %v", name, text, err)
		}
	}
	for _, dir := range []string{h.home, h.dir, h.files, "/"} {
		if _, err := os.Lstat(filepath.Join(dir, "pwned")); err == nil {
			t.Errorf("something was run in %s", dir)
		}
	}
}

// TestHostGoneForGood removes a host that does not come back, with a job that ran.
func TestHostGoneForGood(t *testing.T) {
	w, h, _ := worldWithServer(t)
	harness.MakeTree(t, h.files, 40, 4<<20)
	submitted := w.backup(h, "a", slowly())
	w.running(submitted.ID)
	h.machine.Link.Cut()
	w.c.MustCLI("host", "remove", "web1", "--yes")
	if j := w.c.Await(submitted.ID, job.Failed); j.Failure.Code != job.Interrupted {
		t.Errorf("it failed with %v", j.Failure)
	}
	if r := w.c.CLI("host", "show", "web1"); r.Code == 0 {
		t.Errorf("it is still there:\n%s", r.Stdout)
	}
}

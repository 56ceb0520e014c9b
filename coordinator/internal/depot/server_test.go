package depot_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestTheKeyStays(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	info, err := os.Stat(filepath.Join(l.dir, "depot_key"))
	l.check(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
	again, err := depot.New(l.options())
	l.check(err)
	defer again.Close()
	if again.HostKey() != l.HostKey() || !strings.HasPrefix(again.HostKey(), "ssh-ed25519 ") || strings.Count(again.HostKey(), " ") != 1 {
		t.Errorf("first %q, then %q", l.HostKey(), again.HostKey())
	}
	if !strings.HasPrefix(l.Fingerprint(), "SHA256:") {
		t.Errorf("fingerprint %q", l.Fingerprint())
	}
	other := l.options()
	other.KeyFile += "2"
	another, err := depot.New(other)
	l.check(err)
	defer another.Close()
	if another.HostKey() == l.HostKey() {
		t.Error("two servers made the same key")
	}
}

func TestWhatNewRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	l.check(err)
	defer taken.Close()
	file := filepath.Join(l.dir, "file")
	l.write(file, "not a key")
	shown := filepath.Join(l.dir, "shown")
	l.write(shown, "x")
	l.check(os.Chmod(shown, 0o644))
	for name, test := range map[string]struct {
		change func(*depot.Options)
		code   job.Code
		says   string
	}{
		"a port that is taken":    {change: func(o *depot.Options) { o.Listen = taken.Addr().String() }, code: job.Conflict, says: "another program does"},
		"an address that is none": {change: func(o *depot.Options) { o.Listen = "nowhere.invalid:1" }, code: job.Unavailable, says: "cannot listen on nowhere.invalid:1"},
		"a key that is none":      {change: func(o *depot.Options) { o.KeyFile = file }, code: job.KeyMissing, says: "not a private key"},
		"a key that others read":  {change: func(o *depot.Options) { o.KeyFile = shown }, code: job.Internal, says: "chmod 600"},
		"a file for a directory":  {change: func(o *depot.Options) { o.Path = file }, code: job.PermissionDenied, says: "cannot be made"},
	} {
		t.Run(name, func(t *testing.T) {
			o := l.options()
			test.change(&o)
			_, err := depot.New(o)
			if err == nil || job.AsFailure(err).Code != test.code || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestCloseLetsThePortGo(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := l.options()
	server, err := depot.New(o)
	l.check(err)
	l.check(errors.Join(server.Close(), server.Close()))
	o.Listen = server.Addr().String()
	again, err := depot.New(o)
	l.check(err)
	l.check(again.Close())
}

func TestKeptConfiguration(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if err := l.KeepConfig("vault"); err == nil || job.AsFailure(err).Code != job.RepositoryMissing {
		t.Errorf("no repository: %v", err)
	}
	changed := func() bool {
		t.Helper()
		changed, err := l.ConfigChanged("vault")
		l.check(err)
		return changed
	}
	if changed() {
		t.Error("no repository has changed")
	}
	l.local("vault", "init", "--encryption=repokey", "REPO")
	if changed() {
		t.Error("nothing was kept, and it has changed")
	}
	l.check(l.KeepConfig("vault"))
	if changed() {
		t.Error("nobody changed anything")
	}
	config := filepath.Join(l.Dir("vault"), "config")
	was, err := os.ReadFile(config)
	l.check(err)
	l.write(config, strings.Replace(string(was), "\nid = ", "\nlast_segment_checked = 3\nid = ", 1))
	if changed() {
		t.Error("a check in parts counts as a change")
	}
	l.write(config, strings.Replace(string(was), "\nid = ", "\nappend_only = 1\nid = ", 1))
	if !changed() {
		t.Error("a changed line was not noticed")
	}
	l.write(config, string(was)+"\n")
	if !changed() {
		t.Error("a change was not noticed")
	}
	l.check(l.Rollback("vault", 1))
	if now, err := os.ReadFile(config); err != nil || string(now) != string(was) {
		t.Errorf("put back: %q, %v", now, err)
	}
	l.check(os.Remove(config))
	if !changed() {
		t.Error("that there is none was not noticed")
	}
}

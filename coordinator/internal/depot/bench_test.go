package depot_test

import (
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/bus"
)

const benchBytes = 1 << 30

// BenchmarkBorg backs random data up and reads it again, through the depot, also
// where a host may only add, and through OpenSSH's sshd with the same command in
// turn. With TMPDIR in memory and -benchtime=3x it says what of OpenSSH's
// throughput the depot has.
func BenchmarkBorg(b *testing.B) {
	l := newLab(b)
	web := l.host("web1")
	l.bulk(filepath.Join(web.dir, "bulk"), benchBytes)
	ways := map[string]func(args ...string) *exec.Cmd{
		"depot":   func(args ...string) *exec.Cmd { return web.borg("depot", args...) },
		"guarded": func(args ...string) *exec.Cmd { return web.borg("guarded", args...) },
		"openssh": l.openSSH(web, "openssh"),
	}
	for name := range ways {
		l.allow(fleet.DepotGrant{Host: "web1", Repository: name, AppendOnly: name == "guarded"})
		l.local(name, "init", "--encryption=none", "REPO")
	}
	spent := map[string]time.Duration{}
	for b.Loop() {
		for name, borg := range ways {
			for _, kind := range [][]string{{"create", "--compression=none", "REPO::a", "bulk"}, {"extract", "--dry-run", "REPO::a"}} {
				began := time.Now()
				if said := run(b, borg(kind...)); said.code != 0 {
					b.Fatalf("%s: borg %s: %d: %s", name, kind, said.code, said.errors)
				}
				spent[name+"-"+kind[0]] += time.Since(began)
			}
			l.local(name, "delete", "REPO::a")
			l.local(name, "compact", "REPO")
		}
	}
	for what, long := range spent {
		b.ReportMetric(benchBytes/1e6*float64(b.N)/long.Seconds(), what+"-MB/s")
	}
	for _, kind := range []string{"create", "extract"} {
		for _, way := range []string{"depot", "guarded"} {
			b.ReportMetric(100*spent["openssh-"+kind].Seconds()/spent[way+"-"+kind].Seconds(), way+"-"+kind+"-%")
		}
	}
}

func (l *lab) bulk(path string, size int64) {
	l.t.Helper()
	file, err := os.Create(path)
	l.check(err)
	defer file.Close()
	_, err = io.Copy(file, io.LimitReader(rand.Reader, size))
	l.check(err)
}

// openSSH starts an sshd that runs the depot's command, and returns what reaches
// it.
func (l *lab) openSSH(c *client, repository string) func(args ...string) *exec.Cmd {
	l.t.Helper()
	server := sshtest.Start(l.t, sshtest.Options{Config: []string{
		"ForceCommand cd " + l.path + " && exec borg serve --umask=077 --restrict-to-repository " + l.Dir(repository),
	}})
	return func(args ...string) *exec.Cmd {
		cmd := c.borg(repository, args...)
		for i, arg := range cmd.Args {
			cmd.Args[i] = strings.Replace(arg, bus.DepotURL(repository), "ssh://"+server.User+"@127.0.0.1/./"+repository, 1)
		}
		cmd.Env = append(cmd.Env, "BORG_RSH="+server.RSH(), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
		return cmd
	}
}

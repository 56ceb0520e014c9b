package sshhost_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// slowly is a backup of some seconds, over ssh.
func slowly() map[string]any {
	return map[string]any{"upload_limit": 4 << 10, "compression": "none", "checkpoint_interval": 1}
}

// watched are the different sizes that a job's progress has shown until its end.
func (w *world) watched(id job.ID) (sizes []int64, end job.Job) {
	w.t.Helper()
	harness.Eventually(w.t, "job "+string(id)+" to end", func() error {
		end = w.c.Job(id)
		if p := end.Progress; p != nil && !slices.Contains(sizes, p.OriginalSize) {
			sizes = append(sizes, p.OriginalSize)
		}
		if !end.State.Terminal() {
			return fmt.Errorf("it is %s", end.State)
		}
		return nil
	})
	return sizes, end
}

// TestBackupByEachWay has the three ways from a host to its repository: it
// reaches a server by itself, it reaches the depot, or the coordinator's own
// connection brings it there.
func TestBackupByEachWay(t *testing.T) {
	w := newWorld(t)
	direct, near, far := w.host("direct"), w.host("near"), w.host("far", "--reach", "tunnel")
	store := w.sshd("store")
	server := filepath.Join(t.TempDir(), "r")
	w.repository("a", store.sshd.URLAt(direct.machine.Link.Reach(store.sshd.HostPort()), server))
	w.serve(direct, store.sshd, "a")
	w.run("direct", job.Init, "a", map[string]any{})
	w.repository("b", "depot", "--host", "near")
	w.repository("c", "depot", "--host", "far", "--append-only", "--quota", "1G")
	for _, test := range []struct {
		host       *host
		repository string
		dir        string
		shown      string
	}{
		{direct, "a", server, "by the host's own key"},
		{near, "b", w.depotDir("b"), "depot at " + w.depot},
		{far, "c", w.depotDir("c"), "tunnel"},
	} {
		t.Run(test.repository, func(t *testing.T) {
			harness.MakeTree(t, test.host.files, 24, 1<<20)
			submitted := w.backup(test.host, test.repository, slowly())
			sizes, end := w.watched(submitted.ID)
			if end.State != job.Succeeded {
				t.Fatalf("%s: %+v", end.State, end.Failure)
			}
			if len(sizes) < 3 {
				t.Errorf("progress was seen %d times: %v", len(sizes), sizes)
			}
			w.wantArchive(end, test.dir)
			w.clean(test.host, test.dir)
			if out := w.c.MustCLI("host", "show", test.host.name); !strings.Contains(out, test.shown) {
				t.Errorf("host show does not say %q:\n%s", test.shown, out)
			}
			target := filepath.Join(t.TempDir(), "back")
			w.run(test.host.name, job.Restore, test.repository, map[string]any{"archive": end.Result.Archive, "target": target})
			if _, err := os.Stat(filepath.Join(target, test.host.files, "d000", "f00000.bin")); err != nil {
				t.Errorf("nothing was restored: %v", err)
			}
		})
	}
	if n := len(near.accepted()); n != 1 {
		t.Errorf("%d connections were made to a host", n)
	}
}

// homeOnce gives the user a directory of ssh's own, which only these tests see:
// ssh takes the home directory from the list of users.
var homeOnce = sync.OnceValues(func() (string, error) {
	current, err := user.Current()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(current.HomeDir, ".ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700")
})

var trusting sync.Mutex // holds the file of known hosts

// serve lets a host use a repository on a server, as their owners would: the
// server's key is known, and the host's is let in for that repository alone.
func (w *world) serve(h *host, server *harness.SSHD, repository string) {
	w.t.Helper()
	dir, err := homeOnce()
	if err != nil {
		w.t.Skipf("no home directory of one's own here: %v", err) // machines without namespaces
	}
	known, err := os.ReadFile(server.KnownHostsFile())
	if err != nil {
		w.t.Fatal(err)
	}
	trusting.Lock()
	defer trusting.Unlock()
	file, err := os.OpenFile(filepath.Join(dir, "known_hosts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = file.Write(known)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		w.t.Fatal(err)
	}
	var made struct {
		Line string `json:"authorized_key"`
	}
	out := w.c.MustCLI("host", "key", h.name, "--repo", repository, "--json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || !strings.Contains(made.Line, "restrict-to-repository") {
		w.t.Fatalf("host key printed %q: %v", out, err)
	}
	server.Allow(w.t, made.Line)
}

// TestCutInTheMiddle cuts the coordinator's connection for half a minute, while
// borg goes on to a server that is nearer.
func TestCutInTheMiddle(t *testing.T) {
	w, h, dir := worldWithServer(t)
	harness.MakeTree(t, h.files, 40, 4<<20)
	submitted := w.backup(h, "a", slowly())
	w.running(submitted.ID)
	borgs := h.borgs()
	h.machine.Link.Cut()
	waitWhile(t, 30*time.Second, func() error {
		if len(h.borgs()) == 0 {
			return fmt.Errorf("borg is gone after a cut")
		}
		return nil
	})
	if j := w.c.Job(submitted.ID); j.State != job.Running {
		t.Errorf("meanwhile the job is %s: %q", j.State, j.Reason)
	}
	if !slices.Equal(borgs, h.borgs()) {
		t.Errorf("borg was %v and is %v", borgs, h.borgs())
	}
	h.machine.Link.Heal()
	w.wantOneAttempt(submitted.ID, h, dir)
}

// TestCoordinatorKilledInTheMiddle restarts the coordinator while borg runs, and
// once more, so that borg ends meanwhile.
func TestCoordinatorKilledInTheMiddle(t *testing.T) {
	for name, ends := range map[string]bool{"borg runs on": false, "borg ends meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			w, h, dir := worldWithServer(t)
			harness.MakeTree(t, h.files, 24, 1<<20)
			submitted := w.backup(h, "a", slowly())
			w.running(submitted.ID)
			w.c.Kill()
			if ends {
				harness.Eventually(t, "borg to end", func() error {
					if left := h.borgs(); len(left) > 0 {
						return fmt.Errorf("there is %v", left)
					}
					return nil
				})
			}
			w.c.Restart()
			w.wantOneAttempt(submitted.ID, h, dir)
		})
	}
}

// worldWithServer has a host with a repository on a server that no cut of the
// host's link concerns: it is on the same machine.
func worldWithServer(t *testing.T) (*world, *host, string) {
	t.Helper()
	w := newWorld(t)
	h := w.host("web1")
	server := harness.StartSSHDWith(t, harness.SSHDOptions{Prefix: h.machine.Prefix(), Listen: h.machine.Address})
	dir := filepath.Join(t.TempDir(), "r")
	w.repository("a", server.URL(dir))
	w.serve(h, server, "a")
	w.run("web1", job.Init, "a", map[string]any{})
	return w, h, dir
}

// wantOneAttempt expects a job that ends well, with one borg, one archive and
// nothing left behind.
func (w *world) wantOneAttempt(id job.ID, h *host, dir string) {
	w.t.Helper()
	j := w.c.Await(id, job.Succeeded)
	if j.Attempt != 1 {
		w.t.Errorf("it took %d attempts", j.Attempt)
	}
	w.wantArchive(j, dir)
	if archives := harness.Archives(w.t, dir, passphrase); len(archives) != 1 {
		w.t.Errorf("there are %v", archives)
	}
	w.clean(h, dir)
}

// TestTunnelBreaks has a way that cannot outlive the connection, and says so. What
// has come over until then is not sent again.
func TestTunnelBreaks(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1", "--reach", "tunnel")
	w.repository("c", "depot", "--host", "web1")
	harness.MakeTree(t, h.files, 32, 1<<20)
	submitted := w.backup(h, "c", slowly())
	harness.Eventually(t, "a checkpoint", func() error {
		log := w.c.MustCLI("job", "show", string(submitted.ID), "--json")
		j := w.c.Job(submitted.ID)
		if j.State.Terminal() {
			t.Fatalf("it is over: %s", log)
		}
		if j.Progress == nil || j.Progress.OriginalSize < 12<<20 {
			return fmt.Errorf("not yet: %+v", j.Progress)
		}
		return nil
	})
	h.sshd.EndSessions()
	w.firstFails(submitted.ID, job.ConnectionLost)
	end := w.c.Await(submitted.ID, job.Succeeded)
	if end.Attempt != 2 || end.Attempts[0].Failure == nil || end.Attempts[0].Failure.Code != job.ConnectionLost {
		t.Errorf("attempts %+v", end.Attempts)
	}
	if sent := end.Result.DeduplicatedSize; sent > 28<<20 {
		t.Errorf("the second attempt added %d of %d bytes: it did not go on from the checkpoint", sent, end.Result.OriginalSize)
	}
	w.wantArchive(end, w.depotDir("c"))
	w.clean(h, w.depotDir("c"))
}

// firstFails waits for the failure of a job's first attempt.
func (w *world) firstFails(id job.ID, code job.Code) {
	w.t.Helper()
	harness.Eventually(w.t, "the first attempt to fail", func() error {
		j := w.c.Job(id)
		if j.State == job.Succeeded && len(j.Attempts) == 1 {
			w.t.Fatal("it ended well")
		}
		if len(j.Attempts) == 0 || j.Attempts[0].Failure == nil {
			return fmt.Errorf("it is %s", j.State)
		}
		if got := j.Attempts[0].Failure.Code; got != code {
			w.t.Fatalf("it failed with %s: %v", got, j.Attempts[0].Failure)
		}
		return nil
	})
}

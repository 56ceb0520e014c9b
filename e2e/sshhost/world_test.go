package sshhost_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/job"
)

const passphrase = "correct horse battery staple"

// world is a coordinator on the hub, and machines with nothing but an sshd.
type world struct {
	t     *testing.T
	lab   *lab.Lab
	c     *harness.Coordinator
	depot string // where hosts reach the depot
	pass  string // of the repositories
}

// host is a machine that the coordinator connects to.
type host struct {
	name    string
	machine *lab.Machine
	sshd    *harness.SSHD
	home    string // of its user
	dir     string // what the coordinator uses there
	files   string // what there is to back up
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, "")
}

// newWorldWith is newWorld with further lines of the coordinator's settings.
func newWorldWith(t *testing.T, config string) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, lab: lab.New(t), pass: passphrase}
	depot := net.JoinHostPort(w.lab.Hub(), fmt.Sprint(harness.FreePort(t)))
	w.depot = depot
	w.c = harness.StartCoordinatorWith(t, harness.CoordinatorOptions{
		DepotListen: depot, BusListen: net.JoinHostPort(w.lab.Hub(), "0"),
		Config: fmt.Sprintf("tls: {names: [%s]}\ndepot: {address: %q}\nlog: {level: debug}\n%s", w.lab.Hub(), depot, config),
	})
	return w
}

// sshd starts a machine with an sshd whose user has a home of its own.
func (w *world) sshd(name string) *host {
	w.t.Helper()
	h := &host{name: name, machine: w.lab.Machine(name), home: w.t.TempDir(), files: filepath.Join(w.t.TempDir(), "files of "+name)}
	h.dir = filepath.Join(h.home, "borg fleet's $(dir)")
	h.sshd = harness.StartSSHDWith(w.t, harness.SSHDOptions{
		Prefix: h.machine.Prefix(), Listen: h.machine.Address,
		Config: []string{"SetEnv HOME=" + h.home + " BORG_HOST_ID=server@" + name, "AllowTcpForwarding yes"},
	})
	w.t.Cleanup(func() { harness.KillAll(w.t, h.dir) }) // what was left running there
	if err := os.MkdirAll(h.files, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return h
}

// address is how the coordinator reaches a host: its link can be cut.
func (h *host) address() string {
	current, err := user.Current()
	if err != nil {
		panic(err)
	}
	return current.Username + "@" + h.machine.Link.Reach(h.sshd.HostPort())
}

// add makes a host known, with the key that its sshd takes.
func (w *world) add(h *host, flags ...string) {
	w.t.Helper()
	w.c.MustCLI(append([]string{"host", "add", h.name, "--ssh", h.address(), "--host-key", h.sshd.HostKeyFile(),
		"--identity-file", h.sshd.ClientKeyFile(), "--dir", h.dir}, flags...)...)
	w.c.AwaitOnline(h.name)
}

// host is a machine that is added at once.
func (w *world) host(name string, flags ...string) *host {
	w.t.Helper()
	h := w.sshd(name)
	w.add(h, flags...)
	return h
}

// secretFile is a file with the passphrase.
func (w *world) secretFile() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte(w.pass+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// repository adds a repository with the usual passphrase.
func (w *world) repository(name, location string, flags ...string) {
	w.t.Helper()
	w.c.MustCLI(append([]string{"repo", "add", name, "--location", location, "--passphrase-file", w.secretFile()}, flags...)...)
}

// depotDir is where the coordinator keeps a repository.
func (w *world) depotDir(name string) string { return filepath.Join(w.c.Data, "depot", name) }

// backup submits a backup of a host's files that takes some seconds.
func (w *world) backup(h *host, repository string, spec map[string]any) job.Job {
	w.t.Helper()
	if spec == nil {
		spec = map[string]any{}
	}
	spec["paths"] = []string{h.files}
	return w.submit(h.name, job.Backup, repository, spec)
}

func (w *world) submit(host string, kind job.Kind, repository string, spec any) job.Job {
	w.t.Helper()
	text, err := json.Marshal(map[string]any{"host": host, "kind": kind, "repository": repository, "spec": spec})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.c.Submit(string(text))
}

// run submits a job and waits for its good end.
func (w *world) run(host string, kind job.Kind, repository string, spec any) job.Job {
	w.t.Helper()
	return w.c.Await(w.submit(host, kind, repository, spec).ID, job.Succeeded)
}

// running waits until borg has read some bytes of a job's files, and returns it.
func (w *world) running(id job.ID) job.Job {
	w.t.Helper()
	var j job.Job
	harness.Eventually(w.t, "borg to be in the middle of "+string(id), func() error {
		j = w.c.Job(id)
		if j.State.Terminal() {
			w.t.Fatalf("job %s is over already: %s, %v", id, j.State, j.Failure)
		}
		if j.Progress == nil || j.Progress.OriginalSize == 0 {
			return fmt.Errorf("it is %s (%s)", j.State, j.Reason)
		}
		return nil
	})
	return j
}

// wantArchive compares what a job says with what borg says.
func (w *world) wantArchive(j job.Job, location string) {
	w.t.Helper()
	var said struct {
		Archives []struct {
			Name  string
			Stats struct {
				NFiles       int64 `json:"nfiles"`
				OriginalSize int64 `json:"original_size"`
			}
		}
	}
	harness.BorgJSON(w.t, &said, passphrase, "info", "--json", location+"::"+j.Result.Archive)
	const metadata = 64 << 10 // of the archive itself, which borg create counts and borg info does not
	if len(said.Archives) != 1 || said.Archives[0].Stats.NFiles != j.Result.NFiles ||
		j.Result.OriginalSize < said.Archives[0].Stats.OriginalSize || j.Result.OriginalSize > said.Archives[0].Stats.OriginalSize+metadata {
		w.t.Errorf("borg says %+v, the job %+v", said.Archives, j.Result)
	}
}

// clean waits until nothing of a host's runs is left there, in the repository,
// or in the coordinator.
func (w *world) clean(h *host, repositories ...string) {
	w.t.Helper()
	harness.Eventually(w.t, "nothing to be left of the runs on "+h.name, func() error {
		if left, _ := filepath.Glob(filepath.Join(strings.ReplaceAll(h.dir, "$", "?"), "jobs", "*")); len(left) > 0 {
			return fmt.Errorf("there is %v", left)
		}
		for _, dir := range repositories {
			if locks, _ := filepath.Glob(filepath.Join(dir, "lock.exclusive", "*")); len(locks) > 0 {
				return fmt.Errorf("locked by %v", locks)
			}
		}
		return nil
	})
}

// waitWhile waits for a time that the test is about, such as that of a cut, as
// long as a condition holds all the time.
func waitWhile(t *testing.T, d time.Duration, holds func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for over := time.After(d); ; {
		if err := holds(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

// accepted are the connections on which an sshd has let somebody in, by address.
func (h *host) accepted() []string {
	return regexp.MustCompile(`Accepted publickey for \S+ from \S+ port [0-9]+`).FindAllString(h.sshd.Output(), -1)
}

// borgs are the processes of borg that work for a host.
func (h *host) borgs() []int {
	pids := harness.PIDs(h.files)
	slices.Sort(pids)
	return pids
}

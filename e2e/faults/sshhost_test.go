package faults_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

// way is how a host without an agent reaches its repository.
type way string

const (
	direct way = "server" // by its own key, a server beside it
	near   way = "depot"  // the coordinator's depot, by itself
	far    way = "tunnel" // the depot, through the coordinator's connection
)

// localHost is the name of the coordinator's own machine.
const localHost = "coordinator"

// keepDepot lets hosts reach the depot, and notes which borgs the coordinator
// starts itself.
func (w *world) keepDepot(start *harness.CoordinatorOptions) {
	w.t.Helper()
	w.local = &host{Agent: &harness.Agent{Host: localHost}, t: w.t, restore: w.t.TempDir()}
	start.DepotListen = net.JoinHostPort(w.lab.Hub(), strconv.Itoa(harness.FreePort(w.t)))
	start.Config += fmt.Sprintf("depot: {address: %q, borg: %q}\n", start.DepotListen, w.local.noting(""))
}

// runners are all machines on which jobs run.
func (w *world) runners() []*host {
	if w.local == nil {
		return w.hosts
	}
	return append(w.hosts[:len(w.hosts):len(w.hosts)], w.local)
}

// addSSHHost starts a machine that has an sshd, and makes it known.
func (w *world) addSSHHost(h *host, name string, o options) *host {
	w.t.Helper()
	h.points, h.machine = w.points, w.overSSH // the coordinator has its journal and its worker
	if h.machine == nil {
		h.machine = w.lab.Machine(name)
	}
	home := w.t.TempDir()
	h.Agent = &harness.Agent{Host: name, Data: filepath.Join(home, "what $HOME's borg fleet keeps")}
	if o.agentData != nil {
		h.Data = filepath.Join(o.agentData.Path, "borgfleet")
	}
	h.journal = filepath.Join(w.c.Data, "hosts", name, "journal.db")
	h.sshd = harness.StartSSHDWith(w.t, harness.SSHDOptions{
		Prefix: h.machine.Prefix(), Listen: h.machine.Address,
		Config: []string{"SetEnv HOME=" + home + " BORG_HOST_ID=server@" + name, "AllowTcpForwarding yes"},
	})
	w.t.Cleanup(func() { h.killRuns() }) // what was left running
	settings := ""
	if w.server != nil {
		settings = fmt.Sprintf("export BORG_RSH=%q", w.server.RSH()+" -o ServerAliveInterval=5 -o ServerAliveCountMax=3")
	}
	current, err := user.Current()
	if err != nil {
		w.t.Fatal(err)
	}
	argv := []string{
		"host", "add", name, "--ssh", current.Username + "@" + h.machine.Link.Reach(h.sshd.HostPort()), "--dir", h.Data,
		"--host-key", h.sshd.HostKeyFile(), "--identity-file", h.sshd.ClientKeyFile(), "--borg", h.noting(settings),
	}
	if h.hooks != "" {
		argv = append(argv, "--hooks", h.hooks)
	}
	if o.way == far {
		argv = append(argv, "--reach", "tunnel")
	}
	w.c.MustCLI(argv...)
	w.c.AwaitOnline(name)
	h.before = h.accepted()
	w.hosts = append(w.hosts, h)
	return h
}

// addToDepot has the coordinator make a repository, which all hosts may use.
func (w *world) addToDepot(name string, o options) *repository {
	w.t.Helper()
	r := &repository{name: name, location: "depot", passphrase: passphrase, dir: filepath.Join(w.c.Data, "depot", name)}
	var flags []string
	for _, h := range w.hosts {
		flags = append(flags, "--host", h.Host)
	}
	w.know(r, flags...)
	if o.shelf {
		w.shelf = fillShelf(w.t, r.dir)
		r.shelved = w.shelf.archives
	}
	return r
}

// noted returns the process that a run's directory names in a file while it
// lives, else 0.
func (h *host) noted(attempt, file string) int {
	text, _ := os.ReadFile(filepath.Join(h.Data, "jobs", attempt, file)) // not there: nobody
	first, _, _ := strings.Cut(string(text), " ")
	pid, err := strconv.Atoi(first)
	if err != nil || !alive(pid) {
		return 0
	}
	return pid
}

// emptyJournal returns an error unless there is nothing in the journal that the
// coordinator has of the host.
func (h *host) emptyJournal() error {
	path := filepath.Join(h.t.TempDir(), "copy.db")
	if r := harness.Run(h.t, nil, "cp", h.journal, path); r.Code != 0 {
		return errors.New(r.Stderr)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		for _, name := range []string{"attempts", "orders", "events"} {
			bucket := tx.Bucket([]byte(name))
			if bucket == nil {
				return fmt.Errorf("its journal has no %s", name)
			}
			if n := bucket.Stats().KeyN; n > 0 {
				return fmt.Errorf("its journal holds %d %s", n, name)
			}
		}
		return nil
	})
}

// sessions are the processes in which an sshd serves a connection each.
func (h *host) sessions() (found []int) {
	for _, pid := range lab.Children(h.sshd.PID()) {
		if parent(pid) == h.sshd.PID() {
			found = append(found, pid)
		}
	}
	return found
}

// accepted is how often the sshd has let the coordinator in since it was started.
func (h *host) accepted() int { return strings.Count(h.sshd.Output(), "Accepted publickey for ") }

// killConnections ends all connections to the host, as an administrator might.
func (s *scene) killConnections() {
	s.t.Helper()
	for _, pid := range s.host.sessions() {
		signal(s, pid, syscall.SIGKILL)
	}
}

// freeze stops the host's sshd and all that it serves; what jobs run goes on.
func (s *scene) freeze(with syscall.Signal) {
	s.t.Helper()
	for _, pid := range append(lab.Children(s.host.sshd.PID()), s.host.sshd.PID()) {
		_ = syscall.Kill(pid, with) // a script of the session may just have ended
	}
}

// crash ends everything on the host at once.
func (s *scene) crash() {
	s.t.Helper()
	s.host.before = 0 // another sshd will count from there
	sessions := lab.Children(s.host.sshd.PID())
	s.host.sshd.Kill()
	for _, pid := range sessions {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
	}
	s.host.killRuns()
}

// checkConnections counts how often each host's sshd has let the coordinator in,
// and looks whether there is one connection now.
func (w *world) checkConnections(f *finding) {
	for _, h := range w.hosts {
		if h.sshd == nil {
			continue
		}
		f.connections = max(f.connections, h.accepted()-h.before)
		var now []int
		if !within(func() error {
			if now = h.sessions(); len(now) != 1 {
				return errors.New("not one")
			}
			return nil
		}) {
			f.breach(rests, "host %s serves %d connections", h.Host, len(now))
		}
	}
}

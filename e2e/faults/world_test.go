package faults_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
	"github.com/borgfleet/borgfleet/shared/job"
)

// world is one fleet under test and the log of what was asked of it.
type world struct {
	t       testing.TB
	lab     *lab.Lab
	c       *harness.Coordinator
	points  *lab.Points     // of the coordinator
	bus     *externalBus    // nil: the coordinator's own
	server  *harness.SSHD   // of the repositories
	hosts   []*host         // the first is the one that cases break
	repos   []*repository   // likewise
	asked   []job.ID        // all that was submitted
	rest    map[string]rest // what programs hold when nothing is to be done
	store   *lab.Machine    // where the server is, if it has a machine of its own
	shelf   shelf           // what the repositories hold from the beginning; empty: nothing
	overSSH *lab.Machine    // of the host without an agent, if it has been made already
	local   *host           // the coordinator's own machine, which cares for the depot; nil: there is none
	ahead   time.Duration   // of all clocks
	plans   map[string]int  // how many runs each is to have in the end
	told    *sink           // whom the coordinator notifies; nil: nobody
}

// host is a machine with an agent, or with an sshd in its place. The latter has
// of the agent's fields only its name, and as data the directory that the
// coordinator uses there.
type host struct {
	*harness.Agent
	sshd      *harness.SSHD // nil: it has an agent
	before    int           // connections that adding it has taken
	journal   string        // the coordinator's, for a host without an agent
	machine   *lab.Machine
	points    *lab.Points // of agent and supervisors, or of the coordinator, if that has the host's journal
	starts    string      // file in which every start of a borg by the agent is noted
	hooks     string      // directory of its hooks; empty: there are none
	hookNotes string      // where those write down what they do
	restore   string      // the directory in which it may mount
	orphans   int         // job directories that a lost journal has left, for people to look at
	t         testing.TB
}

// repository is a borg repository on the server.
type repository struct {
	name, location, passphrase string
	dir                        string   // where its files are
	shelved                    []string // archives that it holds from the beginning
}

// options are what cases choose about their world.
type options struct {
	hosts       int           // default 1
	external    bool          // the bus is a NATS server of its own
	data        *lab.Disk     // the coordinator's; nil: the test's directory
	agentData   *lab.Disk     // of the first agent
	storeDisk   *lab.Disk     // of the repositories
	busDisk     *lab.Disk     // of an external bus
	storeApart  bool          // the server of the repositories is on a machine of its own
	local       bool          // the repository is a directory of the host
	delay       time.Duration // of the agents' links
	agentConfig string        // further lines of agent.yaml
	lab         *lab.Lab      // made by the case, for its disks
	config      string        // coordinator.yaml
	shelf       bool          // the first repository holds archives
	way         way           // from the first host to the repository, if it has no agent
	hooks       bool          // hosts have hooks
}

// made is an empty repository that is copied for each case: to make one takes
// a second. TestMain removes it.
var made struct {
	sync.Mutex
	dir   string
	shelf shelf
}

// template returns the directory of the repository to copy.
func template(t testing.TB) string {
	t.Helper()
	made.Lock()
	defer made.Unlock()
	if made.dir == "" {
		dir, err := os.MkdirTemp("", "borgfleet-template-")
		if err != nil {
			t.Fatal(err)
		}
		made.dir = dir
		initRepository(t, filepath.Join(dir, "repository"))
	}
	return filepath.Join(made.dir, "repository")
}

func initRepository(t testing.TB, dir string) {
	t.Helper()
	env := []string{"BORG_PASSPHRASE=" + passphrase, "BORG_BASE_DIR=" + t.TempDir()}
	if r := harness.Run(t, env, "borg", "init", "--encryption", "repokey-blake2", dir); r.Code != 0 {
		t.Fatalf("borg init: %s", r.Stderr)
	}
}

const passphrase = "only a test's passphrase"

// newWorld starts a fleet with one repository.
func newWorld(t testing.TB, o options) *world {
	t.Helper()
	w := &world{t: t, lab: o.lab, rest: map[string]rest{}, plans: map[string]int{}}
	if w.lab == nil {
		w.lab = lab.New(t)
	}
	w.points = w.lab.Points("coordinator")
	w.startServer(o)
	w.startCoordinator(o)
	for i := range max(1, o.hosts) {
		w.addHost(fmt.Sprintf("web%d", i+1), o)
	}
	w.addRepository("main", o)
	if o.shelf {
		w.stock()
	}
	w.noteRest()
	return w
}

// startServer starts the SSH server of the repositories.
func (w *world) startServer(o options) {
	if o.local || o.way == near || o.way == far {
		return
	}
	server := harness.SSHDOptions{Listen: w.lab.Hub()}
	if o.way == direct { // on the host itself: what breaks its link breaks nothing else
		w.overSSH = w.lab.Machine("web1")
		server = harness.SSHDOptions{Listen: w.overSSH.Address, Prefix: w.overSSH.Prefix()}
	}
	if o.storeApart {
		w.store = w.lab.Machine("store")
		server = harness.SSHDOptions{Listen: w.store.Address, Prefix: w.store.Prefix()}
	}
	w.server = harness.StartSSHDWith(w.t, server)
}

func (w *world) startCoordinator(o options) {
	w.t.Helper()
	start := harness.CoordinatorOptions{
		BusListen: w.lab.Hub() + ":0", Flags: []string{"--tls-names", w.lab.Hub()}, Env: w.points.Env(), Config: o.config,
	}
	if o.way == near || o.way == far {
		w.keepDepot(&start)
	}
	if o.data != nil {
		start.Data = filepath.Join(o.data.Path, "coordinator")
	}
	if o.external {
		dir := ""
		if o.busDisk != nil {
			dir = o.busDisk.Path
		}
		w.bus = startBus(w, &start, dir)
	}
	w.c = harness.StartCoordinatorWith(w.t, start)
	if w.local != nil {
		w.local.Data, w.local.journal = w.c.Data, filepath.Join(w.c.Data, "hosts", localHost, "journal.db")
	}
}

// borgScript notes for which attempt it was started, by the file that its
// standard error goes to, and becomes borg. One that is to restore waits as long
// as a test holds it.
const borgScript = `#!/bin/sh
%[1]s
printf '%%s %%s\n' "$(readlink /proc/$$/fd/2)" "$*" >> %[2]s
case $* in *" extract "*) while [ -e %[2]s.hold ]; do sleep 0.1; done ;; esac
exec borg "$@"
`

func (w *world) addHost(name string, o options) *host {
	w.t.Helper()
	h := &host{points: w.lab.Points(name), restore: w.t.TempDir(), t: w.t}
	w.t.Cleanup(func() { // after the host's processes were ended
		for _, point := range h.mounts() {
			_ = syscall.Unmount(point, syscall.MNT_DETACH)
		}
	})
	if o.hooks {
		h.putHooks()
	}
	if o.way != "" && len(w.hosts) == 0 {
		return w.addSSHHost(h, name, o)
	}
	h.machine = w.lab.Machine(name)
	program := h.noting("")
	config := fmt.Sprintf("borg: {binary: %q, nice: 0, ionice: \"\"", program)
	if w.server != nil {
		config += fmt.Sprintf(", rsh: %q", w.server.RSH()+" -o ServerAliveInterval=5 -o ServerAliveCountMax=3")
	}
	config += fmt.Sprintf("}\npolicy: {restore: [%q], hooks: %q}\n", h.restore, cmp.Or(h.hooks, "/etc/borgfleet/hooks.d")) + o.agentConfig
	address := strings.TrimPrefix(w.c.Bus, "tls://")
	reached := h.machine.Link.Reach(address)
	if o.delay > 0 {
		reached = h.machine.Link.Relay(address)
		h.machine.Link.Delay(o.delay)
	}
	agent := harness.AgentOptions{
		Config: config, Env: h.points.Env(), Prefix: h.machine.Prefix(), BusURLs: []string{"tls://" + reached},
	}
	if o.agentData != nil && len(w.hosts) == 0 {
		agent.Data = filepath.Join(o.agentData.Path, "agent")
	}
	h.Agent = w.c.AddAgent(name, agent)
	w.hosts = append(w.hosts, h)
	return h
}

// noting makes a program that writes down when it is started, and becomes borg.
// Settings are lines of the shell before.
func (h *host) noting(settings string) string {
	dir := h.t.TempDir()
	h.starts = filepath.Join(dir, "starts")
	program := filepath.Join(dir, "borg")
	if err := os.WriteFile(program, fmt.Appendf(nil, borgScript, settings, h.starts), 0o755); err != nil {
		h.t.Fatal(err)
	}
	return program
}

// addRepository makes a repository known.
func (w *world) addRepository(name string, o options) *repository {
	w.t.Helper()
	if len(w.repos) == 0 && w.local != nil {
		return w.addToDepot(name, o)
	}
	parent := w.t.TempDir()
	if o.storeDisk != nil {
		parent = o.storeDisk.Path
	}
	r := &repository{name: name, passphrase: passphrase, dir: filepath.Join(parent, name)}
	from := template(w.t)
	if o.shelf {
		w.shelf = fullShelf(w.t)
		from, r.shelved = w.shelf.repository, w.shelf.archives
	}
	if len(w.repos) > 0 {
		initRepository(w.t, r.dir) // borg does not take two copies of one for different ones
	} else if err := os.CopyFS(r.dir, os.DirFS(from)); err != nil {
		w.t.Fatal(err)
	}
	r.location = r.dir
	if w.server != nil {
		r.location = w.server.URL(r.dir)
	}
	w.know(r)
	return r
}

// know makes a repository known to the coordinator.
func (w *world) know(r *repository, flags ...string) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(r.passphrase), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.c.MustCLI(append([]string{"repo", "add", r.name, "--location", r.location, "--passphrase-file", file}, flags...)...)
	w.repos = append(w.repos, r)
}

// ask submits a job for the first host and repository. The coordinator may be
// held or dead: then the request is given up, and its job found by its key.
func (w *world) ask(kind job.Kind, spec any) job.ID {
	w.t.Helper()
	return w.askOf(w.hosts[0], w.repos[0], kind, spec)
}

func (w *world) askOf(h *host, r *repository, kind job.Kind, spec any) job.ID {
	w.t.Helper()
	j := w.c.Submit(w.request(h, r, kind, spec))
	w.asked = append(w.asked, j.ID)
	return j.ID
}

func (w *world) request(h *host, r *repository, kind job.Kind, spec any) string {
	w.t.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	request, err := json.Marshal(job.Request{Host: h.Host, Kind: kind, Repository: r.name, Spec: raw})
	if err != nil {
		w.t.Fatal(err)
	}
	return string(request)
}

// slowBackup asks for a backup that takes about the given number of seconds
// over SSH, with little work for the processor: the link to the repository has
// a rate.
func (w *world) slowBackup(seconds int) job.ID {
	w.t.Helper()
	const rate = 128 // KiB/s
	dir := w.t.TempDir()
	harness.MakeTree(w.t, dir, 2*seconds, rate<<10/2)
	return w.ask(job.Backup, job.BackupSpec{Paths: []string{dir}, UploadLimit: rate, Compression: "none"})
}

// quick asks for a backup of a few small files.
func (w *world) quick() job.ID {
	w.t.Helper()
	dir := w.t.TempDir()
	harness.MakeTree(w.t, dir, 4, 4<<10)
	return w.ask(job.Backup, job.BackupSpec{Paths: []string{dir}})
}

package sshhost_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// usual are the directories in which an agent is installed.
var usual = []string{"/usr/local/bin", "/etc/borgfleet", "/var/lib/borgfleet-agent"}

var installing sync.Mutex // held by the test whose agent lies in them

// installable gives the test empty directories for an agent, which nobody else
// sees, and an agent for the coordinator to install. It is held until the test
// ends.
func (w *world) installable() {
	w.t.Helper()
	if !w.lab.Isolated() || os.Getuid() != 0 {
		w.t.Skip("it takes root, and mounts of one's own") // machines without namespaces
	}
	installing.Lock()
	w.t.Cleanup(installing.Unlock)
	for _, dir := range usual {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	w.t.Cleanup(func() { harness.KillAll(w.t, usual[0]+"/borgfleet-agent") }) // it has detached itself
}

// shown is a host as the API shows it.
type shown struct {
	Mode   string
	Online bool
	Labels map[string]string
	SSH    *struct{ Address string }
	Facts  *struct {
		AgentVersion string `json:"agent_version"`
	}
}

func (w *world) shown(name string) shown {
	w.t.Helper()
	var view shown
	if err := w.c.Get("/api/v1/hosts/"+name, &view); err != nil {
		w.t.Fatal(err)
	}
	return view
}

// wantSSH expects that a host is reached over SSH as before, and does its jobs.
func (w *world) wantSSH(h *host) {
	w.t.Helper()
	w.c.AwaitOnline(h.name)
	if view := w.shown(h.name); view.Mode != "ssh" || view.SSH == nil {
		w.t.Fatalf("the host is %+v", view)
	}
	w.run(h.name, job.Backup, "main", map[string]any{"paths": []string{h.files}})
	w.clean(h, w.depotDir("main"))
	if pids := harness.PIDs(usual[0] + "/borgfleet-agent"); len(pids) > 0 {
		w.t.Errorf("an agent runs there: %v", pids)
	}
}

// hostWithHistory is a host over SSH that has made an archive in the depot.
func (w *world) hostWithHistory() (*host, job.Job) {
	w.t.Helper()
	h := w.host("web1", "--label", "site=fra", "--slots", "2")
	w.repository("main", "depot", "--append-only", "--host", "web1")
	harness.MakeTree(w.t, h.files, 24, 1<<20)
	return h, w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded)
}

// TestConvert gives a host over SSH an agent, which goes on where it was.
func TestConvert(t *testing.T) {
	w := newWorld(t)
	w.installable()
	h, before := w.hostWithHistory()
	said := w.c.MustCLI("host", "convert", "web1", "--yes")
	t.Log(said)
	view := w.shown("web1")
	if view.Mode != "agent" || view.SSH != nil || !view.Online || view.Facts == nil || view.Facts.AgentVersion == "" || view.Labels["site"] != "fra" {
		t.Errorf("the host is %+v", view)
	}
	w.wantForgotten(h)

	if j := w.c.Job(before.ID); j.State != job.Succeeded || j.Result.Archive != before.Result.Archive {
		t.Errorf("the job before is %+v", j)
	}
	added := filepath.Join(h.files, "d000", "new")
	if err := os.WriteFile(added, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	after := w.c.Await(w.backup(h, "main", map[string]any{"list_files": true}).ID, job.Succeeded)
	if after.Result.DeduplicatedSize > 1<<20 || after.Result.OriginalSize < 24<<20 {
		t.Errorf("the next backup added %d of %d bytes", after.Result.DeduplicatedSize, after.Result.OriginalSize)
	}
	log := w.c.MustCLI("job", "log", string(after.ID))
	if !strings.Contains(log, added) || strings.Contains(log, "f00000.bin") {
		t.Errorf("borg does not know the files from before:\n%s", log)
	}
	w.wantArchive(after, w.depotDir("main"))
	if found := w.archives("main"); !slices.Equal(found, []string{before.Result.Archive, after.Result.Archive}) {
		t.Errorf("the archives are %v", found)
	}
	target := filepath.Join(t.TempDir(), "back")
	if r := w.c.CLI("archive", "restore", "main", before.Result.Archive, "--host", "web1", "--target", target); r.Code != 4 || !strings.Contains(r.Stderr+r.Stdout, "refused_by_host") {
		t.Errorf("its owner has a word in it now; restore: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := w.c.CLI("host", "convert", "web1", "--yes"); r.Code == 0 || !strings.Contains(r.Stderr, "agent already") {
		t.Errorf("once more: %d\n%s", r.Code, r.Stderr)
	}
}

// wantForgotten expects that nothing is left of the way over SSH.
func (w *world) wantForgotten(h *host) {
	w.t.Helper()
	harness.Eventually(w.t, "the connection to be closed", func() error {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", h.sshd.PID())) // of its machine
		if open := fmt.Sprintf(`:%04X [0-9A-F]+:[0-9A-F]+ 01 `, h.sshd.Port); err != nil || regexp.MustCompile(open).Match(table) {
			return fmt.Errorf("there is one: %s (%v)", table, err)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(w.c.Data, "hosts", h.name)); !os.IsNotExist(err) {
		w.t.Errorf("its journal is still in the coordinator: %v", err)
	}
	if r := w.c.CLI("host", "set", h.name, "--slots", "3"); r.Code == 0 {
		w.t.Error("how it is reached can still be changed")
	}
	if out := w.c.MustCLI("host", "show", h.name); strings.Contains(out, h.address()) {
		w.t.Errorf("host show says how it was reached:\n%s", out)
	}
}

// archives are the names that the coordinator knows, oldest first.
func (w *world) archives(repository string) (names []string) {
	w.t.Helper()
	var list struct{ Archives []struct{ Name string } }
	if err := json.Unmarshal([]byte(w.c.MustCLI("archive", "list", repository, "--json")), &list); err != nil {
		w.t.Fatal(err)
	}
	for _, one := range list.Archives {
		names = append(names, one.Name)
	}
	slices.Sort(names)
	return names
}

// TestConvertRefusedWhileJobsAreOpen has a host that has work to do.
func TestConvertRefusedWhileJobsAreOpen(t *testing.T) {
	w := newWorld(t)
	w.installable()
	h, _ := w.hostWithHistory()
	if err := os.RemoveAll(h.files); err != nil {
		t.Fatal(err)
	}
	harness.MakeTree(t, h.files, 40, 1<<20)
	running := w.backup(h, "main", slowly())
	w.running(running.ID)
	r := w.c.CLI("host", "convert", "web1", "--yes")
	if r.Code == 0 || !strings.Contains(r.Stderr, string(running.ID)) {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if _, err := os.Stat(usual[0] + "/borgfleet-agent"); !os.IsNotExist(err) {
		t.Errorf("something was installed: %v", err)
	}
	if j := w.c.Await(running.ID, job.Succeeded); j.Attempt != 1 {
		t.Errorf("it took %d attempts", j.Attempt)
	}
	w.wantSSH(h)
}

// TestConvertWithoutABus has a host that cannot reach the bus: it is known only
// when the agent tries.
func TestConvertWithoutABus(t *testing.T) {
	w := newWorldWith(t, fmt.Sprintf("bus: {url: %q}\n", "tls://"+net.JoinHostPort("127.0.0.1", fmt.Sprint(harness.FreePort(t)))))
	w.installable()
	h, _ := w.hostWithHistory()
	r := w.c.CLI("host", "convert", "web1", "--yes")
	t.Logf("%s%s", r.Stdout, r.Stderr)
	if r.Code == 0 || !strings.Contains(r.Stderr, "127.0.0.1") || !strings.Contains(r.Stdout, "stay installed") {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	w.wantSSH(h)
}

// TestConvertCutInTheMiddle loses the connection when the agent has just been
// enrolled, so that nobody can stop it.
func TestConvertCutInTheMiddle(t *testing.T) {
	w := newWorld(t)
	w.installable()
	h, _ := w.hostWithHistory()
	ended := make(chan harness.Result, 1)
	go func() { ended <- w.c.CLI("host", "convert", "web1", "--yes") }()
	harness.Eventually(t, "the agent to run", func() error {
		if len(harness.PIDs(usual[0]+"/borgfleet-agent run")) == 0 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	h.machine.Link.Cut()
	r := <-ended
	t.Logf("%s%s", r.Stdout, r.Stderr)
	h.machine.Link.Heal()
	if r.Code == 0 { // the agent was quicker than the cut
		w.run("web1", job.Backup, "main", map[string]any{"paths": []string{h.files}})
		return
	}
	w.c.AwaitOnline("web1")
	if view := w.shown("web1"); view.Mode != "ssh" {
		t.Fatalf("the host is %+v", view)
	}
	j := w.run("web1", job.Backup, "main", map[string]any{"paths": []string{h.files}})
	if j.Attempt != 1 {
		t.Errorf("it took %d attempts", j.Attempt)
	}
	waitWhile(t, 3*time.Second, func() error { // the agent says hello meanwhile
		if view := w.shown("web1"); view.Mode != "ssh" || !view.Online {
			return fmt.Errorf("the host is %+v", view)
		}
		return nil
	})
	harness.KillAll(t, usual[0]+"/borgfleet-agent")
	w.c.MustCLI("host", "convert", "web1", "--yes")
}

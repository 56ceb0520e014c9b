package sshhost_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestOneConnectionPerHost submits many jobs for several hosts at once.
func TestOneConnectionPerHost(t *testing.T) {
	const hosts, jobs = 4, 6
	w := newWorld(t)
	var all []*host
	var ids []job.ID
	for i := range hosts {
		name := fmt.Sprintf("web%d", i)
		all = append(all, w.host(name, "--slots", "3"))
		w.repository(name, filepath.Join(t.TempDir(), "r"))
		w.run(name, job.Init, name, map[string]any{})
	}
	for range jobs {
		for i := range hosts {
			name := fmt.Sprintf("web%d", i)
			ids = append(ids, w.submit(name, job.List, name, map[string]any{}).ID)
		}
	}
	for _, id := range ids {
		w.c.Await(id, job.Succeeded)
	}
	for _, h := range all {
		if n := len(h.accepted()); n != 1 {
			t.Errorf("%s has had %d connections", h.name, n)
		}
		w.clean(h)
	}
}

// TestCancelOverSSH ends a backup in its middle: borg is gone when the job says so,
// and the repository is free.
func TestCancelOverSSH(t *testing.T) {
	w, h, dir := worldWithServer(t)
	harness.MakeTree(t, h.files, 40, 4<<20)
	submitted := w.backup(h, "a", slowly())
	w.running(submitted.ID)
	w.c.MustCLI("job", "cancel", string(submitted.ID))
	w.c.Await(submitted.ID, job.Cancelled)
	if left := h.borgs(); len(left) > 0 {
		t.Errorf("borg is still there: %v", left)
	}
	w.clean(h, dir)
	w.run("web1", job.List, "a", map[string]any{})
}

// TestBrowseAndDownloadOverSSH streams what borg prints through the connection.
func TestBrowseAndDownloadOverSSH(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1", "--reach", "tunnel")
	w.repository("main", "depot", "--host", "web1")
	harness.MakeTree(t, h.files, 8, 1<<18)
	archive := w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded).Result.Archive
	listing := w.run("web1", job.List, "main", map[string]any{"archive": archive})
	out := w.c.MustCLI("archive", "files", "main", archive, h.files+"/d000")
	if !strings.Contains(out, "f00000.bin") {
		t.Errorf("files of %s (%s):\n%s", archive, listing.ID, out)
	}
	target := filepath.Join(t.TempDir(), "file")
	w.c.MustCLI("archive", "download", "main", archive, strings.TrimPrefix(h.files, "/")+"/d000/f00000.bin", "--host", "web1", "--output", target)
	if r := harness.Run(t, nil, "cmp", target, filepath.Join(h.files, "d000", "f00000.bin")); r.Code != 0 {
		t.Errorf("another file came: %s", r.Stdout+r.Stderr)
	}
	w.clean(h, w.depotDir("main"))
}

// TestRepositoryOfTwoSorts has an agent and a host without one back up to one
// repository in the depot, which the coordinator itself takes care of.
func TestRepositoryOfTwoSorts(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1")
	machine := w.lab.Machine("web2")
	w.c.AddAgent("web2", harness.AgentOptions{Prefix: machine.Prefix()})
	w.repository("main", "depot", "--append-only", "--host", "web1", "--host", "web2")
	harness.MakeTree(t, h.files, 2, 1<<10)
	spec := map[string]any{"paths": []string{h.files}}
	for range 2 {
		w.run("web1", job.Backup, "main", spec)
		w.run("web2", job.Backup, "main", spec)
	}
	for _, host := range []string{"web1", "web2"} {
		pruned := w.run(host, job.Prune, "main", map[string]any{"keep_last": 1, "confirmed": true})
		if pruned.Host != "coordinator" || pruned.For != host || len(pruned.Result.Pruned) != 1 {
			t.Errorf("prune for %s ran on %s for %q and took %v", host, pruned.Host, pruned.For, pruned.Result.Pruned)
		}
	}
	for _, kind := range []job.Kind{job.Compact, job.Check, job.Info, job.List} {
		if done := w.run("web2", kind, "main", map[string]any{}); done.Host != "coordinator" {
			t.Errorf("%s ran on %s", kind, done.Host)
		}
	}
	if archives := harness.Archives(t, w.depotDir("main"), passphrase); len(archives) != 2 {
		t.Errorf("there are %v", archives)
	}
	if shown := w.c.MustCLI("repo", "show", "main"); !strings.Contains(shown, "append") || strings.Contains(shown, "frozen since") {
		t.Errorf("repo show says:\n%s", shown)
	}
}

package sshhost_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestJournalLost takes away, in the middle of a backup, all that the coordinator
// has written down of hosts without an agent, as a copy of its state does that is
// put back elsewhere. Nothing is done twice at a time, and nothing runs on.
func TestJournalLost(t *testing.T) {
	w := newWorld(t)
	h := w.host("web1")
	w.repository("main", "depot", "--host", "web1")
	harness.MakeTree(t, h.files, 24, 1<<20)
	submitted := w.backup(h, "main", slowly())
	w.running(submitted.ID)
	w.c.Kill()
	if err := os.RemoveAll(filepath.Join(w.c.Data, "hosts")); err != nil {
		t.Fatal(err)
	}
	w.c.Restart()
	end := w.c.Await(submitted.ID, job.Succeeded, job.Warning)
	w.wantArchive(end, w.depotDir("main"))
	if archives := harness.Archives(t, w.depotDir("main"), passphrase); len(archives) != 1 {
		t.Errorf("there are %v", archives)
	}
	if left := h.borgs(); len(left) > 0 { // what they have written stays there for a week
		t.Errorf("there is %v", left)
	}
	w.c.Await(w.backup(h, "main", nil).ID, job.Succeeded)
}

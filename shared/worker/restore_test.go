package worker_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// restoreFixture lets files be restored below a directory, in which there is a
// link that leads to another one in it.
func restoreFixture(t *testing.T) (f *fixture, root string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "allowed/real"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(root, "allowed/link")); err != nil {
		t.Fatal(err)
	}
	f = newFixture(t)
	f.rules.Restore = []string{filepath.Join(root, "allowed")}
	return f.start(), root
}

func (f *fixture) restore(target string) bus.Order {
	f.t.Helper()
	spec, err := json.Marshal(job.RestoreSpec{Archive: "web1-now", Target: target})
	if err != nil {
		f.t.Fatal(err)
	}
	order := f.order()
	order.Kind, order.Spec, order.Archive = job.Restore, spec, ""
	return order
}

// The engine follows no link, so it is given where they lead.
func TestRestoreGoesWhereLinksLead(t *testing.T) {
	f, root := restoreFixture(t)
	order := f.restore(root + "/allowed/link/new")
	if reply := f.send(order); !reply.Accepted {
		t.Fatalf("answer %+v", reply)
	}
	f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "succeeded")
	want := job.RestoreSpec{Archive: "web1-now", Target: root + "/allowed/real/new"}
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	if diff := cmp.Diff(job.Spec(want), f.engine.tasks[0].Task.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

// An order may wait for its slot for long, and the tree change meanwhile.
func TestRestoreIsRefusedWhenALinkHasChanged(t *testing.T) {
	f, root := restoreFixture(t)
	before := f.order()
	f.send(before) // takes the slot
	patience.Until(t, "it runs", func() bool { return len(f.engine.ids()) == 1 })
	order := f.restore(root + "/allowed/link/new")
	if reply := f.send(order); !reply.Accepted {
		t.Fatalf("answer %+v", reply)
	}
	link := filepath.Join(root, "allowed/link")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	f.engine.finish(t, attempt.KeyOf(before), job.Succeeded)
	f.awaitEnd(attempt.KeyOf(order), "accepted", "failed")
	events, err := f.journal.Events(attempt.KeyOf(order), 0, 10)
	if err != nil || events[1].Failure == nil || events[1].Failure.Code != job.RefusedByHost {
		t.Errorf("events %+v, %v", events, err)
	}
}

package worker_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/job"
)

// A directory that somebody has named is where its links lead; one of our own is
// for the host to know.
func TestRestoreTestGoesWhereLinksLead(t *testing.T) {
	f, root := restoreFixture(t)
	for target, want := range map[string]string{root + "/allowed/link/new": root + "/allowed/real/new", "": ""} {
		order := f.restore("/x")
		spec, err := json.Marshal(job.RestoreTestSpec{Archive: "web1-now", Target: target})
		if err != nil {
			t.Fatal(err)
		}
		order.Kind, order.Spec = job.TestRestore, spec
		if reply := f.send(order); !reply.Accepted {
			t.Fatalf("answer %+v", reply)
		}
		f.engine.finish(t, attempt.KeyOf(order), job.Succeeded)
		f.awaitEnd(attempt.KeyOf(order), "accepted", "started", "succeeded")
		f.engine.mu.Lock()
		got := f.engine.tasks[len(f.engine.tasks)-1].Task.Spec
		f.engine.mu.Unlock()
		if diff := cmp.Diff(job.Spec(job.RestoreTestSpec{Archive: "web1-now", Target: want}), got); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
	}
}

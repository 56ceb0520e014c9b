package policy_test

import (
	"encoding/json"
	"testing"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func restoreTest(t *testing.T, spec job.RestoreTestSpec) bus.Order {
	t.Helper()
	order := restore(t, "/x")
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	order.Kind, order.Spec = job.TestRestore, text
	return order
}

// A restore test may write where a restore may, and into a directory of our own.
func TestRestoreTestTargets(t *testing.T) {
	root := tree(t)
	rules := everything()
	rules.Restore = []string{root + "/data"}
	for target, allowed := range map[string]bool{"": true, root + "/data/test": true, root + "/private": false, root + "/alias/out/x": false} {
		if failure := rules.Check(restoreTest(t, job.RestoreTestSpec{Archive: "a", Target: target})); (failure == nil) != allowed {
			t.Errorf("%q: %v", target, failure)
		}
	}
	rules.Kinds = []job.Kind{job.Restore}
	checkRefusal(t, rules.Check(restoreTest(t, job.RestoreTestSpec{Archive: "a"})), "this host does not run jobs of kind restore-test", "kinds")
}

// A canary is no data of the host's, wherever it lies.
func TestCanaryNeedsNoLeave(t *testing.T) {
	rules := everything()
	rules.Read = []string{"/srv"}
	order := restore(t, "/x")
	text, err := json.Marshal(job.BackupSpec{Paths: []string{"/srv/data"}, Canary: &job.Canary{Name: "daily", Content: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	order.Kind, order.Spec = job.Backup, text
	if failure := rules.Check(order); failure != nil {
		t.Error(failure)
	}
}

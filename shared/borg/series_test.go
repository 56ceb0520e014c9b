package borg_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

// TestPruneKeepsToItsSeries prunes with a real borg, in a repository with series
// whose names begin alike.
func TestPruneKeepsToItsSeries(t *testing.T) {
	l := newLab(t)
	unlocked := func(spec job.Spec, archive string) *job.Result {
		task := baseTask(l.root, spec)
		task.Repository.Encryption, task.Encrypted, task.Archive = job.Unencrypted, false, archive
		return l.must(task).Result
	}
	unlocked(job.InitSpec{}, "")
	const first, second = "2026-11-21T02:00:00", "2026-11-22T02:00:00"
	series := []string{"web-", "web-db-", "w*-", "web{x}-"}
	for _, name := range series {
		for _, at := range []string{first, second, second + "-2"} {
			stamped := name
			if name == "web{x}-" {
				stamped = "web{{x}}-" // as borg takes the template of a name
			}
			unlocked(job.BackupSpec{Paths: []string{l.root + "/data/etc"}}, stamped+at)
		}
	}
	unlocked(job.BackupSpec{Paths: []string{l.root + "/data/etc"}}, "web-by-hand")
	for _, name := range series {
		pruned := unlocked(job.PruneSpec{Series: name, KeepLast: 1}, "")
		if diff := cmp.Diff([]string{name + second + "-2"}, pruned.Kept); diff != "" {
			t.Errorf("%s keeps (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{name + second, name + first}, pruned.Pruned); diff != "" {
			t.Errorf("%s prunes (-want +got):\n%s", name, diff)
		}
	}
	if left := len(unlocked(job.ListSpec{}, "").Archives); left != len(series)+1 {
		t.Errorf("%d archives are left", left)
	}
}

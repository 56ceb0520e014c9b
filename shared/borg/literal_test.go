package borg_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Names and prefixes with every character that means something to borg are
// data to it: real archives of such names are listed, shown and pruned by
// their exact prefix, and nothing else is.
func TestOddNamesAreLiteral(t *testing.T) {
	l := newLab(t)
	init := baseTask(l.root, job.InitSpec{Encryption: job.Unencrypted})
	init.Repository.Encryption, init.Encrypted = job.Unencrypted, false
	l.must(init)
	task := func(spec job.Spec) (made job.Outcome) {
		t.Helper()
		task := init
		task.Kind, task.Spec = spec.Kind(), spec
		return l.must(task)
	}
	backup := init
	backup.Kind, backup.Spec = job.Backup, job.BackupSpec{Paths: []string{l.root + "/data/etc"}, Comment: "{now}, 100 %"}
	for _, name := range []string{"db[1]-x", "db1-x", "db*-x", "dbfoo-x", "db?-x", "db{{a}}-x", "db]-x", `db\-x`} {
		backup.Archive = name
		l.must(backup)
	}
	for prefix, want := range map[string][]string{
		"db[1]-": {"db[1]-x"}, "db*-": {"db*-x"}, "db?-": {"db?-x"}, "db{a}": {"db{a}-x"}, "db]": {"db]-x"}, `db\`: {`db\-x`}, "db1": {"db1-x"}, "[": nil,
	} {
		var names []string
		for _, archive := range task(job.ListSpec{Prefix: prefix}).Result.Archives {
			names = append(names, archive.Name)
			if archive.Comment != "{now}, 100 %" || archive.Hostname == "" || archive.Start.IsZero() {
				t.Errorf("archive %+v", archive)
			}
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("prefix %q (-want +got):\n%s", prefix, diff)
		}
	}
	if result := task(job.InfoSpec{Archive: "db{a}-x"}).Result; result.Archive != "db{a}-x" || result.NFiles != 2 {
		t.Errorf("info told %+v", result)
	}
	pruned := task(job.PruneSpec{Prefix: "db*-", KeepLast: 1, DryRun: true}).Result
	if diff := cmp.Diff([]string{"db*-x"}, pruned.Kept); diff != "" || len(pruned.Pruned) != 0 {
		t.Errorf("prune: %+v\n%s", pruned, diff)
	}
}

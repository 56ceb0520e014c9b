package cli_test

import (
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// What each kind brings is told in its own way, and what came from elsewhere
// cannot move the cursor.
func TestOutcomes(t *testing.T) {
	failing := func(code job.Code, spec job.Spec, r job.Result) job.Job {
		j := finished(job.Failed, spec, r)
		j.Failure = job.Fail(code, "it is so").WithHint("do this")
		return j
	}
	alone := func(j job.Job) job.Job {
		j.Repository = ""
		return j
	}
	diff := &job.Difference{
		Added: 1, Removed: 1, Modified: 1, Metadata: 1200, AddedBytes: 12_000_000, RemovedBytes: 4_000, Omitted: 7,
		Changes: []job.Change{
			{Path: "etc/new\x1b[2J", Kind: "added", Type: "file", Added: 12_000_000}, {Path: "srv", Kind: "removed", Type: "directory"},
			{Path: "etc/a", Kind: "metadata", Detail: "mode a to b"},
		},
	}
	for name, test := range map[string]struct {
		job  job.Job
		code int
		says []string
	}{
		"diff": {finished(job.Succeeded, job.DiffSpec{Archive: "a", Other: "b"}, job.Result{Diff: diff}), 0, []string{
			"1 added, 1 removed, 1 modified, 1,200 with other metadata only; +12.0 MB, -4.0 kB", "added     +12.0 MB  –        etc/new?[2J\n", "srv/\n", "etc/a  (mode a to b)\n", "and 7 changes more",
		}},
		"no difference": {finished(job.Succeeded, job.DiffSpec{}, job.Result{Diff: &job.Difference{}}), 0, []string{"diff of main on web1: succeeded in 1 s\n  no difference\n"}},
		"prune": {finished(job.Succeeded, job.PruneSpec{KeepLast: 1}, job.Result{Kept: []string{"c"}, Pruned: []string{"a", "b"}, PrunedOmitted: 3}), 0, []string{
			"kept 1 archive, deleted 5 archives\n    deleted a\n    deleted b\n  and 3 archives more\n", "free after: borgfleet repo compact main --host web1\n",
		}},
		"preview": {finished(job.Succeeded, job.PruneSpec{KeepLast: 1, DryRun: true}, job.Result{Kept: []string{"c", "d"}, KeptBy: map[string]string{"c": "daily #1"}, Pruned: []string{"a"}}), 0, []string{
			"would keep 2 archives, would delete 1 archive\nARCHIVE  KEPT BY\nc        daily #1\nd        –\na        would be deleted\n",
		}},
		"too many would go": {failing(job.NeedsConfirmation, job.PruneSpec{KeepLast: 1, KeepWithin: "2d", Prefix: "it's-", MaxPercent: 20}, job.Result{}), 4, []string{
			"needs_confirmation: it is so\n  hint: do this\n", `to delete them all the same: borgfleet repo prune main --host web1 --keep-within 2d --keep-last 1 --prefix 'it'\''s-' --confirm` + "\n",
		}},
		"delete":          {finished(job.Succeeded, job.DeleteSpec{Glob: "*"}, job.Result{Deleted: []string{"a\r"}, DeletedOmitted: 2}), 0, []string{"  deleted a?\n  and 2 archives more\n  their space is free after: borgfleet repo compact main --host web1\n"}},
		"nothing deleted": {finished(job.Warning, job.DeleteSpec{Glob: "x*"}, job.Result{}), 3, []string{"no archive matches"}},
		"damaged": {failing(job.IntegrityError, job.CheckSpec{}, job.Result{Damaged: []string{"web1-1: etc/passwd"}, DamagedOmitted: 1}), 4, []string{
			"integrity_error: it is so", "hint: do this", "  damaged: web1-1: etc/passwd\n  and 1 damaged item more\n",
		}},
		"restore test": {failing(job.RestoreMismatch, job.RestoreTestSpec{Archive: "a"}, job.Result{Evidence: &job.Evidence{
			Archive: "a", Files: 20, FilesOf: 1200, Bytes: 4000, Seconds: 2, Same: 16, Different: 1, Changed: 2, Gone: 1, Canary: new(bool),
			Sample: []job.EvidenceFile{{Path: "etc/a\x1b[2J", Verdict: "different"}, {Path: "etc/b", Verdict: "same"}},
		}}), 4, []string{
			"restored 20 of 1,200 files of a, 4.0 kB in 2 s\n", "16 the same, 1 different; 2 changed since, 1 gone; the canary is wrong, or not there\n", "  different  /etc/a?[2J\n",
		}},
		"repaired":      {finished(job.Warning, job.CheckSpec{Repair: true}, job.Result{}), 3, []string{"see what is left: borgfleet repo check main --host web1\n"}},
		"restore":       {finished(job.Succeeded, job.RestoreSpec{}, job.Result{Archive: "a", Target: "/t", NFiles: 1200, OriginalSize: 4000}), 0, []string{"restored a into /t on web1: 1,200 files, 4.0 kB\n"}},
		"dry restore":   {finished(job.Succeeded, job.RestoreSpec{DryRun: true}, job.Result{Archive: "a", Target: "/t", NFiles: 1}), 0, []string{"would restore a into /t on web1: 1 file\n"}},
		"a list of one": {finished(job.Succeeded, job.ListSpec{Archive: "a"}, job.Result{Archive: "a"}), 0, []string{"to see them: borgfleet archive files main a\n"}},
		"umount":        {alone(finished(job.Succeeded, job.UmountSpec{MountPoint: "/mnt/a"}, job.Result{MountPoint: "/mnt/a"})), 0, []string{"umount of /mnt/a on web1: succeeded"}},
		"mount":         {finished(job.Succeeded, job.MountSpec{MountPoint: "/mnt/a"}, job.Result{MountPoint: "/mnt/a"}), 0, []string{"mount of main on web1: succeeded"}},
		"verify": {alone(finished(job.Warning, job.VerifySpec{}, job.Result{Checks: []job.Finding{
			{Name: "borg", Good: true, Detail: "borg 1.2.4 at /usr/bin/borg"}, {Name: "fuse", Detail: "no fusermount3", Hint: "apt install fuse3"},
		}})), 3, []string{"verify of web1: done, with warnings", "  good  borg  borg 1.2.4 at /usr/bin/borg\n  BAD   fuse  no fusermount3\n              hint: apt install fuse3\n"}},
		"verify with a repository": {failing(job.PassphraseWrong, job.VerifySpec{}, job.Result{Checks: []job.Finding{{Name: "borg", Good: true}, {Name: "repository", Detail: "it is so", Hint: "do this"}}}), 4, []string{
			"verify of web1 with main: failed", "passphrase_wrong: it is so", "  BAD   repository  it is so\n",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := ending(t, test.job)
			r := c.run(t, "", "job", "watch", string(backupID))
			if r.code != test.code {
				t.Errorf("exit code %d, want %d", r.code, test.code)
			}
			for _, want := range test.says {
				if !strings.Contains(r.out, want) {
					t.Errorf("it does not say %q:\n%s%s", want, r.out, r.err)
				}
			}
		})
	}
}

// A repair is done once the repository's name was typed.
func TestRepairAsks(t *testing.T) {
	for typed, code := range map[string]int{"main": console.ExitDone, "y": console.ExitFailed, "": console.ExitFailed} {
		c := ending(t, finished(job.Succeeded, job.CheckSpec{Repair: true}, job.Result{}))
		r := c.at(t, [][2]string{{"type the repository's name", typed}}, "repo", "check", "main", "--repair")
		if r.code != code || (code == 0) != (len(c.specs()) == 1) || !strings.Contains(r.err, "lost are replaced by zeros") {
			t.Errorf("%q: exit code %d, submitted %q:\n%s%s", typed, r.code, c.specs(), r.out, r.err)
		}
	}
}

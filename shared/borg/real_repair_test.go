package borg_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

// course is a repository on its way from damage to health, by hints alone.
type course struct {
	*lab
	was *lab // whose files are in the archive web1-b
}

// newCourse returns a copy of a lab, after some damage. The files are there as
// they were.
func newCourse(t *testing.T, made *lab, damage func(l *lab)) course {
	t.Helper()
	c := course{lab: newLabWith(t, made), was: made}
	c.remove("data")
	if err := os.CopyFS(filepath.Join(c.root, "data"), os.DirFS(filepath.Join(made.root, "data"))); err != nil {
		t.Fatal(err)
	}
	damage(c.lab)
	return c
}

// step runs a job, and expects that it ends so, with advice that has these words.
func (c course) step(t *testing.T, spec job.Spec, state job.State, hints ...string) *job.Result {
	t.Helper()
	task := baseTask(c.root, spec)
	task.Archive = "web1-after"
	end := outcomeOfRun(c.lab, task)
	said := ""
	switch {
	case end.Failure != nil:
		said = end.Failure.Hint
		checkFailure(t, end, job.IntegrityError)
	case len(end.Result.Warnings) > 0:
		said = end.Result.Warnings[0]
	}
	if end.State != state {
		t.Fatalf("%s: %s %v, %+v", task.Kind, end.State, end.Failure, end.Result)
	}
	for _, hint := range hints {
		if !strings.Contains(said, hint) {
			t.Errorf("%s does not say %q: %s", task.Kind, hint, said)
		}
	}
	return end.Result
}

func (c course) restore(archive, target string) job.RestoreSpec {
	return job.RestoreSpec{Archive: archive, Target: filepath.Join(c.root, target)}
}

// whole checks a file that was restored, from below the root of whoever made the
// archive.
func (c course) whole(t *testing.T, target, root string) {
	t.Helper()
	was, err := os.ReadFile(filepath.Join(c.was.root, "data/www/random.bin"))
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile(filepath.Join(c.root, target, root, "data/www/random.bin"))
	if err != nil || !bytes.Equal(was, is) {
		t.Errorf("the file is not what it was: %v", err)
	}
}

func (c course) backup() job.BackupSpec { return job.BackupSpec{Paths: []string{c.root + "/data"}} }

// largeLab has archives with a large file, which fills segments of its own.
func largeLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	l.edit("repo/config", "max_segment_size = 524288000", "max_segment_size = 1000000")
	l.write("data/www/random.bin", noise(5_000_000))
	withArchives(l)
	return l
}

// TestHintsMendDamage damages the data of a file, and goes from hint to hint: the
// restore that fails, the check that it asks for, the repair that this asks for,
// the backup of what still exists, and the repair that heals with it. Then all
// is as it was.
func TestHintsMendDamage(t *testing.T) {
	made := largeLab(t)
	for name, damage := range map[string]func(l *lab){
		"flipped bytes":   flipLargestSegment,
		"removed segment": func(l *lab) { l.remove(largestSegment(l)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCourse(t, made, damage)
			c.step(t, c.restore("web1-b", "first"), job.Failed, "borgfleet repo check web1-main --host web1 --verify-data")
			check := c.step(t, job.CheckSpec{VerifyData: true}, job.Failed, "borgfleet repo check web1-main --host web1 --repair", "new backups")
			if len(check.Damaged) == 0 {
				t.Errorf("the check names nothing: %+v", check)
			}
			c.step(t, job.CheckSpec{Repair: true, VerifyData: true}, job.Warning, "back up again what still exists")
			again := c.step(t, job.CheckSpec{}, job.Warning, "a backup of the same data heals them", "borgfleet repo check web1-main --host web1 --repair")
			if !strings.Contains(strings.Join(again.Damaged, "\n"), "random.bin: ") {
				t.Errorf("a later check names %q", again.Damaged)
			}
			c.step(t, c.restore("web1-b", "second"), job.Failed, "another archive")
			c.step(t, c.backup(), job.Succeeded)
			c.step(t, job.CheckSpec{Repair: true}, job.Succeeded)
			c.step(t, job.CheckSpec{VerifyData: true}, job.Succeeded)
			c.step(t, c.restore("web1-b", "third"), job.Succeeded)
			c.whole(t, "third", made.root)
		})
	}
}

// TestHintsSaveWhatIsLeft: when an archive's own description is lost, the repair
// names what it lost, and new backups are whole.
func TestHintsSaveWhatIsLeft(t *testing.T) {
	made := newLab(t)
	made.must(baseTask(made.root, job.InitSpec{}))
	withArchives(made) // so small that a file shares its segment with its archive
	c := newCourse(t, made, func(l *lab) { l.remove(largestSegment(l)) })
	c.step(t, c.restore("web1-b", "first"), job.Failed, "borgfleet repo check web1-main --host web1 --verify-data")
	c.step(t, job.CheckSpec{VerifyData: true}, job.Failed, "borgfleet repo check web1-main --host web1 --repair")
	repair := c.step(t, job.CheckSpec{Repair: true, VerifyData: true}, job.Warning, "what was lost is lost")
	if said := strings.Join(repair.Damaged, "\n"); !strings.Contains(said, "Archive metadata block") || !strings.Contains(said, "item metadata chunk missing") {
		t.Errorf("the repair names %q", repair.Damaged)
	}
	c.step(t, c.backup(), job.Succeeded)
	c.step(t, job.CheckSpec{VerifyData: true}, job.Succeeded)
	c.step(t, c.restore("web1-after", "second"), job.Succeeded)
	c.whole(t, "second", c.root)
}

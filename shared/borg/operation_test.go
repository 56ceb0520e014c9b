package borg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// A restore that keeps files changes nothing that is there, not even behind a
// link, and brings all that is not.
func TestRestoreKeepsWhatIsThere(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"data/blank ", "data/#x", "data/re:.*", "data/below/file", "data/far/file"} {
		l.write(name, []byte("archived\n"))
	}
	l.must(baseTask(l.root, job.InitSpec{}))
	withArchives(l)
	spec := restoreOf()
	spec.KeepExisting = true
	task := baseTask(l.root, resolve(spec, l.root))
	in := "restored" + l.root + "/data/"
	kept := []string{in + "blank ", in + "#x", in + "etc/motd", in + "below/mine", "elsewhere/file"}
	for _, name := range kept {
		l.write(name, []byte("mine\n"))
	}
	if err := os.Symlink(l.root+"/elsewhere", filepath.Join(l.root, in, "far")); err != nil {
		t.Fatal(err)
	}
	past := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, name := range append(kept, in+"below") {
		if err := os.Chtimes(filepath.Join(l.root, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	l.must(task)
	for _, name := range kept {
		info, err := os.Stat(filepath.Join(l.root, name))
		if err != nil || info.Size() != 5 || !info.ModTime().Equal(past) {
			t.Errorf("%s was changed: %+v, %v", name, info, err)
		}
	}
	for _, name := range []string{"re:.*", "below/file", "etc/hosts", "www/random.bin"} {
		if _, err := os.Stat(filepath.Join(l.root, in, name)); err != nil {
			t.Error(err)
		}
	}
	l.must(task) // everything is there now
	if _, err := os.Lstat(filepath.Join(l.root, in, "far")); err != nil {
		t.Error(err)
	}
}

// A host's prune leaves the archives of hosts whose names begin with its own,
// and those with names of their own.
func TestPruneLeavesOtherHosts(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	for _, name := range []string{"web1-2026-11-22T01:00:00", "web1-2026-11-22T02:00:00", "web1-db-2026-11-22T01:00:00", "web1-mine", "web10-2026-11-22T01:00:00"} {
		task := baseTask(l.root, resolve(backupOf("/data/etc"), l.root))
		task.Archive = name
		l.must(task)
	}
	got := l.must(baseTask(l.root, job.PruneSpec{KeepLast: 1, DryRun: true})).Result
	if diff := cmp.Diff([]string{"web1-2026-11-22T01:00:00"}, got.Pruned); diff != "" || len(got.Kept) != 1 {
		t.Errorf("kept %q, pruned -want +got:\n%s", got.Kept, diff)
	}
}

// Each of several names is taken literally.
func TestDeleteIsLiteral(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	for _, name := range []string{"a{{b}}", "c{{d}}", "e*", "ef"} {
		task := baseTask(l.root, resolve(backupOf("/data/etc"), l.root))
		task.Archive = name
		l.must(task)
	}
	got := l.must(baseTask(l.root, job.DeleteSpec{Archives: []string{"a{b}", "c{d}", "e*"}})).Result
	if diff := cmp.Diff([]string{"a{b}", "c{d}", "e*"}, got.Deleted); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if left := l.must(baseTask(l.root, job.ListSpec{})).Result.Archives; len(left) != 1 || left[0].Name != "ef" {
		t.Errorf("left is %+v", left)
	}
}

func TestListByTime(t *testing.T) {
	const stdout = `{"archives": [{"name": "a", "start": "2026-01-01T00:00:00.000000"}, {"name": "b", "start": "2026-01-02T00:00:00.000000"},
		{"name": "c", "start": "2026-01-03T00:00:00.000000"}, {"name": "d", "start": "2026-01-04T00:00:00.000000"}]}`
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		spec job.ListSpec
		want string
	}{
		"all":       {job.ListSpec{}, "abcd"},
		"after":     {job.ListSpec{After: day(2)}, "bcd"},
		"before":    {job.ListSpec{Before: day(3)}, "ab"},
		"range":     {job.ListSpec{After: day(2), Before: day(4)}, "bc"},
		"newest":    {job.ListSpec{Before: day(4), Last: 2}, "bc"},
		"no newest": {job.ListSpec{Before: day(1), Last: 2}, ""},
	} {
		parser := borg.NewParser(baseTask(neutralRoot, test.spec))
		parser.Stdout([]byte(stdout))
		var got string
		for _, archive := range parser.Finish(borg.Exit{}).Result.Archives {
			got += archive.Name
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// Of a repository with many archives all are counted, and the first are named.
func TestLongLists(t *testing.T) {
	const n = job.MaxArchives + 7
	row := " Sun, 2026-11-22 05:48:33 [4e89aa]"
	var prune, del strings.Builder
	for i := range n {
		prune.WriteString(logLine("INFO", "borg.output.list", "", fmt.Sprintf("Keeping archive (rule: daily #%d): keep-%d%s", i+1, i, row)))
		prune.WriteString(logLine("INFO", "borg.output.list", "", fmt.Sprintf("Would prune: prune-%d%s", i, row)))
		del.WriteString(logLine("INFO", "borg.output.list", "", fmt.Sprintf("Deleting archive: a-%d%s (%d/%d)", i, row, i+1, n)))
	}
	got := outcomeOf(baseTask(neutralRoot, job.PruneSpec{KeepDaily: 9}), prune.String(), borg.Exit{}).Result
	if len(got.Kept) != job.MaxArchives || got.KeptOmitted != 7 || len(got.Pruned) != job.MaxArchives || got.PrunedOmitted != 7 || len(got.KeptBy) != job.MaxArchives || got.KeptBy["keep-0"] != "daily #1" {
		t.Errorf("prune: %d+%d kept, %d+%d pruned, %d rules", len(got.Kept), got.KeptOmitted, len(got.Pruned), got.PrunedOmitted, len(got.KeptBy))
	}
	got = outcomeOf(baseTask(neutralRoot, job.DeleteSpec{Glob: "*"}), del.String(), borg.Exit{}).Result
	if len(got.Deleted) != job.MaxArchives || got.DeletedOmitted != 7 {
		t.Errorf("delete: %d+%d", len(got.Deleted), got.DeletedOmitted)
	}
}

// Files come first in a long list of damage, each of them once.
func TestLongDamage(t *testing.T) {
	var said strings.Builder
	for i := range 2 * job.MaxDamaged {
		said.WriteString(logLine("WARNING", "borg.repository", "", fmt.Sprintf("ID: %064x rebuilt index: <not found>      committed index: (2, 8)   ", i)))
	}
	for i := range 6 {
		said.WriteString(errorLine("", fmt.Sprintf("a: etc/: %d: New missing file chunk detected (Byte 0-9, Chunk ab). Replacing with all-zero chunk.", i/2)))
	}
	end := outcomeOf(baseTask(neutralRoot, job.CheckSpec{}), said.String(), borg.Exit{Code: 1})
	checkFailure(t, end, job.IntegrityError)
	got := end.Result
	if len(got.Damaged) != job.MaxDamaged || got.DamagedOmitted != job.MaxDamaged+3 || got.Damaged[2] != "a: etc/: 2: New missing file chunk detected" {
		t.Errorf("%d+%d: %q", len(got.Damaged), got.DamagedOmitted, got.Damaged[:4])
	}
}

func TestScriptFailsOnBorg14(t *testing.T) {
	task := modern(job.BackupSpec{ContentFrom: "dump"})
	task.Hook = "/hooks/dump"
	said := "no such database\n" + errorLine("CommandError", "Command '/hooks/dump' exited with status 3")
	for _, code := range []int{2, 4} {
		end := outcomeOf(task, said, borg.Exit{Code: code})
		checkFailure(t, end, job.HookFailed)
		if !strings.Contains(end.Failure.Message, "no such database") {
			t.Errorf("%q does not have the script's words", end.Failure.Message)
		}
	}
}

func TestDeleteOnBorg14(t *testing.T) {
	said := logLine("WARNING", "borg.archiver", "", "Archive nope not found (1/1).")
	checkFailure(t, outcomeOf(modern(job.DeleteSpec{Archives: []string{"nope"}}), said, borg.Exit{Code: 1}), job.ArchiveMissing)
}

func TestRestoreWithoutBorg(t *testing.T) {
	spec := restoreOf()
	spec.KeepExisting = true
	for _, task := range []borg.Task{baseTask(neutralRoot, spec), modern(spec)} {
		checkFailure(t, outcomeOf(task, "restore: 1: exec: /opt/borg: not found\n", borg.Exit{Code: 127}), job.BorgMissing)
	}
}

// Empty files have no bytes either, so this is no failure.
func TestRestoreOfNothing(t *testing.T) {
	spec := restoreOf()
	spec.StripComponents = 9
	if end := outcomeOf(baseTask(neutralRoot, spec), "", borg.Exit{}); end.State != job.Warning || !strings.Contains(end.Result.Warnings[0], "strip_components") {
		t.Errorf("%s, %+v", end.State, end.Result)
	}
}

// A path that is there already looks to borg like one that the archive has not.
func TestRestoreKeepsAllThatWasAskedFor(t *testing.T) {
	spec := restoreOf("/etc/motd")
	spec.KeepExisting = true
	said := logLine("WARNING", "borg.archiver", "", "Include pattern 'etc/motd' never matched.")
	if end := outcomeOf(baseTask(neutralRoot, spec), said, borg.Exit{Code: 1}); end.State != job.Warning {
		t.Errorf("%s, %+v", end.State, end.Failure)
	}
}

func TestProgressOfOtherKinds(t *testing.T) {
	for name, test := range map[string]struct {
		spec job.Spec
		line string
		want job.Progress
	}{
		"delete": {job.DeleteSpec{Glob: "*"}, percentLine(0, "archive.delete", 1, 5, 10, "Decrementing references  40%"),
			job.Progress{Phase: "archive.delete", Path: "Decrementing references  40%", Percent: new(40.0)}},
		"download": {job.DownloadSpec{Archive: "a"}, percentLine(0, "extract", 1, 250, 1000, " 25.0% Processing: etc/a"),
			job.Progress{Phase: "extract", Path: "25.0% Processing: etc/a", OriginalSize: 250, Percent: new(25.0)}},
	} {
		got := last(t, baseTask(neutralRoot, test.spec), test.line)
		got.At = time.Time{}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

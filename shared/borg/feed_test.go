package borg_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// A file of an archive goes into a hook, byte by byte, by a real borg; and the
// hook is not run, or does not come to its input's end, if borg has no more.
func TestRestoreIntoAHook(t *testing.T) {
	made := newLab(t)
	content := append([]byte{0, '%', '\\', '\n'}, noise(3_000_000)...)
	made.write("data/dump.bin", content)
	made.write("data/empty", nil)
	made.must(baseTask(made.root, job.InitSpec{}))
	made.must(baseTask(made.root, job.BackupSpec{Paths: []string{filepath.Join(made.root, "data")}}))
	inside := strings.TrimPrefix(made.root, "/") + "/data/"
	for name, test := range map[string]struct {
		path, does string
		edit       func(*borg.Task)
		state      job.State
		code       job.Code
		says, logs string
		whole, ran bool
	}{
		"well":               {inside + "dump.bin", "cat >$OUT; echo done", nil, job.Succeeded, "", "", "info into: done", true, true},
		"hook fails":         {inside + "dump.bin", "cat >$OUT; echo bad table; exit 3", nil, job.Failed, job.HookFailed, "bad table", "", true, true},
		"hook does not read": {inside + "dump.bin", "echo no such database; exit 1", nil, job.Failed, job.HookFailed, "no such database", "", false, true},
		"hook reads a bit":   {inside + "dump.bin", "head -c 10 >$OUT", nil, job.Failed, job.HookFailed, "before it had read", "", false, true},
		"no such file":       {inside + "none", "cat >$OUT", nil, job.Failed, job.PathMissing, "none", "", false, false},
		"an empty file":      {inside + "empty", "cat >$OUT", nil, job.Failed, job.PathMissing, "no content", "", false, false},
		"a directory":        {strings.TrimSuffix(inside, "/"), "cat >$OUT", nil, job.Failed, job.PathMissing, "", "", false, false},
		"no archive":         {inside + "dump.bin", "cat >$OUT", func(task *borg.Task) { replaceArchive(task, "other") }, job.Failed, job.ArchiveMissing, "", "", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := &hookLab{lab: made, seen: filepath.Join(t.TempDir(), "seen")}
			inner := *made
			inner.t, l.lab = t, &inner
			out := filepath.Join(t.TempDir(), "out")
			l.task = baseTask(made.root, job.RestoreSpec{Archive: "web1-2026-11-22T02:00:00", Paths: []string{test.path}, ContentTo: "into"})
			l.task.Hook = l.hook("into", "OUT="+out+"\n"+test.does)
			if test.edit != nil {
				test.edit(&l.task)
			}
			for i := range 2 {
				_ = os.Remove(filepath.Join(l.root, "output"+string(rune('0'+i)))) // of the test before
			}
			o, log := l.outcome(nil, nil)
			if o.State != test.state || test.code != "" && (o.Failure == nil || o.Failure.Code != test.code || !strings.Contains(o.Failure.Message, test.says)) {
				t.Errorf("%s, %v\n%s", o.State, o.Failure, log)
			}
			if !strings.Contains(log, test.logs) {
				t.Errorf("no %q in\n%s", test.logs, log)
			}
			got, _ := os.ReadFile(out)
			if whole := string(got) == string(content); whole != test.whole || (l.ran() != "") != test.ran {
				t.Errorf("%d bytes came, whole %v; ran %q", len(got), whole, l.ran())
			}
		})
	}
}

// A borg that fails in the middle of a file must not look like the file's end.
func TestBorgFailsWhileAHookReads(t *testing.T) {
	l := newHookLab(t, "echo half; sleep 1; exit 2")
	l.task.Kind, l.task.Spec = job.Restore, job.RestoreSpec{Archive: "a", Paths: []string{"dump"}, ContentTo: "into"}
	l.task.Hook = l.hook("into", "cat; echo end >>"+l.seen)
	o, log := l.outcome(nil, nil)
	if o.State != job.Failed || o.Failure.Code == job.HookFailed || l.ran() != "borg; into content - -" || !strings.Contains(log, "into: half") {
		t.Errorf("%s, %v; ran %q\n%s", o.State, o.Failure, l.ran(), log)
	}
}

func replaceArchive(task *borg.Task, name string) {
	spec := task.Spec.(job.RestoreSpec)
	spec.Archive = name
	task.Spec = spec
}

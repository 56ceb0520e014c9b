package borg_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

var testCanary = job.Canary{Name: "web1-daily", Content: "sings 'at' \"dawn\"\n100 % $HOME\\n\n"}

// withCanary is a backup that carries a canary. Nothing is excluded less for it.
func withCanary(l *lab, paths ...string) borg.Task {
	spec := resolve(backupOf(paths...), l.root).(job.BackupSpec)
	canary := testCanary
	spec.Canary, spec.Exclude, spec.Patterns = &canary, []string{"*canary*"}, []string{"- **/base/**"}
	return baseTask(l.root, spec)
}

// contentOf reads one file of an archive.
func contentOf(l *lab, archive, path string) string {
	l.t.Helper()
	r := l.run(baseTask(l.root, job.DownloadSpec{Archive: archive, Path: path, Format: job.DownloadFile}), nil)
	return string(r.stdout)
}

func TestCanaryIsInTheArchive(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	file := filepath.Join(l.root, "base/borgfleet-canary/web1-daily")
	first := withCanary(l, "/data")
	end := l.must(first)
	if end.Result.NFiles != 4 {
		t.Errorf("%d files", end.Result.NFiles)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the canary on the host: %v, %v", info, err)
	}
	if got := contentOf(l, first.Archive, strings.TrimPrefix(file, "/")); got != testCanary.Content {
		t.Errorf("the canary in the archive is %q", got)
	}
	second := withCanary(l, "/data", "/base/borgfleet-canary") // also as one file of many
	second.Archive = "web1-again"
	l.must(second)
	if again, err := os.Stat(file); err != nil || !again.ModTime().Equal(info.ModTime()) {
		t.Errorf("a canary that has not changed was written anew: %v, %v", again, err)
	}
	third := withCanary(l, "/data")
	third.Archive = "web1-other"
	spec := third.Spec.(job.BackupSpec)
	spec.Canary = &job.Canary{Name: "web1-daily", Content: "another"}
	third.Spec = spec
	l.must(third)
	if got := contentOf(l, third.Archive, strings.TrimPrefix(file, "/")); got != "another" {
		t.Errorf("a canary that has changed is %q", got)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 1 {
		t.Errorf("beside the canary lie %q (%v)", left, err)
	}
}

// TestCanaryIsNoBackup holds that an archive with nothing but the canary counts
// as empty.
func TestCanaryIsNoBackup(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	checkFailure(t, outcomeOfRun(l, withCanary(l, "/nope")), job.PathMissing)
	excluded := withCanary(l, "/data")
	excluded.Archive = "web1-excluded"
	spec := excluded.Spec.(job.BackupSpec)
	spec.Patterns = []string{"- **"}
	excluded.Spec = spec
	end := outcomeOfRun(l, excluded)
	if end.State != job.Warning || !strings.Contains(end.Result.Warnings[0], "no file in the archive") {
		t.Errorf("%s %v %+v", end.State, end.Failure, end.Result)
	}
}

func TestBackupWithoutItsCanary(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	l.write("base/borgfleet-canary", []byte("no directory\n"))
	end := l.must(withCanary(l, "/data"))
	if end.Result.NFiles != 3 || len(end.Result.Warnings) != 1 || !strings.Contains(end.Result.Warnings[0], "the canary is not in this archive") {
		t.Errorf("%+v", end.Result)
	}
	l.env.Binary = "/nope/borg"
	checkFailure(t, outcomeOfRun(l, withCanary(l, "/data")), job.BorgMissing)
}

// TestCanaryIsNotTold holds that what a canary is does not go into a log.
func TestCanaryIsNotTold(t *testing.T) {
	l := newLab(t)
	argv, environ, err := borg.Command(withCanary(l, "/data"), l.env)
	if err != nil {
		t.Fatal(err)
	}
	if line := borg.Redact(argv); strings.Contains(line, "dawn") || !strings.HasPrefix(line, "/bin/sh -c ... canary web1-daily "+borgBinary+" create ") {
		t.Errorf("the log gets %s", line)
	}
	if diff := cmp.Diff("BORGFLEET_CANARY="+testCanary.Content, environ[len(environ)-1]); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

// TestBackupWithACanaryIsCancelled holds that a signal reaches borg.
func TestBackupWithACanaryIsCancelled(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	for _, name := range []string{"a", "b", "c"} {
		l.write("data/big/"+name, noise(30_000_000))
	}
	task := withCanary(l, "/data")
	sent := false
	r := l.run(task, func(process *os.Process, _ []byte) {
		if !sent {
			sent = process.Signal(os.Interrupt) == nil
		}
	})
	r.exit.Cancelled, r.exit.Duration = true, time.Second
	if end, _ := parse(task, r, len(r.stderr)); end.State != job.Cancelled {
		t.Errorf("%s %v\n%s", end.State, end.Failure, r.stderr)
	}
}

// TestCanaryWithinHooks holds that hooks run around a backup with a canary, and do
// not see it.
func TestCanaryWithinHooks(t *testing.T) {
	l := newLab(t)
	l.must(baseTask(l.root, job.InitSpec{}))
	task := withCanary(l, "/data")
	spec := task.Spec.(job.BackupSpec)
	spec.Hooks = &job.Hooks{Before: []string{"before"}, After: []string{"after"}}
	task.Spec = spec
	task.Hooks = borg.Hooks{Before: []string{l.script("hooks/before", `env >`+l.root+`/seen`)}, After: []string{l.script("hooks/after", `env >>`+l.root+`/seen`)}}
	if end := l.must(task); end.Result.NFiles != 4 {
		t.Errorf("%+v", end.Result)
	}
	seen, err := os.ReadFile(filepath.Join(l.root, "seen"))
	if err != nil || strings.Contains(string(seen), "dawn") || strings.Count(string(seen), "BORGFLEET_PHASE=") != 2 {
		t.Errorf("the hooks saw %s (%v)", seen, err)
	}
}

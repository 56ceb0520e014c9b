package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestRealBackup(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 3<<20)
	l.must(t, job.InitSpec{})
	result := l.must(t, job.BackupSpec{Paths: []string{l.data}})
	if result.OriginalSize < 3<<20 || result.NFiles != 1 || result.Archive != "web1-2" || result.Duration <= 0 {
		t.Errorf("result %+v", result)
	}
	if names := l.archives(t); len(names) != 1 || names[0] != "web1-2" {
		t.Errorf("archives %q", names)
	}
	again := l.must(t, job.BackupSpec{Paths: []string{l.data}})
	if again.DeduplicatedSize*100 > result.DeduplicatedSize {
		t.Errorf("the second backup stored %d bytes, the first %d", again.DeduplicatedSize, result.DeduplicatedSize)
	}
}

func TestRealFailures(t *testing.T) {
	l := newLab(t)
	l.must(t, job.InitSpec{})
	run := func(l *lab) job.Failure {
		rec := newRecorder()
		if err := l.Run(t.Context(), l.attempt(t, job.ListSpec{}), rec, nil); err != nil {
			t.Fatal(err)
		}
		end := rec.finished(t)
		if end.State != job.Failed || end.Failure == nil {
			t.Fatalf("ended as %s", end.State)
		}
		return *end.Failure
	}
	wrong := *l
	wrong.pass = secret.FromString("wrong")
	if f := run(&wrong); f.Code != job.PassphraseWrong {
		t.Errorf("wrong passphrase: %+v", f)
	}
	gone := *l
	gone.task.Repository.Location += "-gone"
	if f := run(&gone); f.Code != job.RepositoryMissing {
		t.Errorf("missing repository: %+v", f)
	}
	bare := *l
	bare.Engine = engine.New(engine.Options{
		Environment: borg.Environment{Binary: "/nonexistent/borg"}, Executor: l.local, Logger: hclog.NewNullLogger(),
	})
	if f := run(&bare); f.Code != job.BorgMissing || !strings.Contains(f.Message, "/nonexistent/borg") {
		t.Errorf("missing borg: %+v", f)
	}
}

func TestRealCancel(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 200<<20)
	l.must(t, job.InitSpec{})
	a, w, cancel := l.attempt(t, l.slow()), newWatched(), make(chan struct{})
	wait := l.begin(t, t.Context(), a, w, cancel)
	close(cancel)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	end := w.finished(t)
	if end.State != job.Cancelled || end.Failure.Code != job.CodeCancelled {
		t.Errorf("ended as %s with %+v", end.State, end.Failure)
	}
	if said := strings.Join(w.log(), "\n"); !strings.Contains(said, "Keyboard interrupt") || strings.Contains(said, "SIGTERM") {
		t.Errorf("it did not end from SIGINT:\n%s", said)
	}
	if names := l.archives(t); len(names) != 0 { // and the lock is free
		t.Errorf("archives %q", names)
	}
}

// TestRealCancelAtOnce signals borg while Python is still coming up.
func TestRealCancelAtOnce(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 1<<20)
	l.must(t, job.InitSpec{})
	for _, delay := range []time.Duration{0, 20, 60, 120, 200, 300} {
		a, rec, cancel := l.attempt(t, job.BackupSpec{Paths: []string{l.data}}), newRecorder(), make(chan struct{})
		over := make(chan error, 1)
		go func() { over <- l.Run(t.Context(), a, rec, cancel) }()
		patience.Until(t, "the start of borg", func() bool {
			content, err := os.ReadFile(filepath.Join(l.root, a.ID(), "started.json"))
			return err == nil && strings.Contains(string(content), "boot_id")
		})
		time.AfterFunc(delay*time.Millisecond, func() { close(cancel) })
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		end := rec.finished(t)
		// A signal that comes after the archive is complete makes a warning.
		done := (end.State == job.Succeeded || end.State == job.Warning) && end.Result.Archive == a.Task.Archive
		if end.State != job.Cancelled && !done {
			t.Errorf("cancelled after %v ms: ended as %s, %+v\n%s", int(delay), end.State, end.Failure, strings.Join(rec.log(), "\n"))
		}
	}
}

func TestFollowerIsReplaced(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", slowBytes)
	l.must(t, job.InitSpec{})
	a, w := l.attempt(t, l.slow()), newWatched()
	ctx, stop := context.WithCancel(t.Context())
	wait := l.begin(t, ctx, a, w, nil)
	before, _ := l.pids(t, a)
	stop()
	if err := wait(); !errors.Is(err, context.Canceled) {
		t.Fatalf("run: %v, want the context's end", err)
	}
	if err := syscall.Kill(before, 0); err != nil {
		t.Fatalf("borg did not outlive its follower: %v", err)
	}
	if err := l.Resume(t.Context(), a, w.resume(), w, nil); err != nil {
		t.Fatal(err)
	}
	if end := w.finished(t); end.State != job.Succeeded || end.Result.OriginalSize < slowBytes {
		t.Errorf("ended as %s with %+v", end.State, end.Result)
	}
	if strings.Count(w.types(), "started") != 1 || strings.Count(w.types(), "finished") != 1 || w.events[0].PID != before {
		t.Errorf("told %q", w.types())
	}
	if names := l.archives(t); len(names) != 1 {
		t.Errorf("archives %q", names)
	}
}

func TestSupervisorIsKilled(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", slowBytes)
	l.must(t, job.InitSpec{})
	a, w := l.attempt(t, l.slow()), newWatched()
	wait := l.begin(t, t.Context(), a, w, nil)
	program, supervisor := l.pids(t, a)
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	patience.Until(t, "the supervisor's end", func() bool { return gone(supervisor) })
	if gone(program) {
		t.Fatal("borg died with its supervisor")
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if !gone(program) {
		t.Error("the attempt ended before borg")
	}
	// It went on to its end, so there is an archive: another attempt would make
	// a second one.
	end := w.finished(t)
	if end.State != job.Warning || end.Failure != nil || end.Result.Archive != a.Task.Archive ||
		!strings.Contains(strings.Join(end.Result.Warnings, "\n"), "nobody saw how it ended") {
		t.Errorf("ended as %s with %+v, %+v", end.State, end.Failure, end.Result)
	}
	if names := l.archives(t); len(names) != 1 {
		t.Errorf("archives %q", names)
	}
}

// TestHostIsLost kills borg and its supervisor in the middle.
func TestHostIsLost(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", slowBytes)
	l.must(t, job.InitSpec{})
	a, w := l.attempt(t, l.slow()), newWatched()
	wait := l.begin(t, t.Context(), a, w, nil)
	program, supervisor := l.pids(t, a)
	for _, pid := range []int{supervisor, program} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	end := w.finished(t)
	if end.State != job.Failed || end.Failure.Code != job.Interrupted || !end.Failure.Retryable {
		t.Errorf("ended as %s with %+v", end.State, end.Failure)
	}
	if names := l.archives(t); len(names) != 0 {
		t.Errorf("archives %q", names)
	}
}

// gone reports whether a process has ended, be it waited for or not.
func gone(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(status), ") Z ")
}

// TestPassphraseIsNowhere looks for the passphrase where others could see it
// while borg works, and in everything that is left behind.
func TestPassphraseIsNowhere(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", slowBytes)
	l.must(t, job.InitSpec{})
	a, w := l.attempt(t, l.slow()), newWatched()
	wait := l.begin(t, t.Context(), a, w, nil)
	program, supervisor := l.pids(t, a)
	for _, pid := range []int{program, supervisor} {
		for _, name := range []string{"cmdline", "environ"} {
			if content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name)); err != nil || len(content) == 0 {
				t.Errorf("read %s of %d: %v", name, pid, err)
			}
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/[ce][mn][dv]*")
	if err != nil || len(processes) < 4 {
		t.Fatalf("found %q, %v", processes, err)
	}
	for _, path := range processes {
		if name := filepath.Base(path); name == "cmdline" || name == "environ" {
			refuse(t, path)
		}
	}
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(filepath.Dir(l.root), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && entry.Name() != "file" {
			files++
			refuse(t, path)
		}
		return err
	})
	if err != nil || files < 10 {
		t.Errorf("walked over %d files: %v", files, err)
	}
	if told, err := json.Marshal(w.events); err != nil || strings.Contains(string(told), passphrase) {
		t.Errorf("the passphrase is in an event (%v)", err)
	}
}

func refuse(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil && strings.Contains(string(content), passphrase) {
		t.Errorf("the passphrase is in %s", path)
	}
}

func TestBorgRunsWithPriorities(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", slowBytes)
	l.must(t, job.InitSpec{})
	a, w, cancel := l.attempt(t, l.slow()), newWatched(), make(chan struct{})
	wait := l.begin(t, t.Context(), a, w, cancel)
	program, _ := l.pids(t, a)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", program))
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(status[strings.LastIndexByte(string(status), ')')+1:])); fields[16] != "1" {
		t.Errorf("nice is %s, want 1", fields[16])
	}
	said, err := exec.Command("ionice", "-p", strconv.Itoa(program)).CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != "best-effort: prio 7" {
		t.Errorf("ionice says %q, %v", said, err)
	}
	close(cancel)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
}

// Borg can be killed after it has saved an archive, and before it has said so.
// The next attempt must not make a second one.
func TestArchiveOfAnEarlierAttempt(t *testing.T) {
	l := newLab(t)
	l.fill(t, "file", 1<<10)
	l.must(t, job.InitSpec{})
	a := l.attempt(t, job.BackupSpec{Paths: []string{l.data}})
	if err := l.Run(t.Context(), a, newRecorder(), nil); err != nil {
		t.Fatal(err)
	}
	second := func(a engine.Attempt) job.Event {
		a.Number = 2
		t.Cleanup(func() { enginetest.End(t, l.local, a.ID()) })
		rec := newRecorder()
		if err := l.Run(t.Context(), a, rec, nil); err != nil {
			t.Fatal(err)
		}
		return rec.finished(t)
	}
	end := second(a)
	if end.State != job.Warning || end.Result == nil || end.Result.Archive != a.Task.Archive || len(end.Result.Warnings) != 1 {
		t.Errorf("the second attempt ended as %s: %+v, %v", end.State, end.Result, end.Failure)
	}
	if names := l.archives(t); len(names) != 1 {
		t.Errorf("archives %q", names)
	}
	a.Job = job.NewID(time.Now())
	a.Task.Spec = job.BackupSpec{Paths: []string{l.data}, Archive: a.Task.Archive}
	if end := second(a); end.State != job.Failed || end.Failure.Code != job.ArchiveExists {
		t.Errorf("with a name of the submitter's: %s, %v", end.State, end.Failure)
	}
}

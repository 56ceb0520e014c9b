package engine_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// hook writes a script that notes when it ran, and with what result.
func (l *lab) hook(t *testing.T, name, does string) string {
	t.Helper()
	path := filepath.Join(l.root, "..", name)
	text := "#!/bin/sh\necho " + name + " ${BORGFLEET_RESULT:-none} >>" + l.data + "/../ran\n" + does + "\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func (l *lab) ran(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(l.data, "..", "ran"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", "; ")
}

// watcher is a recorder that does something once, at the first log line of that
// text, or when so many bytes are read.
type watcher struct {
	*recorder
	line  string
	bytes int64
	then  func()
}

func (w *watcher) once() {
	if w.then != nil {
		w.then()
		w.then = nil
	}
}

func (w *watcher) Record(ctx context.Context, e job.Event, at process.Offsets) error {
	err := w.recorder.Record(ctx, e, at)
	for _, line := range e.Lines {
		if w.line != "" && strings.Contains(line.Text, w.line) {
			w.once()
		}
	}
	return err
}

func (w *watcher) Progress(p job.Progress) {
	w.recorder.Progress(p)
	if w.bytes > 0 && p.OriginalSize >= w.bytes {
		w.once()
	}
}

// A backup whose borg is cancelled leaves a checkpoint and no lock, as without
// hooks, and its hooks of the end run.
func TestCancelABackupWithHooks(t *testing.T) {
	l := newLab(t)
	l.must(t, job.InitSpec{})
	l.fill(t, "big", slowBytes)
	a := l.attempt(t, l.slow())
	a.Task.Hooks = borg.Hooks{Before: []string{l.hook(t, "pre", "")}, After: []string{l.hook(t, "post", "sleep 2")}, OnFailure: []string{l.hook(t, "sorry", "")}}
	rec, cancel := newRecorder(), make(chan struct{})
	// Progress comes before borg has begun to read, as well.
	if err := l.Run(t.Context(), a, &watcher{recorder: rec, bytes: 1 << 20, then: func() { close(cancel) }}, cancel); err != nil {
		t.Fatal(err)
	}
	if end := rec.finished(t); end.State != job.Cancelled {
		t.Errorf("ended as %s, %v\n%s", end.State, end.Failure, strings.Join(rec.log(), "\n"))
	}
	if got := l.ran(t); got != "pre none; post cancelled" {
		t.Errorf("ran %q", got)
	}
	list := exec.Command("borg", "list", "--short", "--consider-checkpoints", l.task.Repository.Location) // needs the lock
	list.Env = append(os.Environ(), "BORG_PASSPHRASE="+passphrase, "BORG_BASE_DIR="+filepath.Join(l.root, "..", "borg"))
	if said, err := list.CombinedOutput(); err != nil || !strings.Contains(string(said), "checkpoint") {
		t.Errorf("archives %q, %v; want a checkpoint", said, err)
	}
}

// Whoever follows a job may go at any time: its hooks go on, and who comes next
// tells the same.
func TestFollowHooksAgain(t *testing.T) {
	l := newLab(t)
	l.must(t, job.InitSpec{})
	l.fill(t, "file", 1<<20)
	a := l.attempt(t, job.BackupSpec{Paths: []string{l.data}})
	a.Task.Hooks = borg.Hooks{Before: []string{l.hook(t, "pre", "echo at it; until [ -e "+l.data+"/../go ]; do sleep 0.1; done")}, After: []string{l.hook(t, "post", "echo late")}}
	first := newRecorder()
	ctx, leave := context.WithCancel(t.Context())
	if err := l.Run(ctx, a, &watcher{recorder: first, line: "pre: at it", then: leave}, nil); err == nil {
		t.Fatal("it went to its end")
	}
	if err := os.WriteFile(filepath.Join(l.data, "..", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second := newRecorder()
	if err := l.Resume(t.Context(), a, first.resume(), second, nil); err != nil {
		t.Fatal(err)
	}
	end := second.finished(t)
	log := strings.Join(second.log(), "\n")
	if end.State != job.Succeeded || l.ran(t) != "pre none; post succeeded" || strings.Contains(log, "at it") || !strings.Contains(log, "post: late") {
		t.Errorf("%s, %v, ran %q\n%s", end.State, end.Failure, l.ran(t), log)
	}
}

// What ends a backup by force waits until its hooks have had their time.
func TestLadderLeavesHooksTheirTime(t *testing.T) {
	task := borg.Task{Kind: job.Backup, Hooks: borg.Hooks{After: []string{"/h"}}}
	if got := task.Aftermath(); got < time.Minute || got > 5*time.Minute {
		t.Errorf("they have %s", got)
	}
	if got := (borg.Task{Kind: job.Backup}).Aftermath(); got != 0 {
		t.Errorf("without hooks: %s", got)
	}
}

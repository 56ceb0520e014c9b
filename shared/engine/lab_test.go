package engine_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestMain(m *testing.M) { enginetest.Main(m) }

// passphrase is unlikely to be found anywhere by chance.
const passphrase = "Tr0ub4dor-and-3-horses"

// lab is a real borg with a repository.
type lab struct {
	*engine.Engine
	local *process.Local
	root  string // of the job directories
	data  string // to back up
	task  borg.Task
	pass  secret.Value
	next  int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{root: filepath.Join(dir, "jobs"), data: filepath.Join(dir, "data"), pass: secret.FromString(passphrase)}
	if err := os.Mkdir(l.data, 0o700); err != nil {
		t.Fatal(err)
	}
	l.local = process.NewLocal(process.Options{
		Root: l.root, Supervisor: enginetest.Supervisor(), Logger: hclog.NewNullLogger(),
	})
	l.Engine = engine.New(engine.Options{
		// Borg looks again at a lock, also a dead one, after a tenth of the wait.
		Environment: borg.Environment{Binary: untestedBorg(t, dir), BaseDir: filepath.Join(dir, "borg"), HostID: "test", LockWait: 5 * time.Second},
		Nice:        1, IOClass: "best-effort:7", Executor: l.local, Logger: hclog.NewNullLogger(),
	})
	l.task = borg.Task{Host: "web1", Encrypted: true, Version: testVersion, Repository: job.Repository{
		Name: "main", Location: filepath.Join(dir, "repository"), Encryption: job.RepokeyBlake2,
	}}
	return l
}

// untestedBorg is borg without its self-test, which takes a quarter of the time
// of a short run.
func untestedBorg(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "borg-without-test")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexport BORG_SELFTEST=disabled\nexec borg \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// attempt returns a new attempt, and sees to it that its borg ends with the test.
func (l *lab) attempt(t *testing.T, spec job.Spec) engine.Attempt {
	t.Helper()
	l.next++
	task := l.task
	task.Kind, task.Spec = spec.Kind(), spec
	if task.Kind == job.Backup {
		task.Archive = fmt.Sprint("web1-", l.next)
	}
	a := engine.Attempt{Job: job.NewID(time.Now()), Number: 1, Host: "web1", Task: task, Passphrase: l.pass}
	t.Cleanup(func() { enginetest.End(t, l.local, a.ID()) })
	return a
}

// must runs an attempt that has to succeed.
func (l *lab) must(t *testing.T, spec job.Spec) job.Result {
	t.Helper()
	rec := newRecorder()
	if err := l.Run(t.Context(), l.attempt(t, spec), rec, nil); err != nil {
		t.Fatal(err)
	}
	end := rec.finished(t)
	if end.State != job.Succeeded {
		t.Fatalf("%s ended as %s: %v\n%s", spec.Kind(), end.State, end.Failure, strings.Join(rec.log(), "\n"))
	}
	return *end.Result
}

// fill makes a file of random bytes, which borg cannot make small.
func (l *lab) fill(t *testing.T, name string, size int64) {
	t.Helper()
	file, err := os.Create(filepath.Join(l.data, name))
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 1<<20)
	for ; size > 0; size -= int64(len(content)) {
		_, _ = rand.Read(content) // never fails
		if _, err := file.Write(content[:min(size, int64(len(content)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// slowBytes is enough for a slow backup to take some seconds.
const slowBytes = 64 << 20

// slow is a backup that gets through some 20 megabytes a second. It is not
// slower, since borg hears no signal while it compresses one chunk.
func (l *lab) slow() job.BackupSpec {
	return job.BackupSpec{Paths: []string{l.data}, Compression: "zlib,9"}
}

func (l *lab) archives(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, archive := range l.must(t, job.ListSpec{}).Archives {
		names = append(names, archive.Name)
	}
	return names
}

// pids reads who runs an attempt: borg, and its supervisor.
func (l *lab) pids(t *testing.T, a engine.Attempt) (program, supervisor int) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(l.root, a.ID(), "started.json"))
	if err != nil {
		t.Fatal(err)
	}
	var started struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(content, &started); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", started.PID))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(status[strings.LastIndexByte(string(status), ')')+1:]))
	supervisor, err = strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return started.PID, supervisor
}

// watched is a recorder that tells when the first progress came.
type watched struct {
	*recorder
	once  sync.Once
	moves chan struct{}
}

func newWatched() *watched { return &watched{recorder: newRecorder(), moves: make(chan struct{})} }

func (w *watched) Progress(p job.Progress) {
	w.recorder.Progress(p)
	if p.OriginalSize > 0 {
		w.once.Do(func() { close(w.moves) })
	}
}

// begin runs an attempt in the background until borg moves. The function
// returned waits for its end.
func (l *lab) begin(t *testing.T, ctx context.Context, a engine.Attempt, w *watched, cancel <-chan struct{}) func() error {
	t.Helper()
	over := make(chan error, 1)
	go func() { over <- l.Run(ctx, a, w, cancel) }()
	select {
	case <-w.moves:
	case err := <-over:
		t.Fatalf("the attempt ended before it moved: %v %+v", err, w.events)
	case <-time.After(time.Minute):
		t.Fatal("borg does not move")
	}
	return func() error { return <-over }
}

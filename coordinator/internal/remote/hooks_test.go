package remote_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// house is a host over SSH with data, hooks and a repository.
type house struct {
	t    *testing.T
	root string
	host *remote.Host
}

const housePassphrase = "correct horse"

func newHouse(t *testing.T) *house {
	t.Helper()
	l := &house{t: t, root: t.TempDir()}
	l.write("data/file", "content\n", 0o600)
	l.host = remote.New(remote.Options{
		Shell: connect(t, sshtest.Start(t, sshtest.Options{})), Host: "web1", Dir: filepath.Join(l.root, odd),
		Hooks: filepath.Join(l.root, "hooks.d"), Logger: hclog.NewNullLogger(),
	})
	if end := l.run("INIT", job.InitSpec{Encryption: job.RepokeyBlake2}, nil, nil); end.State != job.Succeeded {
		t.Fatalf("%s, %v", end.State, end.Failure)
	}
	return l
}

func (l *house) write(name, text string, mode os.FileMode) {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		l.t.Fatal(err)
	}
}

// hook makes a hook that notes that it ran, and returns its path as the host's
// policy finds it.
func (l *house) hook(name, does string) string {
	l.t.Helper()
	l.write("hooks.d/"+name, "#!/bin/sh\necho $BORGFLEET_HOOK $BORGFLEET_PHASE ${BORGFLEET_RESULT:--} >>"+l.root+"/ran\n"+does+"\n", 0o755)
	path, failure := l.host.Policy().Hook(name)
	if failure != nil {
		l.t.Fatal(failure)
	}
	return path
}

func (l *house) read(name string) string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, name))
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	return string(text)
}

// run runs a job by a borg that is looked up on the host, and returns its end.
func (l *house) run(id job.ID, spec job.Spec, edit func(*borg.Task), cancel chan struct{}) job.Event {
	l.t.Helper()
	version, failure := l.host.Version(l.t.Context())
	if failure != nil {
		l.t.Fatal(failure)
	}
	task := borg.Task{
		Kind: spec.Kind(), Spec: spec, Host: "web1", Archive: "web1-" + string(id), Job: id, Encrypted: true, Version: version,
		Repository: job.Repository{Name: "main", Location: filepath.Join(l.root, "repo"), Encryption: job.RepokeyBlake2},
	}
	if edit != nil {
		edit(&task)
	}
	var r recorder
	e := engine.New(engine.Options{Executor: l.host, Logger: hclog.NewNullLogger()})
	if err := e.Run(context.Background(), engine.Attempt{
		Job: id, Number: 1, Host: "web1", Passphrase: secret.FromString(housePassphrase), Task: task,
	}, &r, cancel); err != nil {
		l.t.Fatal(err)
	}
	return r.events[len(r.events)-1]
}

// TestHooksOverSSH runs hooks around a backup on a host without an agent, and one
// that a file of the archive goes into.
func TestHooksOverSSH(t *testing.T) {
	t.Parallel()
	l := newHouse(t)
	secretless := `env >>` + l.root + `/env; ls -l /proc/self/fd /proc/$PPID/fd >>` + l.root + `/env; cat >>` + l.root + `/env`
	around := func(task *borg.Task) {
		task.Hooks = borg.Hooks{Before: []string{l.hook("pre", secretless)}, After: []string{l.hook("post", "")}, OnFailure: []string{l.hook("sorry", "")}}
	}
	canary := job.Canary{Name: "daily", Content: "sings"}
	end := l.run("BACKUP", job.BackupSpec{Paths: []string{l.root + "/data"}, Canary: &canary}, around, nil)
	if ran := l.read("ran"); end.State != job.Succeeded || ran != "pre before -\npost after succeeded\n" {
		t.Fatalf("%s, %v; ran %q", end.State, end.Failure, ran)
	}
	for _, hidden := range []string{housePassphrase, "BORG_", "sings", "3 -> pipe", "3 -> socket"} {
		if strings.Contains(l.read("env"), hidden) {
			t.Errorf("a hook sees %q:\n%s", hidden, l.read("env"))
		}
	}
	skipped := l.run("SKIPPED", job.BackupSpec{Paths: []string{l.root + "/data"}}, func(task *borg.Task) {
		task.Hooks.Before = []string{l.hook("skip", "echo on battery; exit 75")}
	}, nil)
	if skipped.State != job.Cancelled || skipped.Failure.Code != job.Skipped || !strings.Contains(skipped.Failure.Message, "on battery") {
		t.Errorf("%s, %v", skipped.State, skipped.Failure)
	}
	into := job.RestoreSpec{Archive: "web1-BACKUP", Paths: []string{strings.TrimPrefix(l.root, "/") + "/data/file"}, ContentTo: "into"}
	fed := l.run("FED", into, func(task *borg.Task) { task.Hook = l.hook("into", "cat >"+l.root+"/back") }, nil)
	if fed.State != job.Succeeded || l.read("back") != "content\n" {
		t.Errorf("%s, %v; came back %q", fed.State, fed.Failure, l.read("back"))
	}
	test := l.run("TEST", job.RestoreTestSpec{Archive: "web1-BACKUP", Canary: &canary}, nil, nil)
	if test.State != job.Succeeded || test.Result.Evidence.Same != 1 || !*test.Result.Evidence.Canary {
		t.Fatalf("%s, %v, %+v", test.State, test.Failure, test.Result)
	}
	patience.Until(t, "the scratch directory is gone", func() bool {
		_, err := os.Lstat(test.Result.Evidence.RestoredAt)
		return os.IsNotExist(err)
	})
}

// TestCancelHooksOverSSH cancels a backup while its first hook runs.
func TestCancelHooksOverSSH(t *testing.T) {
	t.Parallel()
	l := newHouse(t)
	cancel := make(chan struct{})
	go func() {
		patience.Until(t, "the hook runs", func() bool { return strings.Contains(l.read("ran"), "pre") })
		close(cancel)
	}()
	pre, post := l.hook("pre", "sleep 3600"), l.hook("post", "")
	end := l.run("BACKUP", job.BackupSpec{Paths: []string{l.root + "/data"}}, func(task *borg.Task) {
		task.Hooks = borg.Hooks{Before: []string{pre}, After: []string{post}}
	}, cancel)
	if ran := l.read("ran"); end.State != job.Cancelled || ran != "pre before -\npost after cancelled\n" {
		t.Errorf("%s, %v; ran %q", end.State, end.Failure, ran)
	}
}

// TestHooksOfAHostOverSSH asks for hooks that may not be run.
func TestHooksOfAHostOverSSH(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := &house{t: t, root: root}
	l.write("hooks.d/good", "#!/bin/sh\n", 0o755)
	l.write("hooks.d/text", "#!/bin/sh\n", 0o644)
	l.write("hooks.d/open", "#!/bin/sh\n", 0o755)
	l.write("elsewhere", "#!/bin/sh\n", 0o755)
	if err := os.Chmod(root+"/hooks.d/open", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../elsewhere", root+"/hooks.d/link"); err != nil {
		t.Fatal(err)
	}
	h := remote.New(remote.Options{
		Shell: connect(t, sshtest.Start(t, sshtest.Options{})), Host: "web1", Dir: root + "/" + odd, Hooks: root + "/hooks.d", Logger: hclog.NewNullLogger(),
	})
	if path, failure := h.Policy().Hook("good"); failure != nil || path != root+"/hooks.d/good" {
		t.Errorf("%q, %v", path, failure)
	}
	for _, name := range []string{"", ".", "..", "../elsewhere", "text", "open", "link", "none", "good\n", "-n", "$(id)", "'; id; '"} {
		if path, failure := h.Policy().Hook(name); failure == nil || failure.Code != job.RefusedByHost || path != "" {
			t.Errorf("%q: %q, %v", name, path, failure)
		}
	}
}

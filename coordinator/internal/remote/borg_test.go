package remote_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/remote"
	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink/sshtest"
	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// recorder keeps the events of an attempt.
type recorder struct{ events []job.Event }

func (r *recorder) Record(_ context.Context, e job.Event, _ process.Offsets) error {
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) Progress(job.Progress) {}

// attempt runs one through the engine, and returns its end.
func attempt(t *testing.T, h *remote.Host, id job.ID, spec job.Spec, repository job.Repository) job.Event {
	t.Helper()
	version, failure := h.Version(t.Context())
	if failure != nil {
		t.Fatal(failure)
	}
	e := engine.New(engine.Options{Executor: h, Nice: 10, IOClass: "best-effort:7", Logger: hclog.NewNullLogger()})
	var r recorder
	err := e.Run(t.Context(), engine.Attempt{
		Job: id, Number: 1, Host: "web1", Passphrase: secret.FromString("correct horse"),
		Task: borg.Task{Kind: spec.Kind(), Spec: spec, Repository: repository, Host: "web1", Archive: "web1-" + string(id), Encrypted: true, Version: version},
	}, &r, make(chan struct{}))
	if err != nil {
		t.Fatal(err)
	}
	return r.events[len(r.events)-1]
}

func TestRealBorg(t *testing.T) {
	t.Parallel()
	client := connect(t, sshtest.Start(t, sshtest.Options{}))
	dir := t.TempDir()
	h := open(t, client, filepath.Join(dir, odd))
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "back")
	if err := os.MkdirAll(source, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(source, odd[:4]), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	repository := job.Repository{Name: "main", Location: filepath.Join(dir, "repo"), Encryption: "repokey-blake2"}
	for i, spec := range []job.Spec{
		job.InitSpec{Encryption: "repokey-blake2"}, job.BackupSpec{Paths: []string{source}},
		job.RestoreSpec{Archive: "web1-JOB1", Target: target}, job.ListSpec{},
	} {
		end := attempt(t, h, job.ID("JOB"+string(rune('0'+i))), spec, repository)
		if end.State != job.Succeeded {
			t.Fatalf("%s: %s, %v", spec.Kind(), end.State, end.Failure)
		}
	}
	text, err := os.ReadFile(filepath.Join(target, source, odd[:4]))
	if err != nil || string(text) != "content" {
		t.Errorf("restored %q, %v", text, err)
	}
	end := attempt(t, h, "JOB9", job.InfoSpec{}, job.Repository{Name: "none", Location: filepath.Join(dir, "none"), Encryption: "repokey-blake2"})
	if end.Failure == nil || end.Failure.Code != job.RepositoryMissing {
		t.Errorf("of a missing repository: %v", end.Failure)
	}
}

// TestOverhead compares a run with the same command over a plain connection.
func TestOverhead(t *testing.T) {
	server := sshtest.Start(t, sshtest.Options{})
	h := open(t, connect(t, server), t.TempDir())
	rsh := append(append([]string{"-c", server.RSH() + ` "$@"`, "ssh"}, server.User+"@127.0.0.1"), "borg", "--version")
	var plain, ours []time.Duration
	for i := range 7 {
		begun := time.Now()
		if said, err := exec.Command("/bin/sh", rsh...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		plain = append(plain, time.Since(begun))
		begun = time.Now()
		command := process.Command{ID: "job." + string(rune('1'+i)), Argv: []string{"borg", "--version"}}
		if _, err := h.Start(t.Context(), command, secret.FromString("correct horse")); err != nil {
			t.Fatal(err)
		}
		if exit, err := h.Follow(t.Context(), command.ID, process.Offsets{}, func(process.Chunk) error { return nil }); err != nil || exit.Code != 0 {
			t.Fatalf("exit %+v, %v", exit, err)
		}
		ours = append(ours, time.Since(begun))
	}
	slices.Sort(plain)
	slices.Sort(ours)
	over := ours[3] - plain[3]
	t.Logf("plain ssh %v, a run %v (medians of 7): %v more", plain[3], ours[3], over)
	if over > 2*time.Second { // 150 ms on a machine that does nothing else, which e2e/bench measures
		t.Errorf("a run takes %v longer than ssh", over)
	}
}

package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
)

// start is the first moment of every test's clock.
var start = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

func path(t testing.TB) string { return filepath.Join(t.TempDir(), "borgfleet.db") }

func open(t testing.TB) *store.Store {
	t.Helper()
	return openAt(t, path(t))
}

func openAt(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(path, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func apply(t testing.TB, s *store.Store, changes ...store.Change) {
	t.Helper()
	if _, err := s.Apply(changes...); err != nil {
		t.Fatal(err)
	}
}

// newJob returns a queued backup, submitted the given number of seconds after
// start.
func newJob(second int) job.Job {
	at := start.Add(time.Duration(second) * time.Second)
	return job.Job{
		ID: job.NewID(at), Kind: job.Backup, Host: "web1", Repository: "main", State: job.Queued,
		MaxAttempts: 3, SubmittedBy: "operator:alice", SubmittedAt: at,
		Spec: job.BackupSpec{Paths: []string{"/etc"}}, Attempts: []job.Attempt{},
	}
}

func finished(j job.Job, state job.State, at time.Time) job.Job {
	j.State, j.FinishedAt = state, &at
	return j
}

func TestJobSurvivesReopening(t *testing.T) {
	file := path(t)
	s, err := store.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	want := newJob(0)
	sequence, err := s.Apply(store.CreateJob(want), store.SetStreamPosition(7))
	if err != nil || sequence != 1 {
		t.Fatalf("Apply = %d, %v", sequence, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, file)
	got, ok, err := s.Job(want.ID)
	if err != nil || !ok {
		t.Fatalf("Job = %v, %v", ok, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n, err := s.Sequence(); err != nil || n != 1 {
		t.Errorf("Sequence = %d, %v", n, err)
	}
	if n, err := s.StreamPosition(); err != nil || n != 7 {
		t.Errorf("StreamPosition = %d, %v", n, err)
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	s := open(t)
	first := newJob(0)
	apply(t, s, store.CreateJob(first))
	second := newJob(1)
	_, err := s.Apply(store.CreateJob(second), store.SetStreamPosition(9),
		store.AppendAudit(fleet.AuditEntry{Action: "job.submit"}), store.CreateJob(first))
	if !errors.Is(err, store.ErrExists) {
		t.Fatalf("Apply = %v, want ErrExists", err)
	}
	page, err := s.Jobs(job.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]job.Job{first}, page.Jobs); diff != "" {
		t.Error(diff)
	}
	position, _ := s.StreamPosition()
	audit, _ := s.Audit(fleet.AuditFilter{})
	sequence, _ := s.Sequence()
	if got := fmt.Sprint(position, len(audit.Entries), sequence); got != "0 0 1" {
		t.Errorf("position, audit, sequence = %s", got)
	}
}

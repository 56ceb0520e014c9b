package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/go-cmp/cmp"
)

func TestHosts(t *testing.T) {
	s := open(t)
	web := fleet.Host{
		Name: "web1", Mode: fleet.ModeAgent, Labels: map[string]string{"a": "b"}, CreatedAt: start,
		Facts: &fleet.Facts{BorgVersion: "1.2.4", BorgFailure: job.Fail(job.BorgMissing, "no borg"), SeenAt: start},
	}
	db := fleet.Host{Name: "db", CreatedAt: start}
	apply(t, s, store.CreateHost(web), store.PutHost(db), store.AppendRun("web1", job.Succeeded))
	if _, err := s.Apply(store.CreateHost(web)); !errors.Is(err, store.ErrExists) {
		t.Errorf("CreateHost again = %v", err)
	}
	hosts, err := s.Hosts()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fleet.Host{db, web}, hosts); diff != "" {
		t.Error(diff)
	}
	facts := fleet.Facts{BorgVersion: "1.4.0", SeenAt: start.Add(time.Hour)}
	apply(t, s, store.SetHostFacts("web1", facts, "XKEY"), store.SetHostFacts("gone", facts, "XKEY"))
	web.Facts, web.SealKey = &facts, "XKEY"
	if got, ok, err := s.Host("web1"); !ok || err != nil || !cmp.Equal(web, got) {
		t.Errorf("Host = %v, %v: %s", ok, err, cmp.Diff(web, got))
	}
	if _, ok, err := s.Host("gone"); ok || err != nil {
		t.Errorf("facts made a host: %v, %v", ok, err)
	}
	apply(t, s, store.RequireHost("web1"), store.DeleteHost("web1"))
	if _, ok, err := s.Host("web1"); ok || err != nil {
		t.Errorf("Host = %v, %v", ok, err)
	}
	if runs, err := s.Runs("web1"); err != nil || runs != nil {
		t.Errorf("Runs = %v, %v", runs, err)
	}
}

func TestRunsAreTheLastOnes(t *testing.T) {
	s := open(t)
	for range 5 {
		apply(t, s, store.AppendRun("web1", job.Failed))
	}
	for range store.MaxRuns - 1 {
		apply(t, s, store.AppendRun("web1", job.Succeeded))
	}
	want := append([]job.State{job.Failed}, slices.Repeat([]job.State{job.Succeeded}, store.MaxRuns-1)...)
	got, err := s.Runs("web1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRepositoryTakesItsKnowledgeAlong(t *testing.T) {
	s := open(t)
	main := fleet.Repository{Repository: job.Repository{Name: "main", Location: "/srv/main"}, HasPassphrase: true, CreatedAt: start}
	mainly := main
	mainly.Name = "main-2"
	record := store.RepositoryRecord{Info: &job.RepositoryInfo{ID: "abc"}, LastCheck: &start}
	backup := func(host, repository string) fleet.BackupSummary {
		return fleet.BackupSummary{Host: host, Repository: repository, Archive: host + repository}
	}
	apply(t, s, store.CreateRepository(main), store.CreateRepository(mainly), store.PutRepositoryRecord("main", record),
		store.PutBackupSummary(backup("web1", "main")), store.PutBackupSummary(backup("db", "main")),
		store.PutBackupSummary(backup("web1", "main-2")))

	got, err := s.RepositoryRecord("main")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record, got); diff != "" {
		t.Error(diff)
	}
	wantBackups(t, s.BackupsOfRepository, "main", backup("db", "main"), backup("web1", "main"))
	wantBackups(t, s.BackupsOfHost, "web1", backup("web1", "main"), backup("web1", "main-2"))

	apply(t, s, store.DeleteRepository("main"))
	wantBackups(t, s.BackupsOfRepository, "main")
	wantBackups(t, s.BackupsOfHost, "web1", backup("web1", "main-2"))
	wantBackups(t, s.BackupsOfHost, "db")
	if got, err := s.RepositoryRecord("main"); err != nil || got.Info != nil {
		t.Errorf("RepositoryRecord = %+v, %v", got, err)
	}
	if _, ok, err := s.BackupSummary("web1", "main-2"); err != nil || !ok {
		t.Errorf("BackupSummary = %v, %v", ok, err)
	}
	if repositories, err := s.Repositories(); err != nil || len(repositories) != 1 {
		t.Errorf("Repositories = %v, %v", repositories, err)
	}
}

func wantBackups(t *testing.T, read func(string) ([]fleet.BackupSummary, error), name string, want ...fleet.BackupSummary) {
	t.Helper()
	got, err := read(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(append([]fleet.BackupSummary{}, want...), got); diff != "" {
		t.Errorf("backups of %s: %s", name, diff)
	}
}

func TestAttemptStates(t *testing.T) {
	s, j := open(t), newJob(0)
	first := store.AttemptState{Job: j.ID, Attempt: 1, Host: "web1", LastSeq: 4, Stamp: bus.Stamp{Journal: "x", Revision: 9}, ExpiresAt: start}
	second := first
	second.Attempt, second.LastSeq = 2, 0
	apply(t, s, store.PutAttemptState(first), store.PutAttemptState(second))
	got, err := s.AttemptStates()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.AttemptState{first, second}, got); diff != "" {
		t.Error(diff)
	}
	apply(t, s, store.DeleteAttemptState(j.ID, 1), store.DeleteAttemptState(j.ID, 7))
	if _, ok, err := s.AttemptState(j.ID, 1); ok || err != nil {
		t.Errorf("AttemptState = %v, %v", ok, err)
	}
	if _, ok, err := s.AttemptState(j.ID, 2); !ok || err != nil {
		t.Errorf("AttemptState = %v, %v", ok, err)
	}
}

func TestSecrets(t *testing.T) {
	s := open(t)
	if has, err := s.HasSecrets(); has || err != nil {
		t.Errorf("HasSecrets = %v, %v", has, err)
	}
	apply(t, s, store.PutSecret("repository/main", []byte{0, 1, '"'}))
	got, ok, err := s.Secret("repository/main")
	if diff := cmp.Diff([]byte{0, 1, '"'}, got); diff != "" || !ok || err != nil {
		t.Errorf("Secret = %v, %v: %s", ok, err, diff)
	}
	if has, err := s.HasSecrets(); !has || err != nil {
		t.Errorf("HasSecrets = %v, %v", has, err)
	}
	apply(t, s, store.DeleteSecret("repository/main"))
	if _, ok, err := s.Secret("repository/main"); ok || err != nil {
		t.Errorf("Secret = %v, %v", ok, err)
	}
}

func TestBaselinesAndPosition(t *testing.T) {
	s := open(t)
	want := job.Baseline{OriginalSize: 5, NFiles: 2}
	apply(t, s, store.PutBaseline("web1/main", want), store.SetStreamPosition(9))
	apply(t, s, store.SetStreamPosition(4))
	if got, ok, err := s.Baseline("web1/main"); got != want || !ok || err != nil {
		t.Errorf("Baseline = %v, %v, %v", got, ok, err)
	}
	if _, ok, err := s.Baseline("web1"); ok || err != nil {
		t.Errorf("Baseline of nothing = %v, %v", ok, err)
	}
	if n, err := s.StreamPosition(); n != 9 || err != nil {
		t.Errorf("StreamPosition = %d, %v", n, err)
	}
	if _, err := s.Apply(store.PutBaseline("", want)); err == nil {
		t.Error("an empty key was accepted")
	}
}

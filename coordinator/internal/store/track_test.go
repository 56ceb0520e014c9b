package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

var trackStart = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)

// newTracked returns a store with one plan, two hosts and one repository.
func newTracked(t *testing.T) *store.Store {
	t.Helper()
	s := open(t)
	apply(t, s,
		store.CreateHost(fleet.Host{Name: "web1"}), store.CreateHost(fleet.Host{Name: "web2"}),
		store.CreateRepository(fleet.Repository{Repository: job.Repository{Name: "main"}}),
		store.CreatePlan(fleet.Plan{Name: "daily"}, trackStart),
	)
	return s
}

func goodBackup(host string, day int) fleet.BackupSummary {
	at := trackStart.AddDate(0, 0, day)
	return fleet.BackupSummary{Job: job.NewID(at), Host: host, Repository: "main", State: job.Succeeded, FinishedAt: at, NFiles: int64(100 + day)}
}

func trackOf(t *testing.T, s *store.Store, host string) store.Track {
	t.Helper()
	track, err := s.Track("daily", host, "main")
	if err != nil {
		t.Fatal(err)
	}
	return track
}

func TestTrackKeepsTheNewestBackups(t *testing.T) {
	s := newTracked(t)
	for day := range 40 {
		backup := goodBackup("web1", day)
		apply(t, s, store.NoteBackup("daily", store.Sample{BackupSummary: backup}), store.NoteBackup("daily", store.Sample{BackupSummary: backup}))
	}
	track := trackOf(t, s, "web1")
	if len(track.Samples) != store.MaxSamples || track.Samples[0].NFiles != 110 {
		t.Errorf("%d samples from %d on", len(track.Samples), track.Samples[0].NFiles)
	}
	if last, ok := track.Last(); !ok || last.NFiles != 139 {
		t.Errorf("the newest is %+v, %v", last, ok)
	}
	if other := trackOf(t, s, "web2"); len(other.Samples) != 0 {
		t.Errorf("another host has %d samples", len(other.Samples))
	}
}

func TestTrackKeepsDumpsApart(t *testing.T) {
	s := newTracked(t)
	older, newer := goodBackup("web1", 1), goodBackup("web1", 2)
	apply(t, s,
		store.NoteBackup("daily", store.Sample{BackupSummary: newer, Dump: "postgres-dump"}),
		store.NoteBackup("daily", store.Sample{BackupSummary: older, Dump: "postgres-dump"}),
		store.NoteBackup("daily", store.Sample{BackupSummary: older, Dump: "sqlite-dump"}),
	)
	want := map[string]fleet.BackupSummary{"postgres-dump": newer, "sqlite-dump": older}
	track := trackOf(t, s, "web1")
	if diff := cmp.Diff(want, track.Dumps); diff != "" || len(track.Samples) != 0 {
		t.Errorf("%d samples, dumps: %s", len(track.Samples), diff)
	}
}

func TestTrackHoldsUntilAccepted(t *testing.T) {
	s := newTracked(t)
	first, second := goodBackup("web1", 1), goodBackup("web1", 2)
	held := fleet.Suspicion{Job: first.Job, At: first.FinishedAt, Message: "3 files", Holds: true}
	apply(t, s, store.NoteBackup("daily", store.Sample{BackupSummary: first}), store.HoldBackup("daily", "web1", "main", held))
	apply(t, s, store.NoteBackup("daily", store.Sample{BackupSummary: second}),
		store.HoldBackup("daily", "web1", "main", fleet.Suspicion{Job: second.Job, Message: "another"}))
	if diff := cmp.Diff(&held, trackOf(t, s, "web1").Held); diff != "" {
		t.Errorf("a later backup has changed what is held:\n%s", diff)
	}
	apply(t, s, store.AcceptBackup("daily", "web1", "main"), store.HoldBackup("daily", "web1", "main", held))
	track := trackOf(t, s, "web1")
	if track.Held != nil || track.Accepted != second.Job {
		t.Errorf("after it was accepted: held %v, accepted %s", track.Held, track.Accepted)
	}
}

func TestTrackRemembersTheNewestRestoreTestAndOutcome(t *testing.T) {
	s := newTracked(t)
	early, late := trackStart, trackStart.Add(time.Hour)
	apply(t, s,
		store.NoteRestoreTest("daily", "web1", "main", "late", late), store.NoteRestoreTest("daily", "web1", "main", "early", early),
		store.NoteOutcome("daily", "web1", "main", fleet.RunMissed, late), store.NoteOutcome("daily", "web1", "main", fleet.RunFailed, early),
	)
	want := store.Track{
		Plan: "daily", Host: "web1", Repository: "main", LastRun: fleet.RunMissed, LastRunAt: &late, Missed: &late, LastRestoreTest: &late, RestoreTestJob: "late",
	}
	if diff := cmp.Diff(want, trackOf(t, s, "web1")); diff != "" {
		t.Error(diff)
	}
}

func TestTracksGoWithWhatTheyAreOf(t *testing.T) {
	for name, gone := range map[string]store.Change{
		"plan": store.DeletePlan("daily"), "host": store.DeleteHost("web1"), "repository": store.DeleteRepository("main"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newTracked(t)
			backup := goodBackup("web1", 1)
			apply(t, s, store.NoteBackup("daily", store.Sample{BackupSummary: backup}))
			apply(t, s, gone, store.NoteBackup("daily", store.Sample{BackupSummary: backup}))
			tracks, err := s.Tracks("")
			if err != nil || len(tracks) != 0 {
				t.Errorf("%d tracks are left, %v", len(tracks), err)
			}
		})
	}
}

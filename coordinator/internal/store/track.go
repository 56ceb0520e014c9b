package store

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// MaxSamples is how many good backups a [Track] remembers.
const MaxSamples = 30

// Sample is a good backup of a plan.
type Sample struct {
	fleet.BackupSummary
	Dump string `json:"dump,omitempty"` // the hook whose output it is; empty: files
}

// Track is what the backups of one plan, on one host and in one repository, were
// like.
type Track struct {
	Plan       string                         `json:"plan"`
	Host       string                         `json:"host"`
	Repository string                         `json:"repository"`
	Samples    []fleet.BackupSummary          `json:"samples"`         // good ones without dumps, oldest first, at most MaxSamples
	Dumps      map[string]fleet.BackupSummary `json:"dumps,omitempty"` // the newest good one of each hook
	// Held is set while a backup looks unlike those before it, and nobody has
	// accepted that.
	Held     *fleet.Suspicion `json:"held,omitempty"`
	Accepted job.ID           `json:"accepted,omitempty"` // the newest backup that a person has accepted
	// LastRun is how the newest backup ended, good or not, and when.
	LastRun         fleet.RunState `json:"last_run,omitempty"`
	LastRunAt       *time.Time     `json:"last_run_at,omitempty"`
	Missed          *time.Time     `json:"missed,omitempty"`            // when one was missed, the last time
	LastRestoreTest *time.Time     `json:"last_restore_test,omitempty"` // newest good one
	RestoreTestJob  job.ID         `json:"restore_test_job,omitempty"`
}

// NoteBackup adds a good backup to the track of its plan, host and repository. The
// same one, noted again, changes nothing; nor does one of a plan, host or
// repository that is not there any more.
func NoteBackup(plan string, sample Sample) Change {
	return trackChange{plan: plan, host: sample.Host, repository: sample.Repository, edit: func(t *Track) { t.note(sample) }}
}

// NoteRestoreTest stores that a restore test ended well.
func NoteRestoreTest(plan, host, repository string, id job.ID, at time.Time) Change {
	return trackChange{plan: plan, host: host, repository: repository, edit: func(t *Track) {
		if t.LastRestoreTest == nil || at.After(*t.LastRestoreTest) {
			t.LastRestoreTest, t.RestoreTestJob = &at, id
		}
	}}
}

// NoteOutcome stores how the newest backup of a track ended, or that it was missed.
func NoteOutcome(plan, host, repository string, state fleet.RunState, at time.Time) Change {
	return trackChange{plan: plan, host: host, repository: repository, edit: func(t *Track) {
		if t.LastRunAt == nil || !at.Before(*t.LastRunAt) {
			t.LastRun, t.LastRunAt = state, &at
		}
		if state == fleet.RunMissed && (t.Missed == nil || at.After(*t.Missed)) {
			t.Missed = &at
		}
	}}
}

// HoldBackup stores that a backup looks unlike those before it. What is held
// already stays so, with what was found first; what was accepted is not held.
func HoldBackup(plan, host, repository string, found fleet.Suspicion) Change {
	return trackChange{plan: plan, host: host, repository: repository, edit: func(t *Track) {
		if t.Held == nil && t.Accepted < found.Job {
			t.Held = &found
		}
	}}
}

// AcceptBackup stores that a person has accepted the newest backup of a track as
// it is.
func AcceptBackup(plan, host, repository string) Change {
	return trackChange{plan: plan, host: host, repository: repository, edit: func(t *Track) {
		if n := len(t.Samples); n > 0 {
			t.Accepted = t.Samples[n-1].Job
		}
		t.Held = nil
	}}
}

func (t *Track) note(sample Sample) {
	if sample.Dump != "" {
		if known := t.Dumps[sample.Dump]; !sample.FinishedAt.Before(known.FinishedAt) {
			dumps := map[string]fleet.BackupSummary{sample.Dump: sample.BackupSummary}
			for hook, summary := range t.Dumps {
				if hook != sample.Dump {
					dumps[hook] = summary
				}
			}
			t.Dumps = dumps
		}
		return
	}
	if slices.ContainsFunc(t.Samples, func(s fleet.BackupSummary) bool { return s.Job == sample.Job }) {
		return
	}
	t.Samples = append(t.Samples, sample.BackupSummary)
	slices.SortStableFunc(t.Samples, func(a, b fleet.BackupSummary) int {
		return cmp.Or(a.FinishedAt.Compare(b.FinishedAt), cmp.Compare(a.Job, b.Job))
	})
	t.Samples = t.Samples[max(0, len(t.Samples)-MaxSamples):]
}

// Last returns the newest good backup without dumps; false: there is none.
func (t Track) Last() (fleet.BackupSummary, bool) {
	if len(t.Samples) == 0 {
		return fleet.BackupSummary{}, false
	}
	return t.Samples[len(t.Samples)-1], true
}

// trackChange edits a track, which it makes when there is none.
type trackChange struct {
	plan, host, repository string
	edit                   func(*Track)
}

func (c trackChange) apply(tx *transaction) error {
	if !tx.has(bucketPlans, c.plan) || !tx.has(bucketHosts, c.host) || !tx.has(bucketRepositories, c.repository) {
		return nil
	}
	key := trackKey(c.plan, c.host, c.repository)
	track, _, err := get[Track](tx.tx, bucketTracks, key)
	if err != nil {
		return err
	}
	track.Plan, track.Host, track.Repository = c.plan, c.host, c.repository
	c.edit(&track)
	return tx.put(bucketTracks, key, track)
}

func trackKey(plan, host, repository string) string {
	return pairKey(pairKey(plan, host), repository)
}

// deleteTracks removes the tracks of a host, or of a repository.
func (t *transaction) deleteTracks(host, repository string) error {
	for _, key := range keysWithPrefix(t.bucket(bucketTracks), nil) {
		parts := strings.Split(string(key), "\x00")
		if len(parts) != 3 || parts[1] != host && parts[2] != repository {
			continue
		}
		if err := t.delete(bucketTracks, key); err != nil {
			return err
		}
	}
	return nil
}

// Track returns what the backups of a plan on a host and in a repository were
// like; the zero value, with its names, when there are none.
func (s *Store) Track(plan, host, repository string) (Track, error) {
	track, _, err := one[Track](s, bucketTracks, trackKey(plan, host, repository))
	track.Plan, track.Host, track.Repository = plan, host, repository
	return track, err
}

// Tracks returns every track of a plan by host and repository; of all plans when
// none is named.
func (s *Store) Tracks(plan string) (tracks []Track, err error) {
	prefix := ""
	if plan != "" {
		prefix = pairKey(plan, "")
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		tracks, err = all[Track](tx, bucketTracks, prefix)
		return err
	})
	return tracks, err
}

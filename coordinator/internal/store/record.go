package store

import (
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// AttemptState is what must be remembered of an attempt beside its job: how far
// its host's events are stored, and what its host's journal looked like then.
type AttemptState struct {
	Job       job.ID    `json:"job"`
	Attempt   int       `json:"attempt"`
	Host      string    `json:"host"`
	LastSeq   int       `json:"last_seq"`   // number of the newest stored event; 0: none
	Stamp     bus.Stamp `json:"stamp"`      // newest known of the host's journal for this attempt
	ExpiresAt time.Time `json:"expires_at"` // end of the order's life; zero: not ordered yet
	Finished  bool      `json:"finished"`   // the finished event is stored; kept until the host forgets
}

// RepositoryRecord is what jobs have brought to light about a repository.
type RepositoryRecord struct {
	Info          *job.RepositoryInfo `json:"info"`
	InfoAt        *time.Time          `json:"info_at"`
	LastCheck     *time.Time          `json:"last_check"`
	LastVerify    *time.Time          `json:"last_verify,omitempty"` // newest good check that read all data
	LastPrune     *time.Time          `json:"last_prune"`
	LastCompact   *time.Time          `json:"last_compact"`
	KeyExportedAt *time.Time          `json:"key_exported_at"`
	ArchivesAsOf  *time.Time          `json:"archives_as_of"`       // when borg last listed all archives
	Encryption    job.Encryption      `json:"encryption,omitempty"` // as borg last said; empty: it has not yet
	// Unsettled are the jobs that may have removed archives since these were last
	// listed, and could not say which. Depot only.
	Unsettled []job.ID `json:"unsettled,omitempty"`
	Damage    Damage   `json:"damage,omitempty"`
}

// Damage is what is known of damage in a repository that is kept from deletions
// when there is some.
type Damage string

// What is known of damage. Empty: there is none.
const (
	DamageFound    Damage = "found"    // the repository is frozen for it
	DamageAccepted Damage = "accepted" // somebody has seen it, and let the repository go
)

// JobCount is how many jobs of one kind are in one state.
type JobCount struct {
	State job.State
	Kind  job.Kind
	Count int
}

// idempotencyRecord is what an idempotency key stands for.
type idempotencyRecord struct {
	Job job.ID    `json:"job"`
	At  time.Time `json:"at"`
}

// MaxRuns is how many outcomes of backups are remembered for each host.
const MaxRuns = 14

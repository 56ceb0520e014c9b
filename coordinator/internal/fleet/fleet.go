// Package fleet is the coordinator's vocabulary of hosts, repositories and
// people, of what they are known by (identities, tokens, sealed passphrases), of
// the audit, and of the [Actor] in whose name something is done. It does nothing
// by itself.
package fleet

import (
	"errors"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// ErrHostAway says that a message was certainly not delivered, because nobody
// listens for that host. Any other error of a link is ambiguous.
var ErrHostAway = errors.New("host is not connected")

// Mode says how a host is reached.
type Mode string

// Modes.
const (
	ModeAgent Mode = "agent" // its agent connects out to the bus
	ModeSSH   Mode = "ssh"   // the coordinator connects in
	ModeLocal Mode = "local" // the coordinator's own machine, for the care of its depot
)

// LocalHost is the name of the coordinator's own machine among the hosts. It is
// there once there is a repository in the depot, and takes jobs for those only.
const LocalHost = "coordinator"

// Host is a machine with data, as it is stored.
type Host struct {
	Name       string            `json:"name"`
	Mode       Mode              `json:"mode"`
	Labels     map[string]string `json:"labels"`
	PublicKey  string            `json:"public_key"` // its bus identity ("U…"); empty: not enrolled yet
	SSHKey     string            `json:"ssh_key"`    // public key for the depot, in authorized_keys form; may be empty
	CreatedAt  time.Time         `json:"created_at"`
	EnrolledAt *time.Time        `json:"enrolled_at"` // when its agent got its identity; null: not yet, or before enrolment existed
	Facts      *Facts            `json:"facts"`       // from its newest hello; null before the first
	SealKey    string            `json:"seal_key"`    // secrets are sealed to it
	Staged     *HostKeys         `json:"staged"`      // keys that its agent changes to; null: none
	SSH        *SSHAccess        `json:"ssh"`         // how to reach it, with mode ssh; else null
	Reach      Reach             `json:"reach"`       // its way to the depot
	// Disabled says that nothing may be backed up from the host: there was no
	// usable borg when it was last looked at.
	Disabled bool `json:"disabled"`
}

// HostKeys are public keys of a host, whose private parts were made there.
type HostKeys struct {
	PublicKey string `json:"public_key"` // its bus identity ("U…")
	SealKey   string `json:"seal_key"`   // empty: unchanged
	SSHKey    string `json:"ssh_key"`    // empty: unchanged
}

// Facts is what a host last said of itself.
type Facts struct {
	AgentVersion string       `json:"agent_version"`
	BorgVersion  string       `json:"borg_version"`
	BorgFailure  *job.Failure `json:"borg_failure"`
	OS           string       `json:"os"`
	Slots        int          `json:"slots"`
	FreeBytes    uint64       `json:"free_bytes"`
	JournalDepth int          `json:"journal_depth"`
	StartedAt    time.Time    `json:"started_at"`
	SeenAt       time.Time    `json:"seen_at"`    // the coordinator's clock
	ClockSkew    float64      `json:"clock_skew"` // seconds that the host's clock is ahead
}

// HostView is a host with its present state, as edges show it.
type HostView struct {
	Host
	Online     bool           `json:"online"`
	Problem    *job.Failure   `json:"problem"`     // mode ssh: why it is not reached; null: it is
	Since      time.Time      `json:"since"`       // online or offline since; zero: never seen
	Running    int            `json:"running"`     // jobs sent or running
	LastBackup *BackupSummary `json:"last_backup"` // newest good one
	Runs       []job.State    `json:"runs"`        // the last backups' outcomes, oldest first, at most 14
}

// BackupSummary is one good backup in short.
type BackupSummary struct {
	Job              job.ID    `json:"job"`
	Host             string    `json:"host"`
	Repository       string    `json:"repository"`
	Archive          string    `json:"archive"`
	State            job.State `json:"state"`
	FinishedAt       time.Time `json:"finished_at"`
	OriginalSize     int64     `json:"original_size"`
	DeduplicatedSize int64     `json:"deduplicated_size"`
	NFiles           int64     `json:"nfiles"`
	Duration         float64   `json:"duration"` // seconds
}

// Repository is a borg repository, as it is stored. Its passphrase is kept
// apart, encrypted.
type Repository struct {
	job.Repository
	CreatedAt     time.Time `json:"created_at"`
	HasPassphrase bool      `json:"has_passphrase"`
	Custody       Custody   `json:"custody"` // who can read the passphrase
	// Depot is set for what the coordinator keeps itself, and null for the others.
	Depot *Depot `json:"depot"`
	// Pending says that only a call which is not over has named it: it goes away
	// again if that call fails.
	Pending bool `json:"pending,omitempty"`
}

// Custody says who keeps a repository's passphrase.
type Custody string

// Kinds of custody.
const (
	// CustodyCoordinator is a passphrase encrypted in the store, which the
	// coordinator seals to each host that needs it.
	CustodyCoordinator Custody = "coordinator"
	// CustodyHosts is a passphrase that was sealed to each host where it was
	// typed in: the coordinator stores what it cannot read.
	CustodyHosts Custody = "hosts"
)

// RepositoryView is a repository with what is known from its jobs.
type RepositoryView struct {
	Repository
	Busy          string              `json:"busy"`        // what holds it: "backup of web1"; empty when free
	BusyJob       job.ID              `json:"busy_job"`    // that job
	LastBackup    *BackupSummary      `json:"last_backup"` // newest good one of any host
	Info          *job.RepositoryInfo `json:"info"`        // from the newest info or init
	InfoAt        *time.Time          `json:"info_at"`
	LastCheck     *time.Time          `json:"last_check"`      // newest good check
	LastVerify    *time.Time          `json:"last_verify"`     // newest good check that read all data
	LastPrune     *time.Time          `json:"last_prune"`      // newest good prune
	LastCompact   *time.Time          `json:"last_compact"`    // newest good compact
	KeyExportedAt *time.Time          `json:"key_exported_at"` // when borg's key was last exported; null: never
	HasKey        bool                `json:"has_key"`         // borg keeps a key for it, without which no archive can be read
	SealedFor     []string            `json:"sealed_for"`      // hosts that the passphrase is sealed to, with custody "hosts"
}

// NewRepository is a request to add a repository.
type NewRepository struct {
	Name       string         `json:"name"`
	Location   string         `json:"location"`
	Encryption job.Encryption `json:"encryption"` // empty means repokey-blake2
	Passphrase secret.Value   `json:"passphrase"`
	Generate   bool           `json:"generate_passphrase"` // make a strong one; not with custody "hosts"
	Custody    Custody        `json:"custody"`             // empty means coordinator
	Depot      *Depot         `json:"depot,omitempty"`     // with the location "depot"; null: its defaults
	// Sealed is the passphrase for each host by name, with custody "hosts".
	Sealed map[string]SealedPassphrase `json:"sealed,omitempty"`
}

// SealedPassphrase is a passphrase that only one host can read.
type SealedPassphrase struct {
	secret.Sealed
	SealKey string `json:"seal_key"` // the host's public key that it was sealed to
}

// Status is the whole in short: what borgfleet status, its API call and its
// bus request answer.
type Status struct {
	Summary     string            `json:"summary"` // one sentence: "All 3 backups are fresh"
	At          time.Time         `json:"at"`
	Version     string            `json:"version"`
	HostsOnline int               `json:"hosts_online"`
	HostsTotal  int               `json:"hosts_total"`
	Jobs        map[job.State]int `json:"jobs"` // by state; terminal ones of the last 24 h
	Hosts       []HostView        `json:"hosts"`
	Running     []job.Job         `json:"running"` // sent and running
	Queued      []job.Job         `json:"queued"`
	Recent      []job.Job         `json:"recent"`    // newest terminal ones, at most 10
	Attention   []Attention       `json:"attention"` // what needs a person
	// KeysNotExported names the repositories whose key was never exported: if
	// the repository's own copy is lost, so are its archives.
	KeysNotExported []string `json:"keys_not_exported"`
}

// Attention is one thing that needs a person.
type Attention struct {
	Kind       string    `json:"kind"` // failed, warning, offline, no_borg, clock, certificate, disk_low, store, restored, duplicate, rolled_back, mount, frozen, unreachable, verify
	Host       string    `json:"host"`
	Repository string    `json:"repository"`
	Plan       string    `json:"plan"` // may be empty
	Severity   Severity  `json:"severity"`
	Job        job.ID    `json:"job"` // may be empty
	Message    string    `json:"message"`
	Hint       string    `json:"hint"`
	Since      time.Time `json:"since"`
}

// JobLog is what is stored of a job's log, from some place on.
type JobLog struct {
	Lines    []LogEntry `json:"lines"`
	Next     int        `json:"next"`     // give it back as "after" for what comes later
	Complete bool       `json:"complete"` // nothing will ever follow Lines
}

// LogEntry is one log line with its place: the event (attempt, seq) that
// brought it.
type LogEntry struct {
	Attempt int `json:"attempt"`
	Seq     int `json:"seq"`
	job.LogLine
}

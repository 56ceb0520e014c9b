package job

import (
	"encoding/json"
	"time"
)

// Job is one piece of work for one host and one repository.
type Job struct {
	ID         ID     `json:"id"`
	Kind       Kind   `json:"kind"`
	Host       string `json:"host"`
	Repository string `json:"repository"`
	// For is the host whose archives the job is about, when it runs on the
	// coordinator itself: care of a repository in the depot. Empty: Host's.
	For         string     `json:"for,omitempty"`
	Plan        string     `json:"plan"`
	Run         string     `json:"run,omitempty"`    // of its plan, that it belongs to; empty: none
	Series      string     `json:"series,omitempty"` // the name of a backup's archive begins so, and the time follows; empty: "<host>-"
	State       State      `json:"state"`
	Reason      string     `json:"reason"`  // why it waits, for a person; empty when it does not
	Attempt     int        `json:"attempt"` // number of the current or last attempt; 0 before the first order
	MaxAttempts int        `json:"max_attempts"`
	Priority    int        `json:"priority"` // higher goes first; -100 to 100
	RetryAt     *time.Time `json:"retry_at"` // queued after a failed attempt: when the next may begin
	// ExpiresAt is when the job expires, if no host has accepted it by then. A
	// retry may wait for as long again, counted from RetryAt.
	ExpiresAt   *time.Time `json:"expires_at"`
	Timeout     int        `json:"timeout"`              // seconds that an attempt may run; 0: no limit
	RetryWait   int        `json:"retry_wait,omitempty"` // seconds before the second attempt, doubled from there; 0: the coordinator's own
	Window      *Window    `json:"window,omitempty"`     // hours in which attempts may begin; null: any
	SubmittedBy string     `json:"submitted_by"`
	SubmittedAt time.Time  `json:"submitted_at"`
	StartedAt   *time.Time `json:"started_at"`  // when borg's process of the last attempt was started
	FinishedAt  *time.Time `json:"finished_at"` // when the job became terminal
	Spec        Spec       `json:"spec"`
	Progress    *Progress  `json:"progress"` // live; null when the job does not run
	Result      *Result    `json:"result"`
	Failure     *Failure   `json:"failure"`
	// CancelRequested says that a person asked to end the job; it is cancelled
	// once its process is known to be gone.
	CancelRequested bool      `json:"cancel_requested"`
	Attempts        []Attempt `json:"attempts"` // oldest first
}

// Window is hours of the day.
type Window struct {
	Hours    string `json:"hours"`          // from-to, for example 22:00-06:00
	Timezone string `json:"timezone"`       // IANA name; empty: UTC
	Ends     bool   `json:"ends,omitempty"` // what begins in it must end in it, too
}

// Attempt is one try of a job. Its state is running or terminal.
type Attempt struct {
	Number     int        `json:"number"` // 1, 2, …
	State      State      `json:"state"`
	Archive    string     `json:"archive,omitempty"` // the archive's name, for a backup
	SentAt     time.Time  `json:"sent_at"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	PID        int        `json:"pid,omitempty"` // of its process on the host; 0 before the start
	Failure    *Failure   `json:"failure"`
}

// UnmarshalJSON decodes a job; the spec is decoded by the job's kind. The job was
// valid when it was submitted, maybe by another version: its spec is not judged
// again, and fields that this version does not know are passed over, as
// everywhere in a job.
func (j *Job) UnmarshalJSON(data []byte) error {
	type plain Job
	shadow := struct {
		*plain
		Spec json.RawMessage `json:"spec"`
	}{plain: (*plain)(j)}
	if err := json.Unmarshal(data, &shadow); err != nil {
		return err
	}
	spec, err := readSpec(j.Kind, shadow.Spec)
	if err != nil {
		return err
	}
	j.Spec = spec
	return nil
}

// Title is the job in a few words: "backup of web1", or "prune for web1" when
// another host runs it.
func (j Job) Title() string {
	if j.For != "" {
		return string(j.Kind) + " for " + j.For
	}
	return string(j.Kind) + " of " + j.Host
}

// Duration is the time from the last attempt's start to its end, or to now
// while it runs; 0 before the start.
func (j Job) Duration(now time.Time) time.Duration {
	if j.StartedAt == nil {
		return 0
	}
	if j.FinishedAt != nil {
		return j.FinishedAt.Sub(*j.StartedAt)
	}
	return now.Sub(*j.StartedAt)
}

// Progress is the newest of what borg said about where it is.
type Progress struct {
	Phase            string    `json:"phase"` // create, check, prune, compact, cache.sync, PhaseMounted, …
	NFiles           int64     `json:"nfiles"`
	OriginalSize     int64     `json:"original_size"`
	CompressedSize   int64     `json:"compressed_size"`
	DeduplicatedSize int64     `json:"deduplicated_size"`
	Path             string    `json:"path"`        // the file, or borg's words, it is at
	Percent          *float64  `json:"percent"`     // null without a base; at most 99 while running
	Rate             *int64    `json:"rate"`        // bytes of original data a second
	ETASeconds       *int64    `json:"eta_seconds"` // from the previous archive
	At               time.Time `json:"at"`          // borg's own time of this line
}

// PhaseMounted is where a mount job is once its mount point can be used.
const PhaseMounted = "mounted"

// Mounted reports whether what a mount job mounts can be used.
func (j Job) Mounted() bool {
	return j.State == Running && j.Progress != nil && j.Progress.Phase == PhaseMounted
}

// Baseline is what the previous good backup of the same data looked like; the
// percentage and the ETA are estimated from it.
type Baseline struct {
	OriginalSize int64 `json:"original_size"`
	NFiles       int64 `json:"nfiles"`
}

// Result is what a job brought. Fields that do not belong to its kind are empty.
type Result struct {
	Archive            string   `json:"archive,omitempty"` // made, described, listed, or restored from
	ArchiveID          string   `json:"archive_id,omitempty"`
	OriginalSize       int64    `json:"original_size"`
	CompressedSize     int64    `json:"compressed_size"`
	DeduplicatedSize   int64    `json:"deduplicated_size"`
	NFiles             int64    `json:"nfiles"`
	CompressionRatio   float64  `json:"compression_ratio"`   // compressed ÷ original; 0 when original is 0
	DeduplicationRatio float64  `json:"deduplication_ratio"` // deduplicated ÷ original; 0 when original is 0
	Duration           float64  `json:"duration"`            // seconds that borg's process lived
	BorgVersion        string   `json:"borg_version"`
	Warnings           []string `json:"warnings"` // the first MaxWarnings of them
	WarningsOmitted    int      `json:"warnings_omitted,omitempty"`

	Encryption      Encryption        `json:"encryption,omitempty"`       // backup, list: the repository's, as borg says
	Archives        []Archive         `json:"archives,omitempty"`         // list; newest last
	ArchivesOmitted int               `json:"archives_omitted,omitempty"` // older ones left out of a long list
	Repository      *RepositoryInfo   `json:"repository,omitempty"`       // info, init
	Kept            []string          `json:"kept,omitempty"`             // prune
	KeptOmitted     int               `json:"kept_omitted,omitempty"`     // more of them, left out
	KeptBy          map[string]string `json:"kept_by,omitempty"`          // prune: the rule that keeps an archive, by its name: "daily #3"
	Pruned          []string          `json:"pruned,omitempty"`           // prune; with dry_run: would be
	PrunedOmitted   int               `json:"pruned_omitted,omitempty"`   // more of them, left out
	Deleted         []string          `json:"deleted,omitempty"`          // delete; with dry_run: would be
	DeletedOmitted  int               `json:"deleted_omitted,omitempty"`  // more of them, left out
	Diff            *Difference       `json:"diff,omitempty"`             // diff
	MountPoint      string            `json:"mount_point,omitempty"`      // mount, umount: without symbolic links
	Checks          []Finding         `json:"checks,omitempty"`           // verify, in the order in which they were made
	Damaged         []string          `json:"damaged,omitempty"`          // check, list: files and chunks that are lost or damaged, in borg's words
	DamagedOmitted  int               `json:"damaged_omitted,omitempty"`  // more of them, left out
	FreedBytes      *int64            `json:"freed_bytes,omitempty"`      // compact; null when borg did not say
	Target          string            `json:"target,omitempty"`           // restore: the directory written to, without symbolic links
	KeyExport       string            `json:"key_export,omitempty"`       // key-export: borg's key as an armoured age file
	Locks           []Lock            `json:"locks,omitempty"`            // break-lock: who held the repository's lock
	Broken          bool              `json:"broken,omitempty"`           // break-lock: the lock was removed
	Evidence        *Evidence         `json:"evidence,omitempty"`         // restore-test: what was compared
}

// Bounds that keep a result below the bus's message size.
const (
	MaxWarnings = 100
	MaxArchives = 1000
	MaxDamaged  = 200
	MaxChanges  = 1000
)

// SetRatios computes both ratios from the sizes.
func (r *Result) SetRatios() {
	r.CompressionRatio, r.DeduplicationRatio = 0, 0
	if r.OriginalSize > 0 {
		r.CompressionRatio = float64(r.CompressedSize) / float64(r.OriginalSize)
		r.DeduplicationRatio = float64(r.DeduplicatedSize) / float64(r.OriginalSize)
	}
}

// Archive is one line of a repository's list.
type Archive struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Start    time.Time `json:"start"`
	Hostname string    `json:"hostname,omitempty"`
	Username string    `json:"username,omitempty"`
	Comment  string    `json:"comment,omitempty"`
}

// Finding is one thing that a host was verified for.
type Finding struct {
	Name   string `json:"name"`   // borg, fuse, space, repository, …
	Good   bool   `json:"good"`   // false: Hint says what to do
	Detail string `json:"detail"` // what was found: "borg 1.2.4 at /usr/bin/borg"
	Hint   string `json:"hint,omitempty"`
}

// Difference is what has changed from one archive to another. Counts are of all
// changes, Changes has the first [MaxChanges]. Sizes are bytes.
type Difference struct {
	Added        int64    `json:"added"`
	Removed      int64    `json:"removed"`
	Modified     int64    `json:"modified"` // content
	Metadata     int64    `json:"metadata"` // only mode, owner, times or the like
	AddedBytes   int64    `json:"added_bytes"`
	RemovedBytes int64    `json:"removed_bytes"`
	Changes      []Change `json:"changes"`
	Omitted      int64    `json:"omitted,omitempty"` // more of them, left out
}

// Change is one path that differs between two archives.
type Change struct {
	Path    string `json:"path"`
	Kind    string `json:"kind"`    // added, removed, modified, metadata
	Type    string `json:"type"`    // file, directory, link, other; empty when borg does not say
	Added   int64  `json:"added"`   // bytes
	Removed int64  `json:"removed"` // bytes
	Detail  string `json:"detail"`  // for example "mode -rw-r--r-- to -rw-------"; may be empty
}

// RepositoryInfo is what borg info says of a repository. Sizes are bytes.
type RepositoryInfo struct {
	ID           string     `json:"id"`
	Location     string     `json:"location"`
	LastModified *time.Time `json:"last_modified"`
	Encryption   Encryption `json:"encryption"`
	UniqueChunks int64      `json:"unique_chunks"`
	TotalChunks  int64      `json:"total_chunks"`
	TotalSize    int64      `json:"total_size"`  // sum over all archives, uncompressed
	UniqueCSize  int64      `json:"unique_size"` // deduplicated and compressed: what the disk holds
}

package job

import (
	"errors"
	"regexp"
)

// What a restore test samples, if nothing was said.
const (
	DefaultSampleFiles = 20
	DefaultSampleBytes = 1 << 30
)

// Bounds of what a restore test samples, and of what is kept of it.
const (
	MaxSampleFiles = 1000
	MaxEvidence    = 200
)

// RestoreTestSpec restores a sample of an archive into a scratch directory,
// compares it with what is on the host now where that has not changed since, and
// removes it again.
type RestoreTestSpec struct {
	Archive string  `json:"archive"`          // the archive's name
	Files   int     `json:"files,omitempty"`  // at most so many files; 0 = DefaultSampleFiles
	Bytes   int64   `json:"bytes,omitempty"`  // and so many bytes of content; 0 = DefaultSampleBytes
	Seed    int64   `json:"seed,omitempty"`   // the same seed chooses the same files of an archive
	Canary  *Canary `json:"canary,omitempty"` // must be there, with this content; null: there is none
	// Target is an absolute scratch directory on the host, in which a directory of
	// the job's own is made and removed; empty: borgfleet's own.
	Target string `json:"target,omitempty"`
	// NoSource says that the archive is another host's: nothing is compared with
	// what is on this one, and all but the canary counts as gone.
	NoSource bool `json:"no_source,omitempty"`
}

// Kind implements [Spec].
func (RestoreTestSpec) Kind() Kind { return TestRestore }

// Validate implements [Spec].
func (s RestoreTestSpec) Validate() error {
	faults := []error{checkExisting("archive", s.Archive), notNegative("files", s.Files), s.Canary.check()}
	if s.Files > MaxSampleFiles {
		faults = append(faults, badSpec("files", "%d is more than %d", s.Files, MaxSampleFiles).WithHint("restore the whole archive to see all of it"))
	}
	if s.Bytes < 0 {
		faults = append(faults, badSpec("bytes", "must not be negative").WithHint("leave it out, or give a number above 0"))
	}
	if s.Target != "" {
		faults = append(faults, checkDirectory("target", s.Target, "/var/restore/borgfleet"))
	}
	return errors.Join(faults...)
}

var canaryName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// checkCanary checks the canary of a backup, which is a file beside others.
func (s BackupSpec) checkCanary() error {
	if s.Canary != nil && s.ContentFrom+s.PathsFrom != "" {
		return badSpec("canary", "cannot be combined with content_from or paths_from").WithHint("leave it out: what a script brings is all that is in the archive")
	}
	return s.Canary.check()
}

func (c *Canary) check() error {
	switch {
	case c == nil:
		return nil
	case !canaryName.MatchString(c.Name):
		return badSpec("canary.name", "%q is not the name of a canary", c.Name).WithHint("1 to 63 of a-z, 0-9, dot, dash and underscore")
	case c.Content == "" || len(c.Content) > 1<<10:
		return badSpec("canary.content", "%d bytes, not between 1 and 1024", len(c.Content))
	}
	return checkText("canary.content", c.Content)
}

// Evidence is what a restore test has seen.
type Evidence struct {
	Archive    string         `json:"archive"`
	Files      int            `json:"files"`     // restored
	Bytes      int64          `json:"bytes"`     // restored
	Same       int            `json:"same"`      // as on the host now
	Changed    int            `json:"changed"`   // on the host since the backup, and so not compared
	Gone       int            `json:"gone"`      // from the host since the backup
	Different  int            `json:"different"` // from the host, which has not changed: a fault
	Canary     *bool          `json:"canary"`    // it was there and right; null: there is none
	Seconds    float64        `json:"seconds"`   // that borg took to restore
	FilesOf    int64          `json:"files_of"`  // how many files the sample was taken from
	Sample     []EvidenceFile `json:"sample"`    // the first MaxEvidence
	Omitted    int            `json:"omitted,omitempty"`
	RestoredAt string         `json:"restored_at"` // the scratch directory, gone since
}

// EvidenceFile is one file that was restored.
type EvidenceFile struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`  // of what was restored
	Verdict string `json:"verdict"` // same, changed, gone, different, canary, or missing: it did not come back
}

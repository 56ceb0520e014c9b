package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on what a submission may carry.
const (
	MaxSpecBytes = 256 << 10 // a whole spec as JSON; an order must fit a bus message
	maxListItems = 10_000    // paths or patterns
	maxItemBytes = 4096      // one path or pattern (Linux PATH_MAX)
)

// Spec says what a job of one kind is to do. Specs are plain values; a spec
// that came out of [ParseSpec] is valid.
type Spec interface {
	// Kind returns the kind that the spec belongs to.
	Kind() Kind
	// Validate returns nil, or every fault found, joined; each fault is a
	// *Failure with code invalid_spec that names its field.
	Validate() error
}

// InitSpec creates a repository.
type InitSpec struct {
	// Encryption overrides the repository's own mode; empty means that mode.
	Encryption Encryption `json:"encryption,omitempty"`
}

// BackupSpec creates one archive (borg create).
type BackupSpec struct {
	Paths         []string `json:"paths"`                     // absolute, at least one
	Exclude       []string `json:"exclude,omitempty"`         // borg patterns
	Compression   string   `json:"compression,omitempty"`     // borg's notation; default lz4
	Archive       string   `json:"archive,omitempty"`         // a name, or borg's template of one, filled in on the host; default <host>-<UTC time>
	Comment       string   `json:"comment,omitempty"`         // stored in the archive
	ExcludeCaches bool     `json:"exclude_caches,omitempty"`  // skip tagged cache directories
	OneFileSystem bool     `json:"one_file_system,omitempty"` // stay on the paths' file systems
	NumericIDs    bool     `json:"numeric_ids,omitempty"`     // store no user and group names
	UploadLimit   int      `json:"upload_limit,omitempty"`    // KiB/s to the repository; 0 = none
	// ListFiles gives the log a line for each file that is added (A), modified
	// (M), changed while it was read (C), or cannot be read (E); unchanged files
	// are left out. Of a long list the log keeps the beginning and the end.
	ListFiles bool `json:"list_files,omitempty"`

	Patterns           []string   `json:"patterns,omitempty"`            // borg's --pattern, in this order: "+ home/*/Mail", "- home"
	PatternsFrom       []string   `json:"patterns_from,omitempty"`       // files on the host with such lines
	ExcludeFrom        []string   `json:"exclude_from,omitempty"`        // files on the host with an exclude pattern a line
	ExcludeIfPresent   []string   `json:"exclude_if_present,omitempty"`  // skip directories that have a file of this name
	KeepExcludeTags    bool       `json:"keep_exclude_tags,omitempty"`   // but keep the tag file itself
	ExcludeNoDump      bool       `json:"exclude_nodump,omitempty"`      // skip files flagged nodump
	CheckpointInterval int        `json:"checkpoint_interval,omitempty"` // seconds between checkpoints; 0 = 300
	FilesCache         FilesCache `json:"files_cache,omitempty"`         // how unchanged files are recognised; default borg's
	ReadSpecial        bool       `json:"read_special,omitempty"`        // back up what is in devices and pipes
	Sparse             bool       `json:"sparse,omitempty"`              // find holes in files
	NoXattrs           bool       `json:"no_xattrs,omitempty"`
	NoACLs             bool       `json:"no_acls,omitempty"`
	NoFlags            bool       `json:"no_flags,omitempty"`
	// ContentFrom is the name of a script among the host's own hooks, whose output
	// becomes the one file of the archive, named StdinName. There are no paths then.
	ContentFrom string `json:"content_from,omitempty"`
	StdinName   string `json:"stdin_name,omitempty"` // default: the script's name
	// PathsFrom is the name of a script among the host's own hooks that prints the
	// paths to back up, each ended by a NUL byte. There are no paths then.
	PathsFrom string `json:"paths_from,omitempty"`
	// ExtraOptions are handed to borg create as they are. They need the role admin,
	// and policy.extra_options on the host.
	ExtraOptions []string `json:"extra_options,omitempty"`
	Hooks        *Hooks   `json:"hooks,omitempty"`
	// Canary is a small file that is written on the host and added to the archive,
	// for a restore test to find. Not with content_from or paths_from.
	Canary *Canary `json:"canary,omitempty"`
}

// Hooks are scripts among the host's own that run around a backup, by name. Their
// output goes to the job's log. One that exits with 75 before the backup makes it
// end as cancelled, with the code skipped.
type Hooks struct {
	Before    []string `json:"before,omitempty"`     // in this order; the first that fails fails the backup
	After     []string `json:"after,omitempty"`      // whatever happened
	OnFailure []string `json:"on_failure,omitempty"` // after a failure, before those of After
	Timeout   int      `json:"timeout,omitempty"`    // seconds that each may run; 0 = DefaultHookTimeout
}

// DefaultHookTimeout is how long a hook may run, in seconds, if nothing was said.
const DefaultHookTimeout = 3600

// SkipExit is the exit code with which a hook asks to leave a backup out
// (EX_TEMPFAIL of sysexits.h).
const SkipExit = 75

// Canary is a small file whose content is known beforehand.
type Canary struct {
	Name    string `json:"name"`    // of the file: a plan's name
	Content string `json:"content"` // at most 1 KiB of text
}

// FilesCache is how borg recognises a file that has not changed (--files-cache).
type FilesCache string

// Modes of the files cache.
const (
	CacheCtimeSizeInode FilesCache = "ctime,size,inode" // borg's default
	CacheMtimeSizeInode FilesCache = "mtime,size,inode"
	CacheCtimeSize      FilesCache = "ctime,size"
	CacheMtimeSize      FilesCache = "mtime,size"
	CacheRechunkCtime   FilesCache = "rechunk,ctime"
	CacheRechunkMtime   FilesCache = "rechunk,mtime"
	CacheDisabled       FilesCache = "disabled"
)

// FilesCaches returns every mode of the files cache.
func FilesCaches() []FilesCache {
	return []FilesCache{CacheCtimeSizeInode, CacheMtimeSizeInode, CacheCtimeSize, CacheMtimeSize, CacheRechunkCtime, CacheRechunkMtime, CacheDisabled}
}

// ListSpec lists the archives of a repository, newest last; or the files of one
// archive, which the coordinator then keeps to be browsed (see [Streams]).
type ListSpec struct {
	Archive string    `json:"archive,omitempty"` // list this archive's files; excludes all below
	Prefix  string    `json:"prefix,omitempty"`  // only archives whose name begins so
	Glob    string    `json:"glob,omitempty"`    // only archives whose name matches: * ? [abc]; excludes prefix
	Last    int       `json:"last,omitempty"`    // only the newest N; 0 = all
	After   time.Time `json:"after,omitzero"`    // only archives begun then or later
	Before  time.Time `json:"before,omitzero"`   // only archives begun before
}

// InfoSpec asks for the sizes of a repository, or of one archive in it.
type InfoSpec struct {
	Archive string `json:"archive,omitempty"`
}

// PruneSpec deletes archives that no keep rule wants.
type PruneSpec struct {
	KeepWithin  string `json:"keep_within,omitempty"` // borg's interval, for example 2d
	KeepLast    int    `json:"keep_last,omitempty"`
	KeepHourly  int    `json:"keep_hourly,omitempty"`
	KeepDaily   int    `json:"keep_daily,omitempty"`
	KeepWeekly  int    `json:"keep_weekly,omitempty"`
	KeepMonthly int    `json:"keep_monthly,omitempty"`
	KeepYearly  int    `json:"keep_yearly,omitempty"`
	// Prefix narrows to archives whose name begins so. Default: those whose name
	// is the host's own default, "<host>-<time>", and no other host's.
	Prefix string `json:"prefix,omitempty"`
	// All considers every archive of the repository; excludes prefix. It is
	// refused where another host has archives, as any prefix is that reaches them.
	All bool `json:"all,omitempty"`
	// Series is Prefix where a time follows at once, as in the archives of a plan:
	// "web1-daily-" does not reach "web1-daily-db-2026-…". Excludes prefix and all.
	Series string `json:"series,omitempty"`
	// DryRun says what would be deleted, and which rule keeps what.
	DryRun bool `json:"dry_run,omitempty"`
	// MaxPercent is how many of the archives under consideration may go at once,
	// unless Confirmed; 0 = DefaultMaxPercent.
	MaxPercent int  `json:"max_percent,omitempty"`
	Confirmed  bool `json:"confirmed,omitempty"` // a person has seen how many go
}

// DefaultMaxPercent is the share of archives that one prune may delete without
// being asked again.
const DefaultMaxPercent = 50

// CompactSpec frees the space of deleted archives.
type CompactSpec struct {
	Threshold int `json:"threshold,omitempty"` // percent saved before a segment is rewritten; 0 = borg's 10
}

// CheckSpec verifies a repository's consistency.
type CheckSpec struct {
	VerifyData     bool `json:"verify_data,omitempty"`     // read and verify every chunk
	RepositoryOnly bool `json:"repository_only,omitempty"` // skip the archives' metadata
	ArchivesOnly   bool `json:"archives_only,omitempty"`   // skip the repository's segments; excludes repository_only and max_duration
	MaxDuration    int  `json:"max_duration,omitempty"`    // seconds; implies repository_only
	// Repair mends what can be mended; what is lost is lost. Needs the role admin.
	Repair bool   `json:"repair,omitempty"`
	Last   int    `json:"last,omitempty"`   // only the newest N archives; 0 = all
	Prefix string `json:"prefix,omitempty"` // only archives whose name begins so
}

// RestoreSpec writes files of an archive into a directory (borg extract).
type RestoreSpec struct {
	Archive   string   `json:"archive"`             // the archive's name
	Target    string   `json:"target"`              // absolute directory on the host; made when it is missing
	Paths     []string `json:"paths,omitempty"`     // files and directories as the archive has them; empty: everything
	Overwrite bool     `json:"overwrite,omitempty"` // also into a directory that is not empty; files of the same names are replaced
	// KeepExisting also writes into a directory that is not empty, and leaves
	// every file there as it is; excludes overwrite.
	KeepExisting    bool     `json:"keep_existing,omitempty"`
	Exclude         []string `json:"exclude,omitempty"`          // borg patterns
	StripComponents int      `json:"strip_components,omitempty"` // leave out so many leading parts of each path
	NumericIDs      bool     `json:"numeric_ids,omitempty"`      // owners by their numbers, not their names
	DryRun          bool     `json:"dry_run,omitempty"`          // only read the archive, and say what would be restored
	ListFiles       bool     `json:"list_files,omitempty"`       // name each file in the log
	// ContentTo is the name of a script among the host's own hooks, which gets the
	// content of the one file in Paths on its standard input. There is no target
	// then.
	ContentTo string `json:"content_to,omitempty"`
}

// KeyExportSpec gives out the repository's key, so that it can be kept apart
// from the repository (borg key export). The host encrypts it before it leaves.
type KeyExportSpec struct {
	Recipient string `json:"recipient"` // of age: age1…
}

// BreakLockSpec removes the repository's lock and that of borg's cache, if the
// process that held it is known to be gone (borg break-lock).
type BreakLockSpec struct {
	Force  bool `json:"force,omitempty"`   // also a lock whose holder may live: a person has made sure
	DryRun bool `json:"dry_run,omitempty"` // only say who holds it
}

// Kind implements [Spec].
func (InitSpec) Kind() Kind { return Init }

// Kind implements [Spec].
func (BackupSpec) Kind() Kind { return Backup }

// Kind implements [Spec].
func (ListSpec) Kind() Kind { return List }

// Kind implements [Spec].
func (InfoSpec) Kind() Kind { return Info }

// Kind implements [Spec].
func (PruneSpec) Kind() Kind { return Prune }

// Kind implements [Spec].
func (CompactSpec) Kind() Kind { return Compact }

// Kind implements [Spec].
func (CheckSpec) Kind() Kind { return Check }

// Kind implements [Spec].
func (RestoreSpec) Kind() Kind { return Restore }

// Kind implements [Spec].
func (KeyExportSpec) Kind() Kind { return KeyExport }

// Kind implements [Spec].
func (BreakLockSpec) Kind() Kind { return BreakLock }

// codec decodes the specs of one kind.
type codec struct {
	parse func([]byte) (Spec, error) // as submitted: strictly
	read  func([]byte) (Spec, error) // as stored or told by another version
}

func codecOf[S Spec]() codec { return codec{parse: decodeSpec[S], read: decodeKnown[S]} }

// specs decodes the spec of each kind.
var specs = map[Kind]codec{
	Init:      codecOf[InitSpec](),
	Backup:    codecOf[BackupSpec](),
	List:      codecOf[ListSpec](),
	Info:      codecOf[InfoSpec](),
	Restore:   codecOf[RestoreSpec](),
	Prune:     codecOf[PruneSpec](),
	Compact:   codecOf[CompactSpec](),
	Check:     codecOf[CheckSpec](),
	BreakLock: codecOf[BreakLockSpec](),
	KeyExport: codecOf[KeyExportSpec](),
	Delete:    codecOf[DeleteSpec](),
	Mount:     codecOf[MountSpec](),
	Umount:    codecOf[UmountSpec](),
	Diff:      codecOf[DiffSpec](),
	Verify:    codecOf[VerifySpec](),
	Download:  codecOf[DownloadSpec](),

	TestRestore: codecOf[RestoreTestSpec](),
}

// ParseSpec decodes and validates the spec of the given kind. Empty and null
// data stand for the empty spec. Unknown fields are faults. The error is a
// *Failure, or several joined.
func ParseSpec(kind Kind, data []byte) (Spec, error) {
	if !kind.Known() {
		return nil, Fail(UnknownKind, "there is no job kind %q", kind).WithHint("kinds: %s", kindNames(Kinds()))
	}
	if len(data) > MaxSpecBytes {
		return nil, Fail(TooLarge, "spec: %d bytes, more than the %d that are allowed", len(data), MaxSpecBytes).
			WithHint("name directories and patterns instead of single files")
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || bytes.Equal(trimmed, []byte("null")) {
		data = []byte("{}")
	}
	spec, err := specs[kind].parse(data)
	if err != nil {
		return nil, err
	}
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	return spec, nil
}

// readSpec decodes a spec that was valid once: it is not validated, and fields
// that are not known are passed over.
func readSpec(kind Kind, data []byte) (Spec, error) {
	read := specs[kind].read
	if read == nil || len(data) == 0 {
		return ParseSpec(kind, data) // says why not
	}
	return read(data)
}

func decodeKnown[S Spec](data []byte) (Spec, error) {
	var spec S
	err := json.Unmarshal(data, &spec)
	return spec, err
}

func decodeSpec[S Spec](data []byte) (Spec, error) {
	var spec S
	if err := DecodeStrict(data, &spec); err != nil {
		f := AsFailure(err)
		f.Code, f.Message = InvalidSpec, "spec: "+f.Message
		return nil, f
	}
	return spec, nil
}

// DecodeStrict decodes one JSON value into target, refuses unknown fields and
// anything after the value, and returns faults as an invalid_request failure
// that says where.
func DecodeStrict(data []byte, target any) error {
	if !utf8.Valid(data) { // what is not would be replaced, and stand for something else then
		return Fail(InvalidRequest, "the JSON is not UTF-8").WithHint("it holds only text: to back up a file whose name is none, name the directory that it is in")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(target)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			return Fail(InvalidRequest, "malformed JSON at byte %d: more than one value", decoder.InputOffset())
		}
		return nil
	}
	if failure, ok := errors.AsType[*Failure](err); ok {
		return failure
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Invalid(wrong.Field, "expected %s, got %s", wrong.Type, wrong.Value)
	}
	if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
		return Fail(InvalidRequest, "unknown field %s", name).WithHint("check its spelling; /api/v1/docs and the documents list the fields")
	}
	return Fail(InvalidRequest, "malformed JSON at byte %d: %s", decoder.InputOffset(), strings.TrimPrefix(err.Error(), "json: "))
}

func kindNames(kinds []Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ", ")
}

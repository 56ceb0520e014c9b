package fleet

import (
	"io"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Archive is an archive of a repository as it is known here: made by a job, or
// seen in a list.
type Archive struct {
	job.Archive
	Repository       string     `json:"repository"`
	Host             string     `json:"host"`              // the host that made it; empty: not known here
	Job              job.ID     `json:"job"`               // the job that made it; empty: not known here
	OriginalSize     int64      `json:"original_size"`     // bytes, as of its creation; 0: not known
	CompressedSize   int64      `json:"compressed_size"`   // likewise
	DeduplicatedSize int64      `json:"deduplicated_size"` // likewise
	NFiles           int64      `json:"nfiles"`            // likewise
	SeenAt           time.Time  `json:"seen_at"`           // when borg last named it
	ListedAt         *time.Time `json:"listed_at"`         // when its files were listed; null: they were not, or are not kept any more
}

// ArchiveFilter chooses archives. Zero fields do not filter.
type ArchiveFilter struct {
	Repository string    `json:"repository"` // needed
	Host       string    `json:"host,omitempty"`
	Prefix     string    `json:"prefix,omitempty"` // of the name
	Glob       string    `json:"glob,omitempty"`   // over the name: * ? [abc]
	After      time.Time `json:"after,omitzero"`   // begun then or later
	Before     time.Time `json:"before,omitzero"`  // begun before
	Limit      int       `json:"limit,omitempty"`  // 1 to job.MaxPage; 0 means job.DefaultPage
	Cursor     string    `json:"cursor,omitempty"` // from the page before
}

// ArchivePage is one page of archives, newest first.
type ArchivePage struct {
	Archives []Archive `json:"archives"`
	Total    int       `json:"total"`  // that match, on all pages
	Cursor   string    `json:"cursor"` // empty on the last page
	// AsOf is when borg last listed the whole repository; null: never. Archives
	// that others made or deleted since are not known.
	AsOf *time.Time `json:"as_of"`
}

// File is one entry of an archive.
type File struct {
	Path    string    `json:"path"` // without a leading slash
	Name    string    `json:"name"` // its last part
	Type    FileType  `json:"type"`
	Mode    string    `json:"mode"` // as ls shows it: "-rw-r--r--"
	UID     int       `json:"uid"`
	GID     int       `json:"gid"`
	User    string    `json:"user"` // may be empty
	Group   string    `json:"group"`
	Size    int64     `json:"size"` // bytes
	MTime   time.Time `json:"mtime"`
	Target  string    `json:"target,omitempty"`  // of a link
	Damaged bool      `json:"damaged,omitempty"` // parts of it are lost, and replaced by zeros
}

// FileType is what an entry is, as borg says it.
type FileType string

// Types of entries.
const (
	RegularFile FileType = "-"
	Directory   FileType = "d"
	SymLink     FileType = "l"
	HardLink    FileType = "h"
	Fifo        FileType = "p"
	CharDevice  FileType = "c"
	BlockDevice FileType = "b"
	Socket      FileType = "s"
)

// FilesQuery asks for the entries of one directory of an archive.
type FilesQuery struct {
	Repository string `json:"repository"`
	Archive    string `json:"archive"`
	Path       string `json:"path,omitempty"`   // empty: the top
	Limit      int    `json:"limit,omitempty"`  // 1 to MaxFiles; 0 means DefaultFiles
	Cursor     string `json:"cursor,omitempty"` // from the page before
}

// Bounds of pages of entries.
const (
	MaxFiles     = 1000
	DefaultFiles = 200 // if the request does not say
)

// FilePage is one page of the entries of a directory, by name.
type FilePage struct {
	Repository string    `json:"repository"`
	Archive    string    `json:"archive"`
	ListedAt   time.Time `json:"listed_at"`
	Path       string    `json:"path"`  // of the directory
	Entry      *File     `json:"entry"` // the directory itself, or the file, if Path is one; null at the top
	Files      []File    `json:"files"`
	Cursor     string    `json:"cursor"` // empty on the last page
}

// FindQuery searches names in listings.
type FindQuery struct {
	Repository string `json:"repository,omitempty"` // empty: all
	Archive    string `json:"archive,omitempty"`    // empty: all that are listed
	// Name is part of a file's name, in small or capital letters; with * or ? it is
	// a glob over the whole name; with a slash it is looked for in the path.
	Name   string `json:"name"`
	Limit  int    `json:"limit,omitempty"`  // 1 to MaxFiles; 0 means DefaultFiles
	Cursor string `json:"cursor,omitempty"` // from the page before
}

// Match is one entry that was found, and the archive that it is in.
type Match struct {
	Repository string    `json:"repository"`
	Archive    string    `json:"archive"`
	Start      time.Time `json:"start"` // of the archive
	File       File      `json:"file"`
}

// MatchPage is one page of a search: newest archives first, in each by path.
type MatchPage struct {
	Matches  []Match `json:"matches"`
	Searched int     `json:"searched"` // listings that were looked through so far
	Cursor   string  `json:"cursor"`   // empty on the last page
}

// PathVersion is what one path was in one archive.
type PathVersion struct {
	Archive string    `json:"archive"`
	Start   time.Time `json:"start"`   // of the archive
	File    *File     `json:"file"`    // null: it was not there
	Changed bool      `json:"changed"` // it differs from the archive before
}

// PathHistory is one path through all listed archives of a repository, oldest
// first.
type PathHistory struct {
	Repository string        `json:"repository"`
	Path       string        `json:"path"`
	Versions   []PathVersion `json:"versions"`
	NotListed  int           `json:"not_listed"` // archives whose files are not known here
}

// NotListed is the failure of whoever asks for files that are not known here.
func NotListed(repository, archive string) *job.Failure {
	return job.Fail(job.NotListed, "the files of archive %s in repository %s are not listed here", archive, repository).
		WithHint("borgfleet archive files %s %s --host HOST lists them; so does a job of kind list with the archive's name in its spec", repository, archive)
}

// UnknownArchive is the failure of whoever names an archive that is not known.
func UnknownArchive(repository, archive string) *job.Failure {
	return job.Fail(job.ArchiveMissing, "no archive %s is known in repository %s", archive, repository).
		WithHint("borgfleet archive list %s --host HOST asks borg for them", repository)
}

// DownloadTarZst is a tar that the coordinator compresses (zstd).
const DownloadTarZst job.DownloadFormat = "tar.zst"

// DownloadRequest asks for a file or a directory of an archive.
type DownloadRequest struct {
	Host       string // that reads it; empty: the one that made the archive, or the only one
	Repository string
	Archive    string
	Path       string             // empty: everything
	Format     job.DownloadFormat // empty: file of what is known to be a regular file, else tar
	Offset     int64              // bytes to leave out at the beginning: of an earlier download that broke off
	Range      int64              // the same, if the size is known; else nothing is left out
}

// BeyondEnd is the failure of whoever wants a download to begin behind its end.
type BeyondEnd struct {
	*job.Failure
	Size int64 // where that is
}

// Unwrap is for [errors.As].
func (e *BeyondEnd) Unwrap() error { return e.Failure }

// NewBeyondEnd returns that failure.
func NewBeyondEnd(size int64) *BeyondEnd {
	return &BeyondEnd{Size: size, Failure: job.Invalid("offset", "is beyond the end, at %d bytes", size).
		WithHint("was it a download of this very path, in this format?")}
}

// WithListedAt returns a copy of archives of one repository that says when the
// files of each were listed, by its name.
func WithListedAt(archives []Archive, listed map[string]time.Time) []Archive {
	told := make([]Archive, len(archives))
	for i, archive := range archives {
		if at, ok := listed[archive.Name]; ok {
			archive.ListedAt = &at
		}
		told[i] = archive
	}
	return told
}

// Download is one that has begun. Content fails with what went wrong on the
// host; it gives its last bytes out only when borg has ended well. Whoever asked
// for it closes it: before the end, that cancels the job.
type Download struct {
	Job     job.ID
	Host    string
	Format  job.DownloadFormat
	Name    string // for the file that it is stored in
	Size    int64  // of the whole; negative: not known
	Offset  int64  // what is left out of it at the beginning
	Content io.ReadCloser
}

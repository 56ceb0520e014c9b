package job

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// DeleteSpec deletes archives (borg delete). Their space is free after a compact.
type DeleteSpec struct {
	Archives []string `json:"archives,omitempty"` // by name
	Glob     string   `json:"glob,omitempty"`     // or all whose name matches: * ? [abc]
	DryRun   bool     `json:"dry_run,omitempty"`  // only say which ones
}

// MountSpec mounts an archive, or all of a repository, on the host, and runs
// until it is unmounted.
type MountSpec struct {
	Archive    string `json:"archive,omitempty"` // empty: every archive is a directory
	MountPoint string `json:"mount_point"`       // absolute; an empty directory, made when it is missing
	// Idle is after how many seconds without use it is unmounted; 0 =
	// DefaultIdle. While it is mounted no backup can run on the repository.
	Idle int `json:"idle,omitempty"`
}

// DefaultIdle is how long a mount may be unused.
const DefaultIdle = 30 * time.Minute

// UmountSpec unmounts what a mount job has mounted.
type UmountSpec struct {
	MountPoint string `json:"mount_point"`
	Force      bool   `json:"force,omitempty"` // also while it is in use
}

// DiffSpec compares two archives of one repository.
type DiffSpec struct {
	Archive string   `json:"archive"`         // the older one
	Other   string   `json:"other"`           // the newer one
	Paths   []string `json:"paths,omitempty"` // only these, as the archives have them
}

// VerifySpec asks a host whether it can do its work: borg and its features,
// space, and if the job names a repository, whether that can be read. The
// fields are for a repository that is not what the host's borg remembers of it.
// To accept what a person has found right takes the role admin.
type VerifySpec struct {
	AcceptMoved  bool `json:"accept_moved,omitempty"`  // it is at another place now
	AcceptOlder  bool `json:"accept_older,omitempty"`  // it is older now: it was restored from a copy
	RebuildCache bool `json:"rebuild_cache,omitempty"` // forget borg's cache of it; nothing is lost, but the next backup takes longer
}

// DownloadSpec streams a file, or a directory as a tar, to whoever asked for it
// (see [Streams]). The bytes are the same each time.
type DownloadSpec struct {
	Archive string         `json:"archive"`
	Path    string         `json:"path,omitempty"`   // as the archive has it; empty: everything
	Format  DownloadFormat `json:"format,omitempty"` // default tar
}

// DownloadFormat is what a download consists of.
type DownloadFormat string

// Formats of downloads.
const (
	DownloadTar  DownloadFormat = "tar"  // the path and what is below it
	DownloadFile DownloadFormat = "file" // the content of one regular file
)

// Kind implements [Spec].
func (DeleteSpec) Kind() Kind { return Delete }

// Kind implements [Spec].
func (MountSpec) Kind() Kind { return Mount }

// Kind implements [Spec].
func (UmountSpec) Kind() Kind { return Umount }

// Kind implements [Spec].
func (DiffSpec) Kind() Kind { return Diff }

// Kind implements [Spec].
func (VerifySpec) Kind() Kind { return Verify }

// Kind implements [Spec].
func (DownloadSpec) Kind() Kind { return Download }

// Streams reports whether borg's standard output is not for the host, but is
// read by the coordinator piece by piece while the job runs. Borg waits for the
// reader, and ends when it goes away.
func Streams(s Spec) bool {
	switch spec := s.(type) {
	case DownloadSpec:
		return true
	case ListSpec:
		return spec.Archive != ""
	default:
		return false
	}
}

// Validate implements [Spec].
func (s DeleteSpec) Validate() error {
	faults := []error{checkGlob("glob", s.Glob)}
	switch {
	case len(s.Archives) == 0 && s.Glob == "":
		faults = append(faults, badSpec("archives", "is empty: there is nothing to delete").WithHint("name archives, or give a glob"))
	case len(s.Archives) > 0 && s.Glob != "":
		faults = append(faults, badSpec("glob", "cannot be combined with archives").WithHint("give one of them"))
	case len(s.Archives) > MaxArchives:
		faults = append(faults, badSpec("archives", "%d names, more than the %d that are allowed", len(s.Archives), MaxArchives))
	}
	for i, name := range s.Archives {
		faults = append(faults, checkExisting(fmt.Sprintf("archives[%d]", i), name))
	}
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (s MountSpec) Validate() error {
	faults := []error{checkArchive("archive", s.Archive), checkDirectory("mount_point", s.MountPoint, "/var/restore/borgfleet/mnt"), notNegative("idle", s.Idle)}
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (s UmountSpec) Validate() error {
	return checkDirectory("mount_point", s.MountPoint, "/var/restore/borgfleet/mnt")
}

// Validate implements [Spec].
func (s DiffSpec) Validate() error {
	faults := []error{checkExisting("archive", s.Archive), checkExisting("other", s.Other), checkStoredList("paths", s.Paths)}
	if s.Archive != "" && s.Archive == s.Other {
		faults = append(faults, badSpec("other", "is the same archive").WithHint("name two different ones"))
	}
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (VerifySpec) Validate() error { return nil }

// Validate implements [Spec].
func (s DownloadSpec) Validate() error {
	faults := []error{checkExisting("archive", s.Archive)}
	if s.Path != "" {
		faults = append(faults, checkText("path", s.Path), checkStored("path", s.Path))
	}
	switch s.Format {
	case "", DownloadTar:
	case DownloadFile:
		if s.Path == "" {
			faults = append(faults, badSpec("path", "is empty").WithHint("name the file"))
		}
	default:
		faults = append(faults, badSpec("format", "%q is not a format", s.Format).WithHint("one of tar, file"))
	}
	return errors.Join(faults...)
}

// checkExisting checks the name of an archive that must be there.
func checkExisting(field, name string) error {
	if name == "" {
		return badSpec(field, "is empty").WithHint("borgfleet archive list shows the archives of a repository")
	}
	return checkArchive(field, name)
}

// checkGlob checks a glob over archive names; an empty one is none.
func checkGlob(field, glob string) error {
	if _, err := path.Match(glob, ""); err != nil {
		return badSpec(field, "%q is not a glob", glob).WithHint("* and ? stand for anything, [abc] for one of these")
	}
	if strings.ContainsAny(glob, "/\n\r") || strings.HasPrefix(glob, "-") {
		return badSpec(field, "%q matches no archive name", glob).WithHint("names have no slashes and no dash at the start")
	}
	return checkText(field, glob)
}

// MatchesGlob reports whether an archive's name is one that borg chooses by a glob:
// of Go's, in which ^ turns a class around and a backslash protects what follows,
// borg's differs.
func MatchesGlob(glob, name string) bool {
	alike := strings.NewReplacer("[!", "[^", "[^", `[\^`, `\`, `\\`).Replace(glob)
	match, err := path.Match(alike, name)
	return err == nil && match
}

// checkStoredList checks paths inside an archive.
func checkStoredList(field string, paths []string) error {
	faults := []error{checkList(field, paths)}
	for i, p := range paths {
		if p != "" {
			faults = append(faults, checkStored(fmt.Sprintf("%s[%d]", field, i), p))
		}
	}
	return errors.Join(faults...)
}

// checkDirectory checks a directory that something is written to, or mounted
// on. The host's policy says where it may lie.
func checkDirectory(field, dir, example string) error {
	switch {
	case !path.IsAbs(dir):
		return badSpec(field, "%q is not an absolute path", dir).WithHint("a directory on the host, for example %s", example)
	case path.Clean(dir) == "/":
		return badSpec(field, "%q is the whole system", dir).WithHint("give a directory of its own, for example %s, and move from there what you need", example)
	case strings.ContainsAny(dir, "\r\n"):
		return badSpec(field, "contains a line end").WithHint("give a directory whose name is one line, for example %s", example)
	case slices.Contains(strings.Split(dir, "/"), ".."):
		return badSpec(field, "%q has .. in it", dir).WithHint("give the directory itself")
	}
	return checkText(field, dir)
}

package borg

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// checkpointInterval is how often, in seconds, a backup leaves a checkpoint
// from which the next one goes on (borg's default is 1800).
const checkpointInterval = 300

// listedStatus are the files that a backup lists, if it lists files: added,
// modified, changed while they were read, unreadable. Unchanged ones would cost
// 30 µs and 90 bytes each, in every backup.
const listedStatus = "AMCE"

func backupOptions(task Task, spec job.BackupSpec) ([]string, error) {
	switch script := spec.ContentFrom != "" || spec.PathsFrom != ""; {
	case task.Archive == "":
		return nil, errors.New("no archive name")
	case script && task.Hook == "":
		return nil, errors.New("the path of the script is not known")
	case script == (len(spec.Paths) > 0):
		return nil, errors.New("neither paths nor a script, or both")
	}
	if err := CheckExtra(spec.ExtraOptions); err != nil {
		return nil, err
	}
	interval := checkpointInterval
	if spec.CheckpointInterval > 0 {
		interval = spec.CheckpointInterval
	}
	options := []string{"--json", "--progress", "--checkpoint-interval=" + strconv.Itoa(interval)}
	if spec.Compression != "" {
		options = append(options, "--compression="+spec.Compression)
	}
	if spec.Comment != "" {
		options = append(options, "--comment="+literal(spec.Comment))
	}
	if spec.FilesCache != "" {
		options = append(options, "--files-cache="+string(spec.FilesCache))
	}
	if spec.ListFiles {
		options = append(options, "--list", "--filter="+listedStatus)
	}
	options = append(append(options, backupFlags(spec)...), backupChoice(spec)...)
	return append(append(options, scriptOptions(spec)...), spec.ExtraOptions...), nil
}

// backupFlags are the options that are on or off.
func backupFlags(spec job.BackupSpec) []string {
	options := appendFlag(nil, "--exclude-caches", spec.ExcludeCaches)
	options = appendFlag(options, "--exclude-nodump", spec.ExcludeNoDump)
	options = appendFlag(options, "--keep-exclude-tags", spec.KeepExcludeTags)
	options = appendFlag(options, "--one-file-system", spec.OneFileSystem)
	options = appendFlag(options, "--numeric-ids", spec.NumericIDs)
	options = appendFlag(options, "--read-special", spec.ReadSpecial)
	options = appendFlag(options, "--sparse", spec.Sparse)
	options = appendFlag(options, "--noxattrs", spec.NoXattrs)
	options = appendFlag(options, "--noacls", spec.NoACLs)
	return appendFlag(options, "--noflags", spec.NoFlags)
}

// backupChoice are the options that choose files. The first pattern that matches
// a path decides, so those that can also include go first.
func backupChoice(spec job.BackupSpec) []string {
	options := appendEach(nil, "--pattern", spec.Patterns)
	options = appendEach(options, "--patterns-from", spec.PatternsFrom)
	options = appendEach(options, "--exclude", spec.Exclude)
	options = appendEach(options, "--exclude-from", spec.ExcludeFrom)
	return appendEach(options, "--exclude-if-present", spec.ExcludeIfPresent)
}

// scriptOptions tell borg what the script is for that follows the archive.
func scriptOptions(spec job.BackupSpec) []string {
	switch {
	case spec.ContentFrom != "":
		name := spec.StdinName
		if name == "" {
			name = spec.ContentFrom
		}
		return []string{"--content-from-command", "--stdin-name=" + name}
	case spec.PathsFrom != "":
		return []string{"--paths-from-command", `--paths-delimiter=\0`}
	default:
		return nil
	}
}

// backupTarget is the new archive, and what goes into it. The archive's name may
// be a template, which borg fills in.
func backupTarget(task Task, spec job.BackupSpec) []string {
	archive := task.Repository.Location + "::" + task.Archive
	if spec.ContentFrom != "" || spec.PathsFrom != "" {
		return []string{archive, task.Hook}
	}
	return append([]string{archive}, spec.Paths...)
}

// extraOptions are the options of borg create that may be given as they are, and
// whether they take a value: those that neither run a program, nor read or write
// files that the host's policy has not seen, nor change what borg prints, where
// it writes, and how it locks.
var extraOptions = map[string]bool{
	"--noatime": false, "--atime": false, "--noctime": false, "--nobirthtime": false, "--nobsdflags": false,
	"--noflags": false, "--noacls": false, "--noxattrs": false, "--exclude-nodump": false, "--exclude-caches": false,
	"--keep-exclude-tags": false, "--one-file-system": false, "--numeric-ids": false, "--read-special": false,
	"--sparse": false, "--no-cache-sync": false, "--info": false, "--verbose": false,
	"--chunker-params": true, "--compression": true, "--timestamp": true, "--files-cache": true, "--files-changed": true,
	"--exclude": true, "--exclude-if-present": true, "--checkpoint-interval": true, "--upload-buffer": true,
	"--upload-ratelimit": true, "--stdin-user": true, "--stdin-group": true, "--stdin-mode": true,
}

// CheckExtra returns nil if raw options may be handed to borg create, else a
// *job.Failure with code refused_by_host. Names must be whole: borg would also
// take the beginning of one.
func CheckExtra(options []string) error {
	for _, option := range options {
		name, _, valued := strings.Cut(option, "=")
		takes, known := extraOptions[name]
		switch {
		case !known:
			return job.Fail(job.RefusedByHost, "extra_options: %s is not among the options that may be added", quote(head(clean(name), maxWordsBytes))).
				WithHint("options that run programs, read or write other files, or change what borg prints or where it writes are not passed on; use the spec's own fields where there is one")
		case takes && !valued:
			return job.Fail(job.RefusedByHost, "extra_options: %s has no value", name).WithHint("write %s=VALUE", name)
		case !takes && valued:
			return job.Fail(job.RefusedByHost, "extra_options: %s takes no value", name).WithHint("write %s", name)
		}
	}
	return nil
}

// hookName is what a person calls a script.
func (t Task) hookName() string { return clean(path.Base(t.Hook)) }

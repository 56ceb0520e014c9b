package borg

import (
	_ "embed"
	"errors"

	"github.com/borgfleet/borgfleet/shared/job"
)

// keepScript restores beside what is there: it hands borg a list of everything
// that the target has, to leave out. It is a shell script for the reasons of
// lockScript; names are never part of its text, nor of a command line.
//
//go:embed keep.sh
var keepScript string

// keepName is what the script calls itself in an error of the shell.
const keepName = "restore"

func restoreOptions(spec job.RestoreSpec) ([]string, error) {
	if err := needNames(spec.Archive); err != nil {
		return nil, err
	}
	if spec.KeepExisting && spec.StripComponents > 0 {
		return nil, job.Fail(job.InvalidSpec, "keep_existing cannot be combined with strip_components: borg leaves files out by what the archive calls them").
			WithHint("restore to an empty directory, and move what is missing from there")
	}
	options := []string{"--progress", "--sparse"}
	options = appendFlag(options, "--dry-run", spec.DryRun)
	options = appendFlag(options, "--list", spec.ListFiles || spec.DryRun)
	options = appendFlag(options, "--numeric-ids", spec.NumericIDs)
	options = appendCount(options, "--strip-components", spec.StripComponents)
	options = appendEach(options, "--exclude", spec.Exclude)
	return appendFlag(options, "--exclude-from=/dev/stdin", spec.KeepExisting), nil
}

// keepCommand returns what is run for a restore, where argv is borg's own
// command. A dry run has no working directory to speak of.
func keepCommand(spec job.RestoreSpec, argv []string) []string {
	if !spec.KeepExisting {
		return argv
	}
	mode := "restore"
	if spec.DryRun {
		mode = "look"
	}
	return append([]string{"/bin/sh", "-c", keepScript, keepName, mode, spec.Target}, argv...)
}

func downloadOptions(spec job.DownloadSpec) ([]string, error) {
	if err := needNames(spec.Archive); err != nil {
		return nil, err
	}
	if spec.Format != job.DownloadFile {
		return []string{"--progress"}, nil
	}
	if spec.Path == "" {
		return nil, errors.New("no path")
	}
	return fileOptions(), nil
}

// fileOptions make borg print one file. That the file is listed is the only sign
// that it is there: borg does not count a match of pf:, and warns that nothing
// has matched.
func fileOptions() []string { return []string{"--progress", "--list", "--stdout"} }

func downloadTarget(archive string, spec job.DownloadSpec) []string {
	switch {
	case spec.Format == job.DownloadFile:
		return []string{archive, "pf:" + spec.Path}
	case spec.Path == "":
		return []string{archive, "-"}
	default:
		return append([]string{archive, "-"}, literalPaths([]string{spec.Path})...)
	}
}

package borg

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/shared/job"
)

// optionsOf returns the options of the task's own command.
func optionsOf(task Task) ([]string, error) {
	switch spec := task.Spec.(type) {
	case job.InitSpec:
		return initOptions(spec, task.Repository)
	case job.BackupSpec:
		return backupOptions(task, spec)
	case job.ListSpec:
		return listOptions(spec), nil
	case job.InfoSpec:
		return []string{"--json"}, nil
	case job.RestoreSpec:
		if task.fed() {
			return fileOptions(), checkFed(task, spec)
		}
		return restoreOptions(spec)
	case job.DownloadSpec:
		return downloadOptions(spec)
	case job.RestoreTestSpec:
		return restoreTestOptions(), needNames(spec.Archive)
	case job.DeleteSpec:
		return deleteOptions(spec)
	case job.DiffSpec:
		return []string{"--json-lines"}, needNames(spec.Archive, spec.Other)
	case job.PruneSpec:
		return pruneOptions(spec, cmp.Or(task.For, task.Host))
	case job.CompactSpec:
		return appendCount([]string{"--progress", "--verbose"}, "--threshold", spec.Threshold), nil
	case job.CheckSpec:
		return checkOptions(spec), nil
	case job.MountSpec:
		options, _ := mountArguments(task, spec)
		return options, nil
	case job.VerifySpec:
		return verifyOptions(), nil
	case job.KeyExportSpec, job.BreakLockSpec:
		return nil, nil
	default:
		return nil, fmt.Errorf("the spec %T cannot be run", spec)
	}
}

// targetOf returns what a command is about: what follows "--".
func targetOf(task Task) []string {
	repository := task.Repository.Location
	in := func(archive string) string { return repository + "::" + literal(archive) }
	switch spec := task.Spec.(type) {
	case job.BackupSpec:
		return backupTarget(task, spec)
	case job.ListSpec:
		if spec.Archive != "" {
			return []string{in(spec.Archive)}
		}
	case job.InfoSpec:
		if spec.Archive != "" {
			return []string{in(spec.Archive)}
		}
	case job.RestoreSpec:
		if task.fed() {
			return []string{in(spec.Archive), "pf:" + spec.Paths[0]}
		}
		return append([]string{in(spec.Archive)}, literalPaths(spec.Paths)...)
	case job.DownloadSpec:
		return downloadTarget(in(spec.Archive), spec)
	case job.RestoreTestSpec:
		return []string{in(spec.Archive)}
	case job.DeleteSpec:
		if len(spec.Archives) > 0 { // only in the first one borg looks for placeholders
			return append([]string{in(spec.Archives[0])}, spec.Archives[1:]...)
		}
	case job.DiffSpec:
		return append([]string{in(spec.Archive), literal(spec.Other)}, literalPaths(spec.Paths)...)
	case job.MountSpec:
		_, target := mountArguments(task, spec)
		return target
	}
	return []string{repository}
}

// checkLocation refuses a location that borg cannot use. It fills in
// placeholders in a location more than once, so that no escape survives.
func checkLocation(repository job.Repository) error {
	switch {
	case repository.Location == "":
		return errors.New("no repository location")
	case strings.ContainsAny(repository.Location, "{}"):
		return job.Fail(job.InvalidSpec, "the location of repository %s has braces in it, which borg takes for placeholders", repository.Name).
			WithHint("give it a location without { and }")
	default:
		return nil
	}
}

// needNames refuses a task without the archives that it is about: borg would
// take the repository instead.
func needNames(archives ...string) error {
	for _, name := range archives {
		if name == "" {
			return errors.New("no archive name")
		}
	}
	return nil
}

func initOptions(spec job.InitSpec, repository job.Repository) ([]string, error) {
	mode := repository.Encryption
	if spec.Encryption != "" {
		mode = spec.Encryption
	}
	if !mode.Known() {
		return nil, fmt.Errorf("%q is not an encryption mode", mode)
	}
	return []string{"--encryption=" + string(mode)}, nil
}

// contentKeys are what the listing of an archive has for each file. Borg adds
// some that are not asked for.
const contentKeys = "{type}{mode}{uid}{gid}{user}{group}{size}{mtime}{path}{linktarget}{healthy}{health}"

func listOptions(spec job.ListSpec) []string {
	// The formats print nothing under --json; they name keys to add.
	if spec.Archive != "" {
		return []string{"--json-lines", "--format=" + contentKeys}
	}
	options := []string{"--json", "--format={hostname}{username}{comment}"}
	switch {
	case spec.Prefix != "":
		options = append(options, "--glob-archives="+prefixGlob(spec.Prefix))
	case spec.Glob != "":
		options = append(options, "--glob-archives="+literal(spec.Glob))
	}
	if !spec.After.IsZero() || !spec.Before.IsZero() {
		return options // borg knows no times here: the newest are chosen of what is left
	}
	return appendCount(options, "--last", spec.Last)
}

// deleteOptions never come out without something that chooses archives: without,
// borg deletes the repository.
func deleteOptions(spec job.DeleteSpec) ([]string, error) {
	options := []string{"--list", "--progress"}
	switch {
	case len(spec.Archives) > 0 && spec.Glob != "":
		return nil, errors.New("both archive names and a glob")
	case len(spec.Archives) > 0:
		if err := needNames(spec.Archives...); err != nil {
			return nil, err
		}
	case spec.Glob != "":
		options = append(options, "--glob-archives="+literal(spec.Glob))
	default:
		return nil, errors.New("no archive: this would delete the repository")
	}
	if spec.DryRun {
		options = append(options, "--dry-run")
	}
	return options, nil
}

// ownArchives is the glob of the names that the coordinator gives a host's
// backups: the host's, and the time. A host's name may begin with another's.
func ownArchives(host string) string {
	const day = "-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T"
	return strings.TrimSuffix(prefixGlob(host), "*") + day + "*"
}

func pruneOptions(spec job.PruneSpec, host string) ([]string, error) {
	options := []string{"--list", "--progress"}
	switch {
	case spec.All:
	case spec.Series != "":
		options = append(options, "--glob-archives="+seriesGlob(spec.Series))
	case spec.Prefix != "":
		options = append(options, "--glob-archives="+prefixGlob(spec.Prefix))
	case host != "":
		options = append(options, "--glob-archives="+ownArchives(host))
	default:
		return nil, errors.New("no prefix and no host: this would prune other hosts' archives")
	}
	if spec.DryRun {
		options = append(options, "--dry-run")
	}
	rules := len(options)
	if spec.KeepWithin != "" {
		options = append(options, "--keep-within="+spec.KeepWithin)
	}
	options = appendCount(options, "--keep-last", spec.KeepLast)
	options = appendCount(options, "--keep-hourly", spec.KeepHourly)
	options = appendCount(options, "--keep-daily", spec.KeepDaily)
	options = appendCount(options, "--keep-weekly", spec.KeepWeekly)
	options = appendCount(options, "--keep-monthly", spec.KeepMonthly)
	options = appendCount(options, "--keep-yearly", spec.KeepYearly)
	if len(options) == rules {
		return nil, errors.New("no keep rule: this would delete every archive")
	}
	return options, nil
}

func checkOptions(spec job.CheckSpec) []string {
	options := []string{"--progress", "--verbose"} // else borg is silent about files that it repaired before
	if spec.VerifyData {
		options = append(options, "--verify-data")
	}
	if spec.RepositoryOnly || spec.MaxDuration > 0 {
		options = append(options, "--repository-only")
	}
	options = appendFlag(options, "--archives-only", spec.ArchivesOnly)
	if spec.Repair {
		options = append(options, "--repair")
	}
	if spec.Prefix != "" {
		options = append(options, "--glob-archives="+prefixGlob(spec.Prefix))
	}
	options = appendCount(options, "--last", spec.Last)
	return appendCount(options, "--max-duration", spec.MaxDuration)
}

func appendCount(options []string, name string, n int) []string {
	if n <= 0 {
		return options
	}
	return append(options, name+"="+strconv.Itoa(n))
}

// appendFlag appends an option that is asked for.
func appendFlag(options []string, name string, asked bool) []string {
	if !asked {
		return options
	}
	return append(options, name)
}

// appendEach appends an option once for each of its values.
func appendEach(options []string, name string, values []string) []string {
	for _, value := range values {
		options = append(options, name+"="+value)
	}
	return options
}

// literal protects text from borg's placeholders ({now}, {hostname}, …).
func literal(text string) string {
	return strings.NewReplacer("{", "{{", "}", "}}").Replace(text)
}

// literalPaths returns patterns that match the given files and directories of an
// archive, and what is in them, and nothing else: a path that begins like a
// pattern ("re:") is none.
func literalPaths(paths []string) []string {
	patterns := make([]string, len(paths))
	for i, path := range paths {
		patterns[i] = "pp:" + path
	}
	return patterns
}

// prefixGlob returns the glob that matches the archives whose name begins with
// prefix, taken literally.
func prefixGlob(prefix string) string {
	escaped := strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(prefix)
	return literal(escaped) + "*"
}

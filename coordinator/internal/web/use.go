package web

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file has the forms that make use of an archive.

// archiveForm begins a form about an archive.
func (s *site) archiveForm(r *http.Request, v *typed, part string) (*jobForm, fleet.Archive, error) {
	repository, name := r.PathValue("repository"), r.PathValue("archive")
	archive, err := s.Archives.Archive(r.Context(), repository, name)
	if err != nil {
		return nil, archive, err
	}
	form, err := s.repositoryForm(r, v, part, archive.Host)
	if err != nil {
		return nil, archive, err
	}
	form.Crumbs = append(archiveCrumbs(repository, name), crumb{Label: part})
	return form, archive, nil
}

// pathsField names paths in an archive, one a line; the address may give one.
func pathsField(v *typed) (field, []string) {
	text := v.Get("paths")
	if !v.sent && text == "" {
		text = v.Get("path")
	}
	paths := lines(text)
	for i, p := range paths {
		paths[i] = strings.TrimPrefix(p, "/")
	}
	return field{Name: "paths", Label: "Only these paths", Kind: "area", Value: text, Wide: true, Placeholder: "everything", Help: "One a line, as the archive has them: without a leading slash. Empty: everything."}, paths
}

// restoreRoot is where hosts let archives be restored by default.
const restoreRoot = "/var/restore/borgfleet"

func (s *site) restoreForm(r *http.Request, v *typed) (*jobForm, error) {
	form, archive, err := s.archiveForm(r, v, "restore")
	if err != nil {
		return nil, err
	}
	pathField, paths := pathsField(v)
	existing := v.Get("existing")
	spec := job.RestoreSpec{
		Archive: archive.Name, Target: v.or("target", restoreRoot+"/"+targetName(archive.Name)), Paths: paths, Exclude: v.lines("exclude"),
		Overwrite: existing == "overwrite", KeepExisting: existing == "keep", StripComponents: v.count("strip_components"),
		NumericIDs: v.checked("numeric_ids"), DryRun: v.checked("dry_run"), ListFiles: v.checked("list_files"),
	}
	form.Title, form.Button, form.spec = "Restore from "+archive.Name, "Restore", spec
	form.About = "Borg writes the files into a directory of a host, with their owners, modes and times."
	form.add(
		field{Name: "target", Label: "Into this directory", Kind: "text", Value: spec.Target, Needed: true, Help: "Absolute; it is made if it is missing. Where the host allows it: by default below `" + restoreRoot + "`."},
		pathField,
		field{Name: "existing", Label: "If there are files in it", Kind: "select", Also: []string{"keep_existing", "overwrite"}, Choices: labelled(existing,
			choice{Value: "", Label: "do nothing, and say so"}, choice{Value: "keep", Label: "keep each that is there"}, choice{Value: "overwrite", Label: "replace those of the same names"})},
		field{Name: "strip_components", Label: "Leave out this many leading parts of each path", Kind: "number", Value: v.text("strip_components"), Placeholder: "0"},
		field{Name: "exclude", Label: "Leave out", Kind: "area", Value: v.Get("exclude"), Wide: true, Help: "Borg patterns, one a line."},
		checkField(v, "numeric_ids", "Owners by their numbers, not their names", ""),
		checkField(v, "list_files", "Name each file in the log", ""),
		checkField(v, "dry_run", "Dry run: only read the archive, and say what would be restored", ""),
	)
	form.words([]string{"archive", "restore", form.request.Repository, archive.Name}, "--target", spec.Target, "--strip-components", spec.StripComponents,
		"--numeric-ids", spec.NumericIDs, "--overwrite", spec.Overwrite, "--keep-existing", spec.KeepExisting, "--dry-run", spec.DryRun, "--list", spec.ListFiles)
	for _, pattern := range spec.Exclude {
		form.cli = append(form.cli, "--exclude="+pattern)
	}
	form.cli = withPaths(form.cli, paths...)
	return form, nil
}

// targetName makes of an archive's name the name of a directory.
func targetName(name string) string {
	safe := strings.Map(func(r rune) rune {
		if r <= ' ' || r == '/' || r == 0x7f {
			return '_'
		}
		return r
	}, name)
	if strings.Trim(safe, ".") == "" {
		return "archive"
	}
	return safe
}

// mountForm mounts an archive, or all of the repository.
func (s *site) mountForm(r *http.Request, v *typed) (*jobForm, error) {
	begin := func() (*jobForm, error) { return s.repositoryForm(r, v, "mount") }
	spec, what := job.MountSpec{}, r.PathValue("repository")
	if name := r.PathValue("archive"); name != "" {
		spec.Archive, what = name, name
		begin = func() (*jobForm, error) {
			form, _, err := s.archiveForm(r, v, "mount")
			return form, err
		}
	}
	form, err := begin()
	if err != nil {
		return nil, err
	}
	spec.MountPoint, spec.Idle = v.or("mount_point", restoreRoot+"/mnt"), v.seconds("idle")
	form.Title, form.Button, form.spec = "Mount "+what, "Mount", spec
	form.About = "The files can be read in a directory of a host, as if they were there."
	form.Note = "While it is mounted nothing can be written to " + form.request.Repository + ": backups wait."
	form.add(
		field{Name: "mount_point", Label: "On this directory", Kind: "text", Value: spec.MountPoint, Needed: true, Help: "Absolute, and empty; it is made if it is missing. Where the host allows it: by default below `" + restoreRoot + "`."},
		field{Name: "idle", Label: "Unmount when unused for", Kind: "text", Value: v.text("idle"), Placeholder: "30m", Help: "Such as `30m` or `2h`."},
	)
	words := []string{"archive", "mount", form.request.Repository, spec.Archive, spec.MountPoint}
	words = slices.DeleteFunc(words, func(word string) bool { return word == "" })
	form.words(words, "--idle", seconds(spec.Idle))
	return form, nil
}

// compareForm compares an archive with another one of its repository.
func (s *site) compareForm(r *http.Request, v *typed) (*jobForm, error) {
	form, archive, err := s.archiveForm(r, v, "compare")
	if err != nil {
		return nil, err
	}
	pathField, paths := pathsField(v)
	names, err := s.others(r.Context(), archive)
	if err != nil {
		return nil, err
	}
	before := ""
	if len(names) > 0 {
		before = names[0]
	}
	other := v.or("other", before)
	spec := job.DiffSpec{Archive: archive.Name, Other: other, Paths: paths}
	if second, err := s.Archives.Archive(r.Context(), archive.Repository, other); err == nil && second.Start.Before(archive.Start) {
		spec.Archive, spec.Other = other, archive.Name
	}
	if v.sent && other == "" {
		spec.Other = ""
	}
	form.Title, form.Button, form.spec = "Compare "+archive.Name, "Compare", spec
	form.About = "Borg says what was added, removed and changed from the older one of two archives to the newer one."
	form.add(
		field{Name: "other", Label: "With this archive", Kind: "text", Value: other, Suggestions: names, Needed: true, Also: []string{"archive"}, Wide: true, Help: "One of the same repository."},
		pathField,
	)
	form.words([]string{"archive", "diff", form.request.Repository, spec.Archive, spec.Other})
	form.cli = withPaths(form.cli, paths...)
	return form, nil
}

// others are the names of archives to compare one with: those of the same host
// first, the one before it foremost.
func (s *site) others(ctx context.Context, archive fleet.Archive) ([]string, error) {
	filter := fleet.ArchiveFilter{Repository: archive.Repository, Limit: job.DefaultPage}
	var older, newer []string
	for _, host := range []string{archive.Host, ""} {
		filter.Host = host
		page, err := s.Archives.Archives(ctx, filter)
		if err != nil {
			return nil, wrap("archives", err)
		}
		for _, a := range page.Archives {
			switch {
			case a.Name == archive.Name || slices.Contains(older, a.Name) || slices.Contains(newer, a.Name):
			case a.Start.Before(archive.Start):
				older = append(older, a.Name)
			default:
				newer = append(newer, a.Name)
			}
		}
	}
	return append(older, newer...), nil
}

package job

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// hookName is what a script among a host's hooks may be called: no path.
var hookName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Validate implements [Spec].
func (s BackupSpec) Validate() error {
	faults := append(s.checkSource(),
		checkExclude(s.Exclude), checkList("exclude_if_present", s.ExcludeIfPresent), s.checkPatterns(),
		checkArchive("archive", s.Archive), checkText("comment", s.Comment),
		notNegative("upload_limit", s.UploadLimit), notNegative("checkpoint_interval", s.CheckpointInterval),
		checkFiles("patterns_from", s.PatternsFrom), checkFiles("exclude_from", s.ExcludeFrom), s.checkExtra(), s.Hooks.check(), s.checkCanary(),
	)
	if s.Compression != "" {
		faults = append(faults, checkCompression(s.Compression))
	}
	if s.FilesCache != "" && !slices.Contains(FilesCaches(), s.FilesCache) {
		faults = append(faults, badSpec("files_cache", "%q is not a mode of the files cache", s.FilesCache).
			WithHint("one of ctime,size,inode mtime,size,inode ctime,size mtime,size rechunk,ctime rechunk,mtime disabled"))
	}
	return errors.Join(faults...)
}

// checkSource checks where the data comes from: paths, or one of the two
// scripts.
func (s BackupSpec) checkSource() []error {
	scripts := map[string]string{"content_from": s.ContentFrom, "paths_from": s.PathsFrom}
	for field, name := range scripts {
		if name == "" {
			continue
		}
		faults := []error{checkHook(field, name)}
		if len(s.Paths) > 0 {
			faults = append(faults, badSpec("paths", "cannot be combined with %s", field).WithHint("the script says what is backed up"))
		}
		if s.ContentFrom != "" && s.PathsFrom != "" {
			faults = append(faults, badSpec("paths_from", "cannot be combined with content_from").WithHint("give one of them"))
		}
		return append(faults, s.checkStdinName())
	}
	return append(checkPaths(s.Paths), s.checkStdinName())
}

func (s BackupSpec) checkStdinName() error {
	switch {
	case s.StdinName == "":
		return nil
	case s.ContentFrom == "":
		return badSpec("stdin_name", "is only for content_from").WithHint("leave it out: files keep their own names")
	case path.IsAbs(s.StdinName) || path.Clean(s.StdinName) != s.StdinName || strings.HasPrefix(s.StdinName, ".") || strings.ContainsAny(s.StdinName, "\r\n"):
		return badSpec("stdin_name", "%q is not a file's name in an archive", s.StdinName).WithHint("for example postgres.sql")
	}
	return checkText("stdin_name", s.StdinName)
}

// checkHook checks the name of a script among the host's own hooks.
func checkHook(field, name string) error {
	if !hookName.MatchString(name) {
		return badSpec(field, "%q is not the name of a hook", name).
			WithHint("name a script that lies in the host's directory of hooks, /etc/borgfleet/hooks.d, without a path")
	}
	return nil
}

var pattern = regexp.MustCompile(`^(?:[RPp+!-] *)\S`)

func (s BackupSpec) checkPatterns() error {
	faults := []error{checkList("patterns", s.Patterns)}
	for i, p := range s.Patterns {
		at := fmt.Sprintf("patterns[%d]", i)
		switch {
		case p == "":
		case !pattern.MatchString(p) || strings.HasPrefix(p, "R"): // roots are the paths
			faults = append(faults, badSpec(at, "%q is not a pattern", p).WithHint(`"+ PATH" includes, "- PATH" excludes, "! PATH" excludes and does not look inside`))
		case strings.ContainsAny(p, "\r\n"):
			faults = append(faults, badSpec(at, "contains a line end").WithHint("give each pattern as an entry of its own"))
		case !strings.ContainsRune("Pp", rune(p[0])):
			faults = append(faults, checkStyle(at, strings.TrimLeft(p[1:], " ")))
		}
	}
	return errors.Join(faults...)
}

// styles are borg's kinds of patterns, each two letters in front of a colon.
var styles = []string{"fm", "sh", "re", "pp", "pf"}

// checkExclude checks exclude patterns. What a regular expression is only borg
// can say.
func checkExclude(patterns []string) error {
	faults := []error{checkList("exclude", patterns)}
	for i, p := range patterns {
		faults = append(faults, checkStyle(fmt.Sprintf("exclude[%d]", i), p))
	}
	return errors.Join(faults...)
}

// checkStyle refuses a pattern of a style that borg does not know.
func checkStyle(field, pattern string) error {
	match := style.FindStringSubmatch(pattern)
	if match == nil || slices.Contains(styles, match[1]) {
		return nil
	}
	return badSpec(field, "%q has no style of borg's in front: %s", pattern, match[1]).
		WithHint("one of fm: (shell glob over all), sh: (glob by directory), re: (regular expression), pp: (path prefix), pf: (full path); fm:%s takes it as it stands", pattern)
}

var style = regexp.MustCompile(`^([a-zA-Z0-9]{2}):`)

// checkFiles checks files on the host that borg reads patterns from.
func checkFiles(field string, files []string) error {
	faults := []error{checkList(field, files)}
	for i, file := range files {
		if file != "" && (!path.IsAbs(file) || path.Clean(file) != file) {
			faults = append(faults, badSpec(fmt.Sprintf("%s[%d]", field, i), "%q is not an absolute path", file).WithHint("a file on the host, for example /etc/borgfleet/web.patterns"))
		}
	}
	return errors.Join(faults...)
}

// checkExtra checks raw options: each must be one, with its value behind "=".
func (s BackupSpec) checkExtra() error {
	faults := []error{checkList("extra_options", s.ExtraOptions)}
	for i, option := range s.ExtraOptions {
		if option != "" && !strings.HasPrefix(option, "--") || option == "--" {
			faults = append(faults, badSpec(fmt.Sprintf("extra_options[%d]", i), "%q is not a long option", option).WithHint("for example --noatime or --chunker-params=19,23,21,4095"))
		}
	}
	return errors.Join(faults...)
}

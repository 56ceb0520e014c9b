package job

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"
)

// Validate implements [Spec].
func (s InitSpec) Validate() error {
	if s.Encryption != "" && !s.Encryption.Known() {
		return badEncryption("encryption", s.Encryption)
	}
	return nil
}

// Validate implements [Spec].
func (s ListSpec) Validate() error {
	faults := []error{
		checkArchive("archive", s.Archive), checkText("prefix", s.Prefix), checkGlob("glob", s.Glob), notNegative("last", s.Last),
	}
	switch {
	case s.Archive != "" && s != (ListSpec{Archive: s.Archive}):
		faults = append(faults, badSpec("archive", "excludes all other fields").WithHint("they choose archives; the files of an archive are listed whole"))
	case s.Prefix != "" && s.Glob != "":
		faults = append(faults, badSpec("glob", "cannot be combined with prefix").WithHint("give one of them"))
	case !s.After.IsZero() && !s.Before.IsZero() && !s.After.Before(s.Before):
		faults = append(faults, badSpec("before", "is not later than after").WithHint("nothing lies between them: exchange them, or leave one out"))
	}
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (s InfoSpec) Validate() error { return checkArchive("archive", s.Archive) }

var interval = regexp.MustCompile(`^[1-9][0-9]{0,5}[Hdwmy]$`)

// Validate implements [Spec]. A prune that keeps nothing is refused, as it
// would delete every archive.
func (s PruneSpec) Validate() error {
	counts := map[string]int{
		"keep_last": s.KeepLast, "keep_hourly": s.KeepHourly, "keep_daily": s.KeepDaily,
		"keep_weekly": s.KeepWeekly, "keep_monthly": s.KeepMonthly, "keep_yearly": s.KeepYearly,
	}
	var faults []error
	keeps := s.KeepWithin != ""
	for field, n := range counts {
		faults = append(faults, notNegative(field, n))
		keeps = keeps || n > 0
	}
	if !keeps {
		faults = append(faults, badSpec("spec", "no keep rule: this would delete every archive").
			WithHint("give at least one of keep_within, keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly"))
	}
	if s.KeepWithin != "" && !interval.MatchString(s.KeepWithin) {
		faults = append(faults, badSpec("keep_within", "%q is not an interval", s.KeepWithin).
			WithHint("a number and one of H d w m y, for example 2d"))
	}
	if s.All && s.Prefix != "" {
		faults = append(faults, badSpec("all", "cannot be combined with prefix").WithHint("give one of them"))
	}
	if s.MaxPercent < 0 || s.MaxPercent > 100 {
		faults = append(faults, badSpec("max_percent", "%d is not a percentage from 0 to 100", s.MaxPercent))
	}
	faults = append(faults, checkText("prefix", s.Prefix), s.checkSeries())
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (s CompactSpec) Validate() error {
	if s.Threshold < 0 || s.Threshold > 99 {
		return badSpec("threshold", "%d is not a percentage from 0 to 99", s.Threshold).WithHint("leave it out for borg's own, 10")
	}
	return nil
}

// Validate implements [Spec].
func (s CheckSpec) Validate() error {
	repositoryOnly := s.RepositoryOnly || s.MaxDuration > 0
	faults := []error{notNegative("max_duration", s.MaxDuration), notNegative("last", s.Last), checkText("prefix", s.Prefix)}
	if s.VerifyData && repositoryOnly {
		faults = append(faults, badSpec("verify_data", "cannot be combined with repository_only or max_duration").
			WithHint("borg verifies data in the archives part of a full check"))
	}
	if s.ArchivesOnly && repositoryOnly {
		faults = append(faults, badSpec("archives_only", "cannot be combined with repository_only or max_duration").WithHint("leave both out for a full check"))
	}
	if s.Repair && s.MaxDuration > 0 {
		faults = append(faults, badSpec("repair", "cannot be combined with max_duration").WithHint("a repair is whole or not at all"))
	}
	if (s.Last > 0 || s.Prefix != "") && (repositoryOnly || s.Repair) {
		faults = append(faults, badSpec("last", "last and prefix cannot be combined with repository_only, max_duration or repair").
			WithHint("they choose archives, for a full check"))
	}
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (s RestoreSpec) Validate() error {
	if s.ContentTo != "" {
		return s.checkContentTo()
	}
	faults := []error{
		checkExisting("archive", s.Archive), checkDirectory("target", s.Target, "/var/restore/borgfleet/web1"),
		checkStoredList("paths", s.Paths), checkExclude(s.Exclude), notNegative("strip_components", s.StripComponents),
	}
	if s.Overwrite && s.KeepExisting {
		faults = append(faults, badSpec("keep_existing", "cannot be combined with overwrite").WithHint("say which one"))
	}
	if s.KeepExisting && s.StripComponents > 0 {
		faults = append(faults, badSpec("keep_existing", "cannot be combined with strip_components: borg leaves files out by what the archive calls them").
			WithHint("restore to an empty directory, and move what is missing from there"))
	}
	return errors.Join(faults...)
}

// Validate implements [Spec].
func (s KeyExportSpec) Validate() error {
	if strings.HasPrefix(strings.ToUpper(s.Recipient), "AGE-SECRET-KEY-") {
		// Not repeated, as it is what opens the export.
		return badSpec("recipient", "this is an age identity, which is secret").
			WithHint("give its recipient, age1…, and make another identity, since this one has been shown")
	}
	if _, err := age.ParseX25519Recipient(s.Recipient); err != nil {
		return badSpec("recipient", "%q is not an age recipient", s.Recipient).
			WithHint("make an identity with age-keygen, keep it safe, and give the recipient that it shows, age1…")
	}
	return nil
}

// Validate implements [Spec].
func (s BreakLockSpec) Validate() error {
	if s.Force && s.DryRun {
		return badSpec("force", "cannot be combined with dry_run").WithHint("a dry run says who holds the lock, and changes nothing")
	}
	return nil
}

func badSpec(field, format string, args ...any) *Failure {
	return Fail(InvalidSpec, "%s: %s", field, fmt.Sprintf(format, args...))
}

func notNegative(field string, n int) error {
	if n < 0 {
		return badSpec(field, "must not be negative").WithHint("leave it out, or give a number above 0")
	}
	return nil
}

func checkPaths(paths []string) []error {
	if len(paths) == 0 {
		return []error{badSpec("paths", "is empty: there is nothing to back up").WithHint(`for example "paths": ["/etc", "/home"]`)}
	}
	faults := []error{checkList("paths", paths)}
	for i, p := range paths {
		if p != "" && !path.IsAbs(p) {
			faults = append(faults, badSpec(fmt.Sprintf("paths[%d]", i), "%q is relative", p).WithHint("give absolute paths, such as /%s", p))
		}
	}
	return faults
}

// checkStored checks a path inside an archive.
func checkStored(field, stored string) error {
	switch {
	case strings.ContainsAny(stored, "\r\n"):
		return badSpec(field, "contains a line end").WithHint("restore the directory that holds the file")
	case slices.Contains(strings.Split(stored, "/"), ".."), path.Clean(stored) == ".":
		return badSpec(field, "%q is not a path in an archive", stored).WithHint("for example etc/hosts; leave paths out to restore everything")
	}
	return nil
}

func checkList(field string, items []string) error {
	if len(items) > maxListItems {
		return badSpec(field, "%d entries, more than the %d that are allowed", len(items), maxListItems)
	}
	var faults []error
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", field, i)
		if item == "" {
			faults = append(faults, badSpec(at, "is empty").WithHint("leave the entry out"))
		}
		faults = append(faults, checkText(at, item))
	}
	return errors.Join(faults...)
}

func checkText(field, text string) error {
	if len(text) > maxItemBytes {
		return badSpec(field, "%d bytes, more than the %d that are allowed", len(text), maxItemBytes)
	}
	if strings.ContainsRune(text, 0) {
		return badSpec(field, "contains a NUL byte").WithHint("neither borg nor a file system takes that")
	}
	return nil
}

// checkArchive checks a borg archive name (or a template of one).
func checkArchive(field, name string) error {
	if strings.ContainsAny(name, "/\n\r\t ") || strings.Contains(name, "::") || strings.HasPrefix(name, "-") {
		return badSpec(field, "%q is not an archive name", name).WithHint("no spaces, slashes, or double colons, and no dash at the start")
	}
	if len(name) > 200 {
		return badSpec(field, "longer than 200 bytes").WithHint("choose a shorter one")
	}
	return checkText(field, name)
}

// compressionLevels gives the allowed levels of each algorithm (borg help compression).
var compressionLevels = map[string][2]int{"none": {}, "lz4": {}, "zstd": {1, 22}, "zlib": {0, 9}, "lzma": {0, 9}}

func checkCompression(text string) error {
	algorithm, level, hasLevel := strings.Cut(strings.TrimPrefix(text, "auto,"), ",")
	bounds, known := compressionLevels[algorithm]
	bad := badSpec("compression", "%q is not a compression", text).
		WithHint("one of none, lz4, zstd[,1-22], zlib[,0-9], lzma[,0-9], each also as auto,…")
	if !known || (hasLevel && bounds[1] == 0) {
		return bad
	}
	if n, err := strconv.Atoi(level); hasLevel && (err != nil || n < bounds[0] || n > bounds[1]) {
		return bad
	}
	return nil
}

package borg

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Version is a version of borg.
type Version struct {
	Major, Minor, Patch int
	Text                string // as borg printed it: "1.2.4", "2.0.0b5"
}

var versionLine = regexp.MustCompile(`(?m)^borg (([0-9]{1,6})\.([0-9]{1,6})(?:\.([0-9]{1,6}))?(?:[a-z+-]\S{0,31})?)\s*$`)

// ParseVersion reads what `borg --version` prints: "borg 1.2.4". Other lines,
// such as a warning of Python's, are passed over.
func ParseVersion(output string) (Version, error) {
	match := versionLine.FindStringSubmatch(output)
	if match == nil {
		return Version{}, fmt.Errorf("parse borg version: %q is not what borg prints", head(clean(output), 80))
	}
	number := func(digits string) int {
		n, _ := strconv.Atoi(digits) // at most six digits, or none: 0
		return n
	}
	return Version{Major: number(match[2]), Minor: number(match[3]), Patch: number(match[4]), Text: match[1]}, nil
}

// Check returns nil when this version can be driven, else a failure with code
// borg_unsupported that says what to do.
func (v Version) Check() *job.Failure {
	switch {
	case v.Major == 1 && (v.Minor == 2 || v.Minor == 4):
		return nil
	case v.Major >= 2:
		return job.Fail(job.BorgUnsupported, "borg %s is not supported: borg 2 is not stable yet and has other commands", v.Text).
			WithHint("install borg 1.2 or 1.4 beside it and name that binary in the agent's borg.binary setting")
	case v.Major == 1 && v.Minor > 2:
		return job.Fail(job.BorgUnsupported, "borg %s is not supported: it is not a stable release series", v.Text).
			WithHint("install borg 1.2 or 1.4")
	default:
		return job.Fail(job.BorgUnsupported, "borg %s is too old: it has no compact command", v.Text).
			WithHint("install borg 1.2 or 1.4")
	}
}

// Modern reports whether this borg can tell causes by its exit code
// (BORG_EXIT_CODES=modern, since 1.4).
func (v Version) Modern() bool { return v.Major == 1 && v.Minor >= 4 }

package job

import (
	"errors"
	"strings"
)

// seriesTime is the glob of the time in the names of a series, which is a time as
// in 2026-11-22T02:00:00. More may follow it: a number, or borg's ".checkpoint".
const seriesTime = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]*"

// SeriesGlob returns the glob of the archives of a series, which is taken
// literally: a time follows it at once, so that it reaches no other series, not
// even one whose name begins as this one's.
func SeriesGlob(series string) string {
	return strings.NewReplacer("*", "[*]", "?", "[?]", "[", "[[]").Replace(series) + seriesTime
}

// InSeries reports whether an archive's name is one of a series.
func InSeries(series, name string) bool {
	at, found := strings.CutPrefix(name, series)
	return found && MatchesGlob(seriesTime, at)
}

// checkSeries checks the series of a prune, which is the beginning of archives'
// names.
func (s PruneSpec) checkSeries() error {
	if s.Series == "" {
		return nil
	}
	var faults []error
	if s.Prefix != "" || s.All {
		faults = append(faults, badSpec("series", "cannot be combined with prefix or all").WithHint("give one of them"))
	}
	return errors.Join(append(faults, checkArchive("series", s.Series))...)
}

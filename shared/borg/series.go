package borg

import "github.com/borgfleet/borgfleet/shared/job"

// seriesGlob is the glob of a series as an option of borg's, which looks for
// placeholders in it.
func seriesGlob(series string) string { return literal(job.SeriesGlob(series)) }

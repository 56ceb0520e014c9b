package web

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// evidenceFigures are the numbers of a restore test.
func evidenceFigures(e *job.Evidence) []figure {
	if e == nil {
		return nil
	}
	figures := []figure{
		{"Files restored", human.Count(e.Files)}, {"of", human.Count(e.FilesOf)}, {"Bytes restored", human.Bytes(e.Bytes)}, {"Restored in", human.Seconds(e.Seconds)},
		{"Same as on the host", human.Count(e.Same)}, {"Changed since", human.Count(e.Changed)}, {"Gone since", human.Count(e.Gone)}, {"Different", human.Count(e.Different)},
	}
	switch {
	case e.Canary == nil:
		return figures
	case *e.Canary:
		return append(figures, figure{"Canary", "right"})
	default:
		return append(figures, figure{"Canary", "wrong, or not there"})
	}
}

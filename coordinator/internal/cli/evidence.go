package cli

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// printEvidence says what a restore test has seen. Of the files it names those
// that are not as they should be; all are in the result.
func (s *session) printEvidence(e *job.Evidence) {
	if e == nil {
		return
	}
	s.printf("  restored %s of %s files of %s, %s in %s\n", human.Count(e.Files), human.Count(e.FilesOf), console.Printable(e.Archive), human.Bytes(e.Bytes), human.Seconds(e.Seconds))
	canary := ""
	if e.Canary != nil {
		canary = "; the canary is wrong, or not there"
		if *e.Canary {
			canary = "; the canary is right"
		}
	}
	different := ""
	if e.Different > 0 {
		different = fmt.Sprintf(", %s different", human.Count(e.Different))
	}
	s.printf("  compared with the host: %s the same%s; %s changed since, %s gone%s\n", human.Count(e.Same), different, human.Count(e.Changed), human.Count(e.Gone), canary)
	for _, file := range e.Sample {
		if file.Verdict == "different" || file.Verdict == "missing" {
			s.printf("  %-10s %s\n", file.Verdict, console.Printable("/"+file.Path))
		}
	}
}

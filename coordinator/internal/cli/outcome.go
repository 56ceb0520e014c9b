package cli

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// printOutcome says how a finished job ended, and what it brought.
func (s *session) printOutcome(j job.Job) {
	if !j.State.Terminal() {
		return
	}
	s.printf("%s into %s: %s", j.Title(), j.Repository, j.State)
	if j.Result != nil && j.Result.Duration > 0 {
		s.printf(" in %s", human.Seconds(j.Result.Duration))
	}
	s.printf("\n")
	if f := j.Failure; f != nil {
		s.printf("  %s: %s\n", f.Code, f.Message)
		if f.Hint != "" {
			s.printf("  %s\n", f.Hint)
		}
	}
	if j.Result != nil {
		s.printResult(j.Kind, *j.Result)
	}
}

func (s *session) printResult(kind job.Kind, r job.Result) {
	switch kind {
	case job.Backup:
		s.printSizes(r)
	case job.Info:
		s.printInfo(r)
	case job.List:
		s.printArchives(r)
	case job.Prune:
		s.printf("  kept %s, deleted %s\n", human.Plural(len(r.Kept), "archive"), human.Plural(len(r.Pruned), "archive"))
		for _, name := range r.Pruned {
			s.printf("    deleted %s\n", name)
		}
	case job.Compact:
		if r.FreedBytes != nil {
			s.printf("  freed %s\n", human.Bytes(*r.FreedBytes))
		}
	}
	for _, warning := range r.Warnings {
		s.printf("  warning: %s\n", warning)
	}
	if r.WarningsOmitted > 0 {
		s.printf("  and %s more\n", human.Plural(r.WarningsOmitted, "warning"))
	}
}

func (s *session) printSizes(r job.Result) {
	t := newTable(s.Out)
	t.row("  archive", r.Archive)
	t.row("  files", human.Count(r.NFiles))
	t.row("  original size", human.Bytes(r.OriginalSize))
	t.row("  compressed", fmt.Sprintf("%s (%s)", human.Bytes(r.CompressedSize), human.Share(r.CompressionRatio)))
	t.row("  new in repository", fmt.Sprintf("%s (%s)", human.Bytes(r.DeduplicatedSize), human.Share(r.DeduplicationRatio)))
	t.end()
}

func (s *session) printInfo(r job.Result) {
	if r.Archive != "" {
		s.printSizes(r)
	}
	info := r.Repository
	if info == nil {
		return
	}
	t := newTable(s.Out)
	t.row("  repository id", info.ID)
	t.row("  location", info.Location)
	t.row("  encryption", string(info.Encryption))
	t.row("  all archives", human.Bytes(info.TotalSize))
	t.row("  on disk", human.Bytes(info.UniqueCSize))
	t.row("  chunks", fmt.Sprintf("%s, %s of them unique", human.Count(info.TotalChunks), human.Count(info.UniqueChunks)))
	t.end()
}

func (s *session) printArchives(r job.Result) {
	if len(r.Archives) == 0 {
		s.printf("  no archives\n")
		return
	}
	if r.ArchivesOmitted > 0 {
		s.printf("  %s older left out\n", human.Plural(r.ArchivesOmitted, "archive"))
	}
	t := newTable(s.Out, "ARCHIVE", "STARTED", "HOSTNAME", "ID")
	for _, a := range r.Archives {
		id := a.ID
		if len(id) > 12 {
			id = id[:12]
		}
		t.row(a.Name, a.Start.Local().Format("2006-01-02 15:04:05"), a.Hostname, id)
	}
	t.end()
}

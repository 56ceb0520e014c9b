package cli

import (
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// printOutcome says how a finished job ended, and what it brought.
func (s *session) printOutcome(j job.Job) {
	if !j.State.Terminal() {
		return
	}
	s.printf("%s: %s\n", subject(j), outcome(j))
	if f := j.Failure; f != nil && j.State != job.Cancelled {
		s.printf("  %s: %s\n", f.Code, console.Printable(f.Message))
		if f.Hint != "" {
			s.printf("  hint: %s\n", console.Printable(f.Hint))
		}
		s.printf("  its log: borgfleet job log %s\n", j.ID)
	}
	if j.Result != nil {
		s.printResult(j, *j.Result)
	}
}

// subject is what a job is about: "backup of web1 into main", "check of main on web1".
func subject(j job.Job) string {
	if j.Kind == job.Backup {
		return j.Title() + " into " + j.Repository
	}
	return string(j.Kind) + " of " + j.Repository + " on " + j.Host
}

// outcome is how a finished job ended, and in what time.
func outcome(j job.Job) string {
	text, link := string(j.State), " after "
	switch j.State {
	case job.Succeeded:
		link = " in "
	case job.Warning:
		text, link = "done, with warnings,", " in "
	}
	switch {
	case j.Result != nil && j.Result.Duration > 0:
		return text + link + human.Seconds(j.Result.Duration)
	case j.StartedAt != nil && j.FinishedAt != nil:
		return text + link + human.Duration(j.Duration(*j.FinishedAt))
	}
	return strings.TrimSuffix(text, ",")
}

func (s *session) printResult(j job.Job, r job.Result) {
	switch j.Kind {
	case job.Backup:
		s.printSizes(r)
	case job.Info:
		s.printInfo(r)
	case job.List:
		s.printArchives(r)
	case job.Prune:
		kept, deleted := "kept", "deleted"
		if spec, ok := j.Spec.(job.PruneSpec); ok && spec.DryRun {
			kept, deleted = "would keep", "would delete"
		}
		s.printf("  %s %s, %s %s\n", kept, human.Plural(len(r.Kept), "archive"), deleted, human.Plural(len(r.Pruned), "archive"))
		for _, name := range r.Pruned {
			s.printf("    %s %s\n", deleted, console.Printable(name))
		}
	case job.Restore:
		if r.Target != "" {
			s.printf("  restored %s into %s on %s\n", console.Printable(r.Archive), console.Printable(r.Target), j.Host)
		}
	case job.KeyExport:
		if spec, ok := j.Spec.(job.KeyExportSpec); ok && r.KeyExport != "" {
			s.printf("  the key, readable by %s only, is the result's key_export: borgfleet job show %s --json\n", console.Printable(spec.Recipient), j.ID)
		}
	case job.BreakLock:
		if j.State != job.Failed || len(r.Locks) > 0 {
			s.printLocks(r)
		}
	case job.Compact:
		if r.FreedBytes != nil {
			s.printf("  freed %s\n", human.Bytes(*r.FreedBytes))
		}
	}
	for _, warning := range r.Warnings {
		s.printf("  warning: %s\n", console.Printable(warning))
	}
	if r.WarningsOmitted > 0 {
		s.printf("  and %s more\n", human.Plural(r.WarningsOmitted, "warning"))
	}
}

func (s *session) printSizes(r job.Result) {
	t := newFacts(s.Out)
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
	t := newFacts(s.Out)
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

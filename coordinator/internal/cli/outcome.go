package cli

import (
	"cmp"
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
		if f.Code == job.NeedsConfirmation {
			s.printf("  to delete them all the same: %s\n", confirming(j))
		}
		s.printf("  its log: borgfleet job log %s\n", j.ID)
	}
	if j.Result != nil {
		s.printResult(j, *j.Result)
	}
}

// subject is what a job is about: "backup of web1 into main", "check of main on
// web1", "verify of web1".
func subject(j job.Job) string {
	switch spec := j.Spec.(type) {
	case job.BackupSpec:
		return j.Title() + " into " + j.Repository
	case job.UmountSpec:
		return string(j.Kind) + " of " + console.Printable(spec.MountPoint) + " on " + j.Host
	case job.VerifySpec:
		if j.Repository == "" {
			return j.Title()
		}
		return j.Title() + " with " + j.Repository
	default:
		if j.For != "" {
			return string(j.Kind) + " of " + j.Repository + " on " + j.Host + " for " + j.For
		}
		return string(j.Kind) + " of " + j.Repository + " on " + j.Host
	}
}

// about is the host whose archives a job is about, or else the one that runs it.
func about(j job.Job) string { return cmp.Or(j.For, j.Host) }

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
		s.printArchives(j, r)
	case job.Prune:
		s.printPrune(j, r)
	case job.Delete:
		s.printDeleted(j, r)
	case job.Check:
		s.printCheck(j, r)
	case job.Restore:
		s.printRestored(j, r)
	case job.TestRestore:
		s.printEvidence(r.Evidence)
	case job.Diff:
		if r.Diff != nil {
			s.printDiff(*r.Diff)
		}
	case job.Verify:
		s.printChecks(r.Checks)
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

func (s *session) printArchives(j job.Job, r job.Result) {
	if spec, _ := j.Spec.(job.ListSpec); spec.Archive != "" {
		s.printf("  to see them: %s\n", commandLine("borgfleet", "archive", "files", j.Repository, spec.Archive))
		return
	}
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

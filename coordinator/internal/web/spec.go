package web

import (
	"cmp"
	"fmt"
	"html/template"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// wish is one thing that a job was asked for.
type wish struct {
	Label  string
	Values []string
	Code   bool // paths, patterns and names stand in borg's own letters
}

// Wishes is the job's spec as people read it; defaults that matter are said.
func (p *jobPage) Wishes() []wish {
	switch spec := p.Spec.(type) {
	case job.BackupSpec:
		return backupWishes(spec)
	case job.PruneSpec:
		return p.pruneWishes(spec)
	case job.CheckSpec:
		return checkWishes(spec)
	case job.ListSpec:
		return listWishes(spec)
	case job.InfoSpec:
		return compactWishes(text("Archive", spec.Archive))
	case job.CompactSpec:
		return compactWishes(count("Threshold in percent", spec.Threshold))
	case job.InitSpec:
		return compactWishes(text("Encryption", string(spec.Encryption)))
	case job.RestoreSpec:
		return restoreWishes(spec)
	case job.BreakLockSpec:
		return compactWishes(flag("Force", spec.Force, "whoever holds the lock"), flag("Dry run", spec.DryRun, "nothing is changed"))
	case job.KeyExportSpec:
		return compactWishes(text("Encrypted to", spec.Recipient))
	}
	return archiveWishes(p.Spec)
}

func backupWishes(spec job.BackupSpec) []wish {
	compression := spec.Compression
	if compression == "" {
		compression = "lz4"
	}
	limit := wish{}
	if spec.UploadLimit > 0 {
		limit = wish{Label: "Upload limit", Values: []string{human.Count(spec.UploadLimit) + " KiB/s"}}
	}
	return compactWishes(
		wish{"Paths", spec.Paths, true}, wish{"Exclude", spec.Exclude, true},
		text("Compression", compression), text("Archive", spec.Archive), wish{Label: "Comment", Values: nonEmpty(spec.Comment)},
		flag("Cache directories", spec.ExcludeCaches, "left out"), flag("Other file systems", spec.OneFileSystem, "left out"),
		flag("User and group names", spec.NumericIDs, "left out"),
		flag("Files", spec.ListFiles, "listed in the log, but for unchanged ones"), limit,
	)
}

func (p *jobPage) pruneWishes(spec job.PruneSpec) []wish {
	which := text("Archives that begin with", spec.Prefix)
	switch {
	case spec.All:
		which = wish{Label: "Archives", Values: []string{"all of the repository"}}
	case spec.Prefix == "":
		which = text("Archives", p.Host+"-<time>")
	}
	share := wish{}
	if !spec.Confirmed && !spec.DryRun {
		share = count("At most, in percent", cmp.Or(spec.MaxPercent, job.DefaultMaxPercent))
	}
	return compactWishes(
		which, text("Keep all within", spec.KeepWithin),
		count("Keep last", spec.KeepLast), count("Keep hourly", spec.KeepHourly), count("Keep daily", spec.KeepDaily),
		count("Keep weekly", spec.KeepWeekly), count("Keep monthly", spec.KeepMonthly), count("Keep yearly", spec.KeepYearly),
		flag("Dry run", spec.DryRun, "nothing is deleted"), share,
	)
}

func checkWishes(spec job.CheckSpec) []wish {
	limit := wish{}
	if spec.MaxDuration > 0 {
		limit = wish{Label: "At most", Values: []string{human.Duration(time.Duration(spec.MaxDuration) * time.Second)}}
	}
	return compactWishes(
		flag("Data", spec.VerifyData, "every chunk is read and verified"),
		flag("Archives", spec.RepositoryOnly || spec.MaxDuration > 0, "not checked"), limit,
		flag("Repair", spec.Repair, "what can be mended is mended, what is lost is lost"), count("Only the newest archives", spec.Last), text("Archives that begin with", spec.Prefix),
	)
}

func restoreWishes(spec job.RestoreSpec) []wish {
	paths := wish{"Paths", spec.Paths, true}
	if len(spec.Paths) == 0 {
		paths = wish{Label: "Paths", Values: []string{"all"}}
	}
	return compactWishes(
		text("Archive", spec.Archive), paths, text("Into", spec.Target), wish{"Leave out", spec.Exclude, true},
		flag("Files of the same names", spec.Overwrite, "replaced"), flag("Files of the same names", spec.KeepExisting, "kept"),
		count("Leading parts left out", spec.StripComponents), flag("Owners", spec.NumericIDs, "by their numbers"), flag("Dry run", spec.DryRun, "nothing is written"),
	)
}

func text(label, value string) wish { return wish{label, nonEmpty(value), true} }

func count(label string, n int) wish {
	if n == 0 {
		return wish{}
	}
	return wish{Label: label, Values: []string{strconv.Itoa(n)}}
}

func flag(label string, set bool, meaning string) wish {
	if !set {
		return wish{}
	}
	return wish{Label: label, Values: []string{meaning}}
}

func nonEmpty(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// compactWishes leaves out those that were not asked for.
func compactWishes(all ...wish) []wish {
	var list []wish
	for _, w := range all {
		if len(w.Values) > 0 {
			list = append(list, w)
		}
	}
	return list
}

// attemptRow is one line of a job's table of attempts.
type attemptRow struct {
	clock
	job.Attempt
}

// Chip is the attempt's state.
func (r attemptRow) Chip() chip { return stateChip(r.State) }

// Began is when borg was started, or else when the order was sent.
func (r attemptRow) Began() template.HTML {
	if r.StartedAt != nil {
		return r.At(*r.StartedAt)
	}
	return r.At(r.SentAt)
}

// Ran is how long borg ran.
func (r attemptRow) Ran() template.HTML {
	switch {
	case r.StartedAt == nil:
		return quietNone
	case r.FinishedAt == nil:
		return r.Span(*r.StartedAt)
	}
	return template.HTML(human.Duration(r.FinishedAt.Sub(*r.StartedAt))) //nolint:gosec // digits and units
}

// Named is its name in the log: "attempt 2".
func (r attemptRow) Named() string { return fmt.Sprintf("attempt %d", r.Number) }

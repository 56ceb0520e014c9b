package web

import (
	"strconv"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file says what jobs brought that look after archives, or use them.

// resultFigures are the numbers of the kinds that have a table of their own.
func resultFigures(j job.Job, r *job.Result) []figure {
	switch j.Kind {
	case job.Delete:
		label := "Deleted"
		if spec, ok := j.Spec.(job.DeleteSpec); ok && spec.DryRun {
			label = "Would be deleted"
		}
		return []figure{{label, human.Count(len(r.Deleted) + r.DeletedOmitted)}}
	case job.Diff:
		if d := r.Diff; d != nil {
			return []figure{
				{"Added", human.Count(d.Added)}, {"Removed", human.Count(d.Removed)}, {"Changed", human.Count(d.Modified)},
				{"Only mode, owner or times", human.Count(d.Metadata)}, {"Bytes added", human.Bytes(d.AddedBytes)}, {"Bytes removed", human.Bytes(d.RemovedBytes)},
			}
		}
	case job.TestRestore:
		return evidenceFigures(r.Evidence)
	case job.Check:
		if n := len(r.Damaged) + r.DamagedOmitted; n > 0 {
			return []figure{{"Damaged", human.Count(n)}}
		}
	case job.Verify:
		bad := 0
		for _, check := range r.Checks {
			if !check.Good {
				bad++
			}
		}
		return []figure{{"Good", human.Count(len(r.Checks) - bad)}, {"Not good", human.Count(bad)}}
	}
	return nil
}

// keptRow is an archive of a prune, and the rule that keeps it.
type keptRow struct {
	Name, URL, By string
	Kept          bool
}

// Considered are the archives that a prune has looked at: those that go first.
func (p *jobPage) Considered() []keptRow {
	r := p.Result
	list := make([]keptRow, 0, len(r.Pruned)+len(r.Kept))
	for _, name := range r.Pruned {
		row := keptRow{Name: name}
		if p.IsPreview() {
			row.URL = archiveURL(p.Repository, name)
		}
		list = append(list, row)
	}
	for _, name := range r.Kept {
		list = append(list, keptRow{name, archiveURL(p.Repository, name), r.KeptBy[name], true})
	}
	return list
}

// Omitted is how many archives of a prune have no row.
func (p *jobPage) Omitted() int { return p.Result.KeptOmitted + p.Result.PrunedOmitted }

// IsPreview reports whether it is a prune's dry run.
func (p *jobPage) IsPreview() bool {
	spec, ok := p.Spec.(job.PruneSpec)
	return ok && spec.DryRun
}

// MayPrune reports whether the reader may now do what a preview has shown.
func (p *jobPage) MayPrune() bool {
	return p.IsPreview() && good(p.Job) && len(p.Result.Pruned) > 0 && p.mayRun(job.Prune)
}

// PreviewURL shows the rules of a prune again, to look what it would delete;
// empty, unless that is what helps.
func (p *jobPage) PreviewURL() string {
	spec, ok := p.Spec.(job.PruneSpec)
	if !ok || p.Failure == nil || p.Failure.Code != job.NeedsConfirmation || !p.mayRun(job.Prune) {
		return ""
	}
	which := ""
	switch {
	case spec.All:
		which = "all"
	case spec.Prefix != "":
		which = "prefix"
	}
	return withQuery(repositoryURL(p.Repository)+"/prune", "host", subject(p.Job), "which", which, "prefix", spec.Prefix, "keep_within", spec.KeepWithin,
		"keep_last", positive(spec.KeepLast), "keep_hourly", positive(spec.KeepHourly), "keep_daily", positive(spec.KeepDaily),
		"keep_weekly", positive(spec.KeepWeekly), "keep_monthly", positive(spec.KeepMonthly), "keep_yearly", positive(spec.KeepYearly))
}

func positive(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// DeleteURL asks whether that shall go what a delete's dry run has shown; empty,
// unless it may.
func (p *jobPage) DeleteURL() string {
	spec, ok := p.Spec.(job.DeleteSpec)
	if !ok || !spec.DryRun || !good(p.Job) || len(p.Result.Deleted) == 0 || p.Result.DeletedOmitted > 0 || len(p.Result.Deleted) > archivesPerPage || !p.mayRun(job.Delete) {
		return ""
	}
	return deleteURL(p.Repository, p.Result.Deleted...)
}

// RepairURL is the form that repairs what a check has found damaged; empty, if
// there is nothing, or the reader may not.
func (p *jobPage) RepairURL() string {
	if p.Kind != job.Check || p.Result == nil || len(p.Result.Damaged) == 0 || !p.Administers() {
		return ""
	}
	return withQuery(repositoryURL(p.Repository)+"/repair", "host", p.Host)
}

// changeRow is one path that differs between two archives.
type changeRow struct {
	job.Change
	At place // in the archive that has it
}

// Chip says what has become of it.
func (r changeRow) Chip() chip {
	switch r.Kind {
	case "added":
		return chip{"ok", "plus", "added"}
	case "removed":
		return chip{"warn", "minus", "removed"}
	case "modified":
		return chip{"run", "sent", "changed"}
	}
	return chip{"idle", "sent", r.Kind}
}

// Changes are what differs between two archives.
func (p *jobPage) Changes() []changeRow {
	spec, ok := p.Spec.(job.DiffSpec)
	if !ok || p.Result.Diff == nil {
		return nil
	}
	list := make([]changeRow, len(p.Result.Diff.Changes))
	for i, c := range p.Result.Diff.Changes {
		at := place{Repository: p.Repository, Archive: spec.Other, Path: c.Path}
		if c.Kind == "removed" {
			at.Archive = spec.Archive
		}
		list[i] = changeRow{c, at}
	}
	return list
}

// ArchiveLink is the page of an archive that the job made or used; empty: it has
// none.
func (p *jobPage) ArchiveLink(name string) string {
	if name == "" || p.Repository == "" {
		return ""
	}
	return archiveURL(p.Repository, name)
}

// BrowseURL is where the files are that the job has listed, or is listing; empty,
// if it lists none.
func (p *jobPage) BrowseURL() string {
	if spec, ok := p.Spec.(job.ListSpec); ok && spec.Archive != "" {
		return filesURL(p.Repository, spec.Archive, "")
	}
	return ""
}

// Mount is the job as a mount; nil: it keeps nothing mounted now.
func (p *jobPage) Mount() *mountRow {
	if !isMount(p.Job) {
		return nil
	}
	row := p.clock.mount(p.Job, p.reader)
	return &row
}

// Preposition is how the repository belongs to the job.
func (p *jobPage) Preposition() string {
	switch p.Kind {
	case job.Backup:
		return "into"
	case job.Restore, job.Download, job.Delete, job.TestRestore:
		return "from"
	}
	return "on"
}

// GoesWord is what becomes of an archive that no rule keeps.
func (p *jobPage) GoesWord() string {
	if p.IsPreview() {
		return "would go"
	}
	return "deleted"
}

// DeleteIsDry reports whether it is a delete's dry run.
func (p *jobPage) DeleteIsDry() bool {
	spec, ok := p.Spec.(job.DeleteSpec)
	return ok && spec.DryRun
}

// MayCancel reports whether the reader may end the job in this way: what can be
// unmounted has a button for that.
func (p *jobPage) MayCancel() bool {
	mount := p.Mount()
	return p.Operates() && !p.State.Terminal() && !p.CancelRequested && (mount == nil || !mount.Mounted())
}

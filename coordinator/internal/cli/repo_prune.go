package cli

import (
	"strconv"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type repoPrune struct {
	onRepository
	KeepWithin  string `help:"Keep everything within this interval: a number and one of H d w m y, for example 2d." placeholder:"INTERVAL" group:"What to keep:"`
	KeepLast    int    `help:"Keep the newest N." placeholder:"N" group:"What to keep:"`
	KeepHourly  int    `help:"Keep N hourly archives." placeholder:"N" group:"What to keep:"`
	KeepDaily   int    `help:"Keep N daily archives." placeholder:"N" group:"What to keep:"`
	KeepWeekly  int    `help:"Keep N weekly archives." placeholder:"N" group:"What to keep:"`
	KeepMonthly int    `help:"Keep N monthly archives." placeholder:"N" group:"What to keep:"`
	KeepYearly  int    `help:"Keep N yearly archives." placeholder:"N" group:"What to keep:"`
	Prefix      string `help:"Consider only archives whose name begins so. Default: those that the host has named by itself, HOST and the time." placeholder:"PREFIX" group:"Which archives:"`
	All         bool   `help:"Consider every archive of the repository. Refused where another host has archives." group:"Which archives:"`
	Preview     bool   `help:"Only show what would be deleted, and which rule keeps what (also --dry-run)." aliases:"dry-run" group:"How many may go:"`
	MaxPercent  int    `help:"How many percent of them may go without being asked again. Default: ${default_max_percent}." placeholder:"PERCENT" group:"How many may go:"`
	Confirm     bool   `help:"However many go: you have seen them." group:"How many may go:"`
}

// Help is the end of the command's help.
func (repoPrune) Help() string {
	return `Examples:

    borgfleet repo prune main --host web1 --keep-daily 7 --keep-weekly 4 --preview
    borgfleet repo prune main --host web1 --keep-daily 7 --keep-weekly 4

A prune never touches what another host has made. Before it deletes anything, a job of its own looks what would go: if that is more than --max-percent, the prune fails and nothing is deleted; --confirm lets it go without that look. The space is free after borgfleet repo compact.`
}

func (c repoPrune) spec() job.PruneSpec {
	return job.PruneSpec{
		KeepWithin: c.KeepWithin, KeepLast: c.KeepLast, KeepHourly: c.KeepHourly, KeepDaily: c.KeepDaily,
		KeepWeekly: c.KeepWeekly, KeepMonthly: c.KeepMonthly, KeepYearly: c.KeepYearly,
		Prefix: c.Prefix, All: c.All, DryRun: c.Preview, MaxPercent: c.MaxPercent, Confirmed: c.Confirm,
	}
}

// Run runs the command.
func (c repoPrune) Run(s *session) error {
	if c.Preview && c.Confirm {
		return console.Usage("--preview deletes nothing that could be confirmed (give one of them)")
	}
	return c.run(s, c.spec())
}

// printPrune says what a prune has deleted, or would delete.
func (s *session) printPrune(j job.Job, r job.Result) {
	spec, _ := j.Spec.(job.PruneSpec)
	kept, deleted := "kept", "deleted"
	if spec.DryRun {
		kept, deleted = "would keep", "would delete"
	}
	s.printf("  %s %s, %s %s\n", kept, human.Plural(len(r.Kept)+r.KeptOmitted, "archive"), deleted, human.Plural(len(r.Pruned)+r.PrunedOmitted, "archive"))
	if spec.DryRun {
		s.printPreview(r)
		return
	}
	for _, name := range r.Pruned {
		s.printf("    %s %s\n", deleted, console.Printable(name))
	}
	s.omitted(r.PrunedOmitted, "archive")
	if len(r.Pruned) > 0 {
		s.printFreeing(j)
	}
}

// printPreview shows which rule keeps an archive, and what would go.
func (s *session) printPreview(r job.Result) {
	if len(r.Kept)+len(r.Pruned) == 0 {
		return
	}
	t := newTable(s.Out, "ARCHIVE", "KEPT BY")
	for _, name := range r.Kept {
		t.row(name, orNone(r.KeptBy[name]))
	}
	for _, name := range r.Pruned {
		t.row(name, "would be deleted")
	}
	t.end()
	s.omitted(r.KeptOmitted+r.PrunedOmitted, "archive")
}

// printFreeing says when the space of what was deleted is free.
func (s *session) printFreeing(j job.Job) {
	s.printf("  their space is free after: %s\n", commandLine("borgfleet", "repo", "compact", j.Repository, "--host", about(j)))
}

// omitted says how much was left out of a result.
func (s *session) omitted(count int, noun string) {
	if count > 0 {
		s.printf("  and %s more\n", human.Plural(count, noun))
	}
}

// confirming is the command that does what a prune was not allowed to do without
// being asked again.
func confirming(j job.Job) string {
	spec, _ := j.Spec.(job.PruneSpec)
	words := []string{"borgfleet", "repo", "prune", j.Repository, "--host", about(j)}
	add := func(flag, value string) {
		if value != "" && value != "0" {
			words = append(words, flag, value)
		}
	}
	add("--keep-within", spec.KeepWithin)
	for _, rule := range []struct {
		flag  string
		count int
	}{
		{"--keep-last", spec.KeepLast}, {"--keep-hourly", spec.KeepHourly}, {"--keep-daily", spec.KeepDaily},
		{"--keep-weekly", spec.KeepWeekly}, {"--keep-monthly", spec.KeepMonthly}, {"--keep-yearly", spec.KeepYearly},
	} {
		add(rule.flag, strconv.Itoa(rule.count))
	}
	add("--prefix", spec.Prefix)
	if spec.All {
		words = append(words, "--all")
	}
	return commandLine(append(words, "--confirm")...)
}

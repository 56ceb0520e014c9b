package cli

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type archiveDelete struct {
	Name     string   `arg:"" name:"repository" help:"The repository's name."`
	Archives []string `arg:"" optional:"" help:"The archives' names."`
	Glob     string   `help:"Instead of names: all whose name matches: * ? [abc]." placeholder:"GLOB"`
	DryRun   bool     `help:"Only show which ones."`
	Yes      bool     `help:"Do not ask whether you are sure." short:"y"`
	byMaker
}

// Help is the end of the command's help.
func (archiveDelete) Help() string {
	return `Examples:

    borgfleet archive delete main web1-2026-11-22T02:00:00
    borgfleet archive delete main --glob 'web1-2026-0*' --dry-run

What would go is shown first, and you are asked; then exactly that is deleted. Its space is free after borgfleet repo compact. What is mounted is not deleted.`
}

// Run runs the command.
func (c archiveDelete) Run(s *session) error {
	spec := job.DeleteSpec{Archives: c.Archives, Glob: c.Glob, DryRun: c.DryRun}
	if err := spec.Validate(); err != nil { // before anybody is asked
		return err
	}
	at := place{host: c.Host, repository: c.Name, archives: c.Archives, deadlines: c.deadlines}
	if c.Yes || c.DryRun {
		return s.runAt(at, spec)
	}
	if _, ok := s.terminal(); !ok || s.globals.JSON {
		return console.Usage("this deletes archives, and nobody is there to be asked (add --yes if you are sure, or --dry-run to see which)")
	}
	spec.DryRun = true
	look, err := s.endOf(at, spec)
	if err != nil {
		return err
	}
	gone := look.Result
	if gone == nil || look.State != job.Succeeded && look.State != job.Warning || len(gone.Deleted) == 0 {
		return s.finish(look)
	}
	s.printResult(look, *gone)
	count := len(gone.Deleted) + gone.DeletedOmitted
	if err := s.confirm(fmt.Sprintf("Delete %s of %s? [y/N] ", human.Plural(count, "archive"), c.Name), "add --yes"); err != nil {
		return err
	}
	at.host = look.Host
	return s.runAt(at, exactly(spec, *gone))
}

// exactly deletes what was shown, also if a glob would match more by now.
func exactly(spec job.DeleteSpec, shown job.Result) job.DeleteSpec {
	spec.DryRun = false
	if shown.DeletedOmitted == 0 && len(shown.Deleted) <= job.MaxArchives {
		return job.DeleteSpec{Archives: shown.Deleted}
	}
	return spec
}

// printDeleted says which archives are gone, or would be.
func (s *session) printDeleted(j job.Job, r job.Result) {
	spec, _ := j.Spec.(job.DeleteSpec)
	done := "deleted"
	if spec.DryRun {
		done = "would delete"
	}
	for _, name := range r.Deleted {
		s.printf("  %s %s\n", done, console.Printable(name))
	}
	s.omitted(r.DeletedOmitted, "archive")
	switch {
	case len(r.Deleted) == 0 && j.State != job.Failed:
		s.printf("  no archive matches\n")
	case len(r.Deleted) > 0 && !spec.DryRun:
		s.printFreeing(j)
	}
}

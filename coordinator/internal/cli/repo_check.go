package cli

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type repoCheck struct {
	onRepository
	VerifyData     bool          `help:"Read and verify every chunk of data; slow."`
	RepositoryOnly bool          `help:"Skip the archives' metadata."`
	MaxDuration    time.Duration `help:"Stop after this time, and go on there next time. Implies --repository-only." placeholder:"TIME"`
	Last           int           `help:"Only the newest N archives." placeholder:"N"`
	Prefix         string        `help:"Only archives whose name begins so." placeholder:"PREFIX"`
	Repair         bool          `help:"Mend what can be mended; what is lost is lost. Asks for the repository's name." group:"To repair:"`
	Yes            bool          `help:"Do not ask whether you are sure." short:"y" group:"To repair:"`
}

// Help is the end of the command's help.
func (repoCheck) Help() string {
	return `Examples:

    borgfleet repo check main --host web1
    borgfleet repo check main --host web1 --verify-data --last 3
    borgfleet repo check main --host web1 --repair

A check reads only. It ends as failed, with the code integrity_error, if something is damaged, and names it.

` + whatRepairDoes
}

// whatRepairDoes is what must be known before.
const whatRepairDoes = `--repair changes the repository, and what it takes away does not come back: damaged segments lose what cannot be read in them, archives whose metadata is lost are removed, and parts of files that are lost are replaced by zeros. A later backup of a file that is still the same on its host brings its lost parts back. If the disk may be failing, copy the repository to another one before.`

// Run runs the command.
func (c repoCheck) Run(s *session) error {
	spec := job.CheckSpec{
		VerifyData: c.VerifyData, RepositoryOnly: c.RepositoryOnly, MaxDuration: int(c.MaxDuration.Seconds()),
		Repair: c.Repair, Last: c.Last, Prefix: c.Prefix,
	}
	if err := spec.Validate(); err != nil { // before anybody is asked
		return err
	}
	if c.Repair && !c.Yes {
		if err := c.ask(s); err != nil {
			return err
		}
	}
	return c.run(s, spec)
}

func (c repoCheck) ask(s *session) error {
	if _, ok := s.terminal(); !ok || s.globals.JSON {
		return console.Usage("this may take damaged data away for ever, and nobody is there to be asked (add --yes if you are sure)")
	}
	fmt.Fprintln(s.Err, whatRepairDoes)
	return s.confirmName(fmt.Sprintf("To repair %s, type the repository's name: ", c.Name), c.Name)
}

// printCheck names what a check has found damaged.
func (s *session) printCheck(j job.Job, r job.Result) {
	for _, item := range r.Damaged {
		s.printf("  damaged: %s\n", console.Printable(item))
	}
	s.omitted(r.DamagedOmitted, "damaged item")
	if spec, _ := j.Spec.(job.CheckSpec); spec.Repair && j.State != job.Failed {
		s.printf("  see what is left: %s\n", commandLine("borgfleet", "repo", "check", j.Repository, "--host", about(j)))
	}
}

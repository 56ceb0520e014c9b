package cli

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

type repoCommands struct {
	List    repoList      `cmd:"" help:"List repositories."`
	Show    repoShow      `cmd:"" help:"Show one repository, as it is known here."`
	Add     repoAdd       `cmd:"" help:"Make a repository known. It is created on disk by init."`
	Init    repoInit      `cmd:"" help:"Create the repository on disk (borg init)."`
	Info    repoInfo      `cmd:"" help:"Ask borg for the repository's sizes (borg info)."`
	Prune   repoPrune     `cmd:"" help:"Delete archives that no keep rule wants; --preview shows which (borg prune)."`
	Compact repoCompact   `cmd:"" help:"Free the space of deleted archives (borg compact)."`
	Check   repoCheck     `cmd:"" help:"Verify the repository's consistency, or repair it (borg check)."`
	Break   repoBreakLock `cmd:"" name:"break-lock" help:"Remove the lock that a killed borg left (borg break-lock)."`
	Seal    repoSeal      `cmd:"" help:"Seal the passphrase to one more host (custody hosts)."`
	Export  repoExport    `cmd:"" name:"key-export" help:"Get borg's key for safe keeping, encrypted to an age recipient."`
	Move    repoMove      `cmd:"" help:"Say where a repository is now that was moved."`
	Allow   repoAllow     `cmd:"" help:"Let a host use a repository in the depot."`
	Deny    repoDeny      `cmd:"" help:"No longer let a host use it."`

	Unfreeze     repoUnfreeze     `cmd:"" help:"Take a frozen repository in the depot as it is."`
	Transactions repoTransactions `cmd:"" help:"List the changes of a repository in the depot."`
	Rollback     repoRollback     `cmd:"" help:"Undo the newest changes of a frozen repository."`

	Remove repoRemove `cmd:"" help:"Forget a repository. What is on its disk stays."`
}

type repoList struct{}

// Run runs the command.
func (repoList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	repositories, err := api.Repositories(s.ctx)
	if err != nil {
		return err
	}
	return s.show(repositories, func() {
		if len(repositories) == 0 {
			s.printf("No repositories yet. Add one with: borgfleet repo add NAME --location LOCATION\n")
			return
		}
		t := newTable(s.Out, "REPOSITORY", "LOCATION", "ENCRYPTION", "LAST BACKUP", "BUSY WITH")
		for _, r := range repositories {
			t.row(r.Name, r.Location, string(r.Encryption), lastBackup(r.LastBackup), orNone(r.Busy))
		}
		t.end()
	})
}

func lastBackup(b *fleet.BackupSummary) string {
	if b == nil {
		return human.None
	}
	return human.Ago(b.FinishedAt, time.Now()) + " (" + b.Archive + ")"
}

type repoShow struct {
	Name string `arg:"" help:"The repository's name."`
}

// Run runs the command.
func (c repoShow) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	r, err := api.Repository(s.ctx, c.Name)
	if err != nil {
		return err
	}
	return s.show(r, func() {
		t := newFacts(s.Out)
		t.row("repository", r.Name)
		if r.InDepot() {
			t.row("location", "depot: kept by the coordinator itself")
		} else {
			t.row("location", r.Location)
		}
		if r.Depot != nil {
			t.depot(r)
		}
		t.row("encryption", string(r.Encryption))
		t.row("passphrase", custody(r))
		if r.HasKey {
			t.row("key exported", keyExported(r))
		}
		t.row("busy with", orNone(r.Busy))
		t.row("last backup", lastBackup(r.LastBackup))
		for _, at := range []struct {
			name string
			when *time.Time
		}{{"last check", r.LastCheck}, {"last prune", r.LastPrune}, {"last compact", r.LastCompact}} {
			if at.when != nil {
				t.row(at.name, human.Ago(*at.when, time.Now()))
			}
		}
		t.end()
		s.printFrozen(r)
	})
}

type repoRemove struct {
	Name string `arg:"" help:"The repository's name."`
	Yes  bool   `help:"Do not ask whether you are sure." short:"y"`
}

// Run runs the command.
func (c repoRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if !c.Yes {
		err := s.confirm(
			fmt.Sprintf("Forget repository %s and the passphrase that is kept here? Without it no archive can be read. [y/N] ", c.Name),
			"this forgets the passphrase that is kept here; without it no archive can be read (add --yes if you are sure)")
		if err != nil {
			return err
		}
	}
	if err := api.RemoveRepository(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() {
		s.printf("Removed repository %s, with its passphrase. What is on its disk stays.\n", c.Name)
	})
}

type repoInit struct{ onRepository }

// Run runs the command.
func (c repoInit) Run(s *session) error { return c.run(s, job.InitSpec{}) }

type repoInfo struct{ onRepository }

// Run runs the command.
func (c repoInfo) Run(s *session) error { return c.run(s, job.InfoSpec{}) }

type repoCompact struct {
	onRepository
	Threshold int `help:"Rewrite a segment when it saves this many percent. Default: borg's 10." placeholder:"PERCENT"`
}

// Run runs the command.
func (c repoCompact) Run(s *session) error { return c.run(s, job.CompactSpec{Threshold: c.Threshold}) }

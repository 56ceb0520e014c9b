package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type repoCommands struct {
	List    repoList    `cmd:"" help:"List repositories."`
	Show    repoShow    `cmd:"" help:"Show one repository, as it is known here."`
	Add     repoAdd     `cmd:"" help:"Make a repository known. It is created on disk by init."`
	Init    repoInit    `cmd:"" help:"Create the repository on disk (borg init)."`
	Info    repoInfo    `cmd:"" help:"Ask borg for the repository's sizes (borg info)."`
	Prune   repoPrune   `cmd:"" help:"Delete archives that no keep rule wants (borg prune)."`
	Compact repoCompact `cmd:"" help:"Free the space of deleted archives (borg compact)."`
	Check   repoCheck   `cmd:"" help:"Verify the repository's consistency (borg check)."`
	Remove  repoRemove  `cmd:"" help:"Forget a repository. What is on its disk stays."`
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
		t.row("location", r.Location)
		t.row("encryption", string(r.Encryption))
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
	})
}

type repoAdd struct {
	Name               string         `arg:"" help:"The new repository's name."`
	Location           string         `required:"" help:"Absolute path on the host, or ssh://user@host:port/path." placeholder:"LOCATION"`
	Encryption         job.Encryption `help:"Borg's encryption mode: ${encryption_list}. Default: ${default}." default:"repokey-blake2" enum:"${encryptions}" placeholder:"MODE"`
	PassphraseFile     string         `help:"Take the passphrase from this file; - is standard input. Default: ask." placeholder:"FILE"`
	GeneratePassphrase bool           `help:"Make a strong passphrase, and print it this once."`
}

// Run implements repo add. The passphrase is never an argument.
func (c repoAdd) Run(s *session) error {
	request := fleet.NewRepository{Name: c.Name, Location: c.Location, Encryption: c.Encryption, Generate: c.GeneratePassphrase}
	if err := (job.Repository{Name: c.Name, Location: c.Location, Encryption: c.Encryption}).Validate(); err != nil {
		return err
	}
	if c.GeneratePassphrase && c.PassphraseFile != "" {
		return console.Usage("--generate-passphrase and --passphrase-file exclude each other")
	}
	if c.Encryption.NeedsPassphrase() && !c.GeneratePassphrase {
		passphrase, err := s.passphrase(c.PassphraseFile)
		if err != nil {
			return err
		}
		request.Passphrase = passphrase
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	added, err := api.AddRepository(s.ctx, request)
	if err != nil {
		return err
	}
	if s.globals.JSON {
		generated := ""
		if c.GeneratePassphrase {
			generated = string(added.Passphrase.Reveal())
		}
		return s.PrintJSON(struct {
			fleet.RepositoryView
			Generated string `json:"generated_passphrase,omitempty"`
		}{added.RepositoryView, generated})
	}
	s.printf("Added repository %s. Create it on disk with: borgfleet repo init %s --host HOST\n", c.Name, c.Name)
	if c.GeneratePassphrase {
		s.printf("Its passphrase, shown this once; keep it where this machine's loss does not reach it:\n%s\n", added.Passphrase.Reveal())
	}
	return nil
}

// passphrase reads from a file, from standard input, or from the terminal.
func (s *session) passphrase(file string) (secret.Value, error) {
	switch {
	case file == "-":
		value, err := secret.Read(s.In)
		if err != nil {
			return value, fmt.Errorf("read passphrase from standard input: %w", err)
		}
		return value, nil
	case file != "":
		return secret.ReadFile(file)
	}
	terminal, ok := s.In.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return secret.Value{}, console.Usage("a passphrase is needed (use --passphrase-file FILE, --passphrase-file - for standard input, or --generate-passphrase)")
	}
	first, err := s.prompt(terminal, "Passphrase: ")
	if err != nil {
		return secret.Value{}, err
	}
	second, err := s.prompt(terminal, "Again: ")
	if err != nil {
		return secret.Value{}, err
	}
	if !first.Equal(second) {
		return secret.Value{}, errors.New("the two passphrases differ: nothing was changed")
	}
	return first, nil
}

func (s *session) prompt(terminal *os.File, text string) (secret.Value, error) {
	_, _ = io.WriteString(s.Err, text)
	typed, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(s.Err)
	if err != nil {
		return secret.Value{}, fmt.Errorf("read passphrase: %w", err)
	}
	if len(typed) == 0 {
		return secret.Value{}, errors.New("the passphrase is empty: nothing was changed")
	}
	return secret.New(typed), nil
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
	if err := c.confirm(s); err != nil {
		return err
	}
	if err := api.RemoveRepository(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() {
		s.printf("Removed repository %s, with its passphrase. What is on its disk stays.\n", c.Name)
	})
}

// confirm asks a person at a terminal; a script must say --yes.
func (c repoRemove) confirm(s *session) error {
	if c.Yes {
		return nil
	}
	if _, ok := terminalWidth(s.In); !ok {
		return console.Usage("this forgets the passphrase that is kept here; without it no archive can be read (add --yes if you are sure)")
	}
	fmt.Fprintf(s.Err, "Forget repository %s and the passphrase that is kept here? Without it no archive can be read. [y/N] ", c.Name)
	var answer string
	if _, err := fmt.Fscanln(s.In, &answer); err != nil || !strings.EqualFold(answer, "y") && !strings.EqualFold(answer, "yes") {
		return errors.New("nothing was changed")
	}
	return nil
}

// onRepository is what every command that runs a job on a repository takes.
type onRepository struct {
	Name string `arg:"" help:"The repository's name."`
	Host string `required:"" help:"The host that runs it." placeholder:"HOST"`
}

func (c onRepository) run(s *session, spec job.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	return s.submitAndWatch(job.Request{Host: c.Host, Kind: spec.Kind(), Repository: c.Name, Spec: data})
}

type repoInit struct{ onRepository }

// Run runs the command.
func (c repoInit) Run(s *session) error { return c.run(s, job.InitSpec{}) }

type repoInfo struct{ onRepository }

// Run runs the command.
func (c repoInfo) Run(s *session) error { return c.run(s, job.InfoSpec{}) }

type repoPrune struct {
	onRepository
	KeepWithin  string `help:"Keep everything within this interval, for example 2d." placeholder:"INTERVAL"`
	KeepLast    int    `help:"Keep the newest N." placeholder:"N"`
	KeepHourly  int    `help:"Keep N hourly archives." placeholder:"N"`
	KeepDaily   int    `help:"Keep N daily archives." placeholder:"N"`
	KeepWeekly  int    `help:"Keep N weekly archives." placeholder:"N"`
	KeepMonthly int    `help:"Keep N monthly archives." placeholder:"N"`
	KeepYearly  int    `help:"Keep N yearly archives." placeholder:"N"`
	Prefix      string `help:"Consider only archives whose name begins so. Default: the host's, HOST-." placeholder:"PREFIX"`
	DryRun      bool   `help:"Only say what would be deleted."`
}

// Run runs the command.
func (c repoPrune) Run(s *session) error {
	return c.run(s, job.PruneSpec{
		KeepWithin: c.KeepWithin, KeepLast: c.KeepLast, KeepHourly: c.KeepHourly, KeepDaily: c.KeepDaily,
		KeepWeekly: c.KeepWeekly, KeepMonthly: c.KeepMonthly, KeepYearly: c.KeepYearly, Prefix: c.Prefix, DryRun: c.DryRun,
	})
}

type repoCompact struct {
	onRepository
	Threshold int `help:"Rewrite a segment when it saves this many percent. Default: borg's 10." placeholder:"PERCENT"`
}

// Run runs the command.
func (c repoCompact) Run(s *session) error { return c.run(s, job.CompactSpec{Threshold: c.Threshold}) }

type repoCheck struct {
	onRepository
	VerifyData     bool          `help:"Read and verify every chunk of data; slow."`
	RepositoryOnly bool          `help:"Skip the archives' metadata."`
	MaxDuration    time.Duration `help:"Stop after this time, and go on there next time." placeholder:"TIME"`
}

// Run runs the command.
func (c repoCheck) Run(s *session) error {
	return c.run(s, job.CheckSpec{VerifyData: c.VerifyData, RepositoryOnly: c.RepositoryOnly, MaxDuration: int(c.MaxDuration.Seconds())})
}

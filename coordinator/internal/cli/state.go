package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/term"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/coordinator/internal/state"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type stateCommands struct {
	Backup  stateBackup  `cmd:"" help:"Copy all that the coordinator cannot do without into a file, while it runs."`
	Restore stateRestore `cmd:"" help:"Put such a copy back, while no coordinator runs."`
}

type stateBackup struct {
	File      string `arg:"" help:"The file to write; - is standard output."`
	Recipient string `help:"Whom to encrypt it to: an age recipient, age1…" placeholder:"AGE1…"`
	Logs      bool   `help:"Also the logs of jobs."`
	Force     bool   `help:"Replace a file of that name."`
}

// Help is the end of the command's help.
func (stateBackup) Help() string {
	return `The file has a consistent snapshot of the database, and the keys and certificates that hosts, people and secrets hang on. Whoever can read it has everything; so give a recipient of age (https://age-encryption.org), and keep its identity off this machine:

    age-keygen -o escrow.txt                                    # once
    borgfleet state backup state.age --recipient age1…
    borgfleet state restore state.age --identity escrow.txt     # one day

Without a recipient only the owner of the data directory gets a copy, on the same machine.`
}

// Run runs the command.
func (c stateBackup) Run(s *session) error {
	if c.Recipient != "" {
		if err := state.CheckRecipient(c.Recipient); err != nil { // here, since it may be an identity, which nobody shall see
			return err
		}
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	if c.File == "-" {
		return c.print(s, api)
	}
	if _, err := os.Lstat(c.File); err == nil && !c.Force {
		return console.Usage("%s is there already (choose another name, or add --force)", c.File)
	}
	file, err := privateFile(c.File)
	if err != nil {
		return fmt.Errorf("write %s: %w", c.File, err)
	}
	defer file.Cleanup() // of what was not finished
	made, err := api.BackupState(s.ctx, c.asked(), file)
	if err != nil {
		return err
	}
	if err := errors.Join(file.CloseAtomicallyReplace(), disk.SyncDir(filepath.Dir(c.File))); err != nil {
		return fmt.Errorf("write %s: %w", c.File, err)
	}
	return s.show(c.told(made), func() { c.tell(s.Out, made) })
}

// print writes the copy to standard output, and what there is to say to
// standard error.
func (c stateBackup) print(s *session, api *client.Client) error {
	if out, ok := s.Out.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		return console.Usage("the copy is no text (give a file, or send standard output elsewhere)")
	}
	made, err := api.BackupState(s.ctx, c.asked(), s.Out)
	if err != nil {
		return err
	}
	apart := *s
	apart.Out = s.Err
	return apart.show(c.told(made), func() { c.tell(s.Err, made) })
}

func (c stateBackup) asked() fleet.StateBackup {
	return fleet.StateBackup{Recipient: c.Recipient, Logs: c.Logs}
}

func (c stateBackup) told(made client.StateCopy) any {
	return struct {
		File      string `json:"file"`
		Recipient string `json:"recipient"` // empty: not encrypted
		client.StateCopy
	}{c.File, c.Recipient, made}
}

func (c stateBackup) tell(to io.Writer, made client.StateCopy) {
	name := c.File
	if name == "-" {
		name = "the copy"
	}
	fmt.Fprintf(to, "The coordinator's state of %s is in %s (%s).\n", made.SnapshotAt.Local().Format(time.DateTime), name, human.Bytes(made.Size))
	if c.Recipient == "" {
		fmt.Fprintf(to, "It is not encrypted: whoever has it has every key, every passphrase and every host. --recipient encrypts it.\n")
	} else {
		fmt.Fprintf(to, "Only the identity of %s opens it.\n", c.Recipient)
	}
	tellOutside(to, made.Outside)
}

func tellOutside(to io.Writer, outside []string) {
	if len(outside) == 0 {
		return
	}
	fmt.Fprintf(to, "Not in it, and needed besides:\n")
	for _, thing := range outside {
		fmt.Fprintf(to, "  - %s\n", thing)
	}
}

type stateRestore struct {
	File     string `arg:"" help:"The file that state backup wrote; - is standard input."`
	Identity string `help:"The file with the age identity that opens it." type:"path" placeholder:"FILE"`
	Yes      bool   `help:"Do not ask whether to replace a state that is there." short:"y"`
}

// Help is the end of the command's help.
func (stateRestore) Help() string {
	return `Run it as the coordinator's user, with the coordinator stopped, on the data directory (--data). The whole file is checked before anything changes. What was there is moved to before-restore-TIME in the data directory, never removed; a stream of events that belongs to the same bus stays, since it has what hosts told after the copy was made.

Then start the coordinator: hosts come back by themselves, tell what they did since, and nothing is run twice. Hosts, people, tokens and repositories that were changed after the copy was made have to be looked at: status says so for a week. Everybody has to sign in again.

If it is cut short, the coordinator does not start until this command was run again, which goes on where it was.`
}

// Run runs the command.
func (c stateRestore) Run(s *session) error {
	dir := s.dataDir()
	if at, found, err := state.Finish(s.ctx, dir); found || err != nil {
		if err != nil {
			return err
		}
		return s.show(restored{Data: dir, SnapshotAt: at, Outside: []string{}}, func() {
			s.printf("The restoration that was cut short is done: %s has the state of %s.\n", dir, at.Local().Format(time.DateTime))
		})
	}
	r, err := c.open(s, dir)
	if err != nil {
		return err
	}
	return errors.Join(c.restore(s, dir, r), r.Close())
}

// restored is what the command tells.
type restored struct {
	Data       string    `json:"data"`
	SnapshotAt time.Time `json:"snapshot_at"`
	Aside      string    `json:"aside"` // where the state is that was there; empty: there was none
	Outside    []string  `json:"outside"`
}

func (c stateRestore) open(s *session, dir string) (*state.Restoration, error) {
	identities, err := c.identities()
	if err != nil {
		return nil, err
	}
	source := s.In
	if c.File != "-" {
		file, err := os.Open(c.File)
		if err != nil {
			return nil, err // it names the file
		}
		defer file.Close() // read only
		source = file
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: "borgfleet", Level: hclog.Warn, Output: s.Err})
	return state.Open(state.RestoreOptions{Copy: source, Identities: identities, Dir: dir, Logger: logger})
}

// identities reads the file of --identity, if there is one.
func (c stateRestore) identities() ([]age.Identity, error) {
	if c.Identity == "" {
		return nil, nil
	}
	text, err := secret.ReadFile(c.Identity)
	if err != nil {
		return nil, fmt.Errorf("read --identity: %w", err)
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text.Reveal()))
	if err != nil { // which may carry a line of the file
		return nil, console.Usage("--identity %s does not hold an identity of age (it has a line that begins with AGE-SECRET-KEY-1)", c.Identity)
	}
	return identities, nil
}

func (c stateRestore) restore(s *session, dir string, r *state.Restoration) error {
	at := r.Manifest.SnapshotAt.Local().Format(time.DateTime)
	if r.Replaces && !c.Yes {
		err := s.confirm(
			fmt.Sprintf("Replace the state in %s with the one of %s, made by borgfleet %s? The present one is moved to %s. [y/N] ", dir, at, r.Manifest.Version, r.Aside),
			"this replaces the state in "+dir+" (add --yes if you are sure)")
		if err != nil {
			return err
		}
	}
	if err := r.Apply(s.ctx); err != nil {
		return err
	}
	told := restored{Data: dir, SnapshotAt: r.Manifest.SnapshotAt, Outside: r.Manifest.Outside}
	if r.Replaces {
		told.Aside = r.Aside
	}
	return s.show(told, func() {
		s.printf("%s has the state of %s now.\n", dir, at)
		if told.Aside != "" {
			s.printf("What was there is in %s.\n", told.Aside)
		}
		tellOutside(s.Out, told.Outside)
		s.printf("Start the coordinator; then look at borgfleet status, and at hosts, people and tokens that were changed later.\n")
	})
}

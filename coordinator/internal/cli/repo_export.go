package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

// custody says who can read a repository's passphrase.
func custody(r fleet.RepositoryView) string {
	switch {
	case r.Custody == fleet.CustodyHosts:
		return "readable by " + strings.Join(r.SealedFor, ", ") + " only"
	case r.HasPassphrase:
		return "kept by the coordinator, encrypted"
	default:
		return "none"
	}
}

func keyExported(r fleet.RepositoryView) string {
	if r.KeyExportedAt == nil {
		return "never (see borgfleet repo key-export --help)"
	}
	return human.Ago(*r.KeyExportedAt, time.Now())
}

type repoExport struct {
	onRepository
	Recipient string `required:"" help:"Whom to encrypt it to: an age recipient, age1…" placeholder:"AGE1…"`
	Output    string `required:"" help:"The file to write; it must not exist." type:"path" placeholder:"FILE" short:"o"`
}

// Help is the end of the command's help.
func (repoExport) Help() string {
	return `A repository's key is kept in the repository, or on its host: when that is damaged, no archive can be read any more, passphrase or not. This command lets the host run borg key export and encrypt the key there, to a recipient of age (https://age-encryption.org); only the holder of the recipient's identity can read the file:

    age-keygen -o escrow.txt                                    # once; keep it off this machine
    borgfleet repo key-export main --host web1 --recipient age1… -o main.key.age
    age -d -i escrow.txt main.key.age > main.key                # one day, then: borg key import REPOSITORY main.key

status names the repositories whose key was never exported.`
}

// Run runs the job, and writes the key when it is there.
func (c repoExport) Run(s *session) error {
	if _, err := os.Stat(c.Output); !errors.Is(err, fs.ErrNotExist) {
		return console.Usage("--output %s is there already (choose another name)", c.Output)
	}
	if info, err := os.Stat(filepath.Dir(c.Output)); err != nil || !info.IsDir() {
		return console.Usage("--output: there is no directory %s", filepath.Dir(c.Output))
	}
	spec, err := json.Marshal(job.KeyExportSpec{Recipient: c.Recipient})
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	submitted, err := api.SubmitJob(s.ctx, job.Request{Host: c.Host, Kind: job.KeyExport, Repository: c.Name, Spec: spec})
	if err != nil {
		return err
	}
	if err := s.watch(api, submitted.ID); err != nil {
		return err
	}
	done, err := api.Job(s.ctx, submitted.ID)
	if err != nil {
		return err
	}
	if done.Result == nil || done.Result.KeyExport == "" {
		return fmt.Errorf("job %s ended without a key", done.ID)
	}
	if err := renameio.WriteFile(c.Output, []byte(done.Result.KeyExport), 0o600); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if !s.globals.JSON {
		s.printf("The key of %s is in %s, readable by %s only.\n", c.Name, c.Output, c.Recipient)
	}
	return nil
}

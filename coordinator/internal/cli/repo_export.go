package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// custody says who can read a repository's passphrase.
func custody(r fleet.RepositoryView) string {
	switch {
	case r.Custody == fleet.CustodyHosts && len(r.SealedFor) == 0:
		return "readable by no host (see borgfleet repo seal --help)"
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
	// The recipient is looked at here, since it may be an identity, which nobody shall see.
	api, request, err := s.prepare(c.place(), job.KeyExportSpec{Recipient: c.Recipient})
	if err != nil {
		return err
	}
	file, err := newFile(c.Output)
	if err != nil {
		return err
	}
	defer file.Cleanup() // of what was not finished
	submitted, err := api.SubmitJob(s.ctx, request)
	if err != nil {
		return err
	}
	outcome := s.watch(api, submitted.ID)
	if outcome != nil && !withWarnings(outcome) {
		return outcome
	}
	done, err := api.Job(s.ctx, submitted.ID)
	if err != nil {
		return err
	}
	if done.Result == nil || done.Result.KeyExport == "" {
		return fmt.Errorf("job %s ended without a key", done.ID)
	}
	if err := finish(file, []byte(done.Result.KeyExport)); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if !s.globals.JSON {
		s.printf("The key of %s is in %s, readable by %s only.\n", c.Name, c.Output, c.Recipient)
	}
	return outcome
}

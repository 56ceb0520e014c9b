package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type backupCommand struct {
	Repo  string   `help:"The repository to back up into." placeholder:"REPOSITORY"`
	Paths []string `arg:"" optional:"" name:"plan or paths" help:"A plan, to run it now; or absolute paths on the host."`
	Host  string   `help:"The host with the data. Default: the only one there is." placeholder:"HOST"`
	deadlines
	backupOptions
	Create string `help:"Make the repository first, at this location or in the depot, if there is none of that name." placeholder:"LOCATION" group:"For --create:"`
	fresh  `group:"For --create:"`
}

// Help is the end of the command's help.
func (backupCommand) Help() string {
	return `Examples:

    borgfleet backup web1-daily
    borgfleet backup --host web1 --repo main --exclude '*.tmp' /etc /var/www
    borgfleet backup --host web1 --repo main --pattern='+ home/*/Mail' --pattern='- home/*/Trash' /home
    borgfleet backup --host db1 --repo main --content-from dump-postgres --stdin-name postgres.sql
    borgfleet backup --host web1 --repo main --create ssh://backup@store/srv/borg/web1 --generate-passphrase /etc

Where a value begins with a dash, give it behind an equals sign: --pattern='- home'.

With --json, a passphrase that was made goes to standard error, since standard output is the job.

Ctrl-C ends the watching only; the backup goes on. The exit code is the backup's: 0 good, 3 with warnings, 4 failed, expired or cancelled.`
}

// Run runs the command.
func (c backupCommand) Run(s *session) error {
	if plan, ok := c.plan(); ok {
		if !c.plain() {
			return console.Usage("a plan says itself how it is backed up (leave out the flags, or see borgfleet plan run --help)")
		}
		return s.startPlan(plan, fleet.RunRequest{}, true)
	}
	if c.Repo == "" {
		return console.Usage("missing flags: --repo=REPOSITORY (run borgfleet backup --help)")
	}
	if len(c.Paths) == 0 && c.ContentFrom == "" && c.PathsFrom == "" {
		return console.Usage("nothing to back up (give paths, or --content-from or --paths-from)")
	}
	if c.Create == "" && (c.GeneratePassphrase || c.PassphraseFile != "") {
		return console.Usage("--generate-passphrase and --passphrase-file are for a new repository (add --create LOCATION)")
	}
	api, request, err := s.prepare(place{host: c.Host, repository: c.Repo, deadlines: c.deadlines}, c.spec(c.Paths))
	if err != nil {
		return err
	}
	if c.Create != "" {
		c.Host = request.Host
		if err := c.create(s, api); err != nil {
			return err
		}
	}
	return s.submitAndWatch(request)
}

// plan returns the plan that is to be run: what is no absolute path, alone and
// without a host or a repository.
func (c backupCommand) plan() (name string, ok bool) {
	if c.Host != "" || c.Repo != "" || len(c.Paths) != 1 || strings.HasPrefix(c.Paths[0], "/") {
		return "", false
	}
	return c.Paths[0], true
}

// plain reports whether nothing is said of how to back up.
func (c backupCommand) plain() bool {
	said, err := json.Marshal(c.spec(nil))
	nothing, none := json.Marshal(job.BackupSpec{})
	return err == nil && none == nil && string(said) == string(nothing) &&
		c.deadlines == (deadlines{}) && c.Create == "" && !c.GeneratePassphrase && c.PassphraseFile == ""
}

// create adds the repository and creates it on disk, unless it is known.
func (c backupCommand) create(s *session, api *client.Client) error {
	known, err := api.Repository(s.ctx, c.Repo)
	if failure, ok := errors.AsType[*job.Failure](err); ok && failure.Code == job.UnknownRepository {
		return c.createNew(s, api)
	}
	if err == nil && known.Location != c.Create {
		return console.Usage("repository %s is known, at %s and not at %s (leave out --create to use it, or give another --repo)", c.Repo, known.Location, c.Create)
	}
	return err
}

func (c backupCommand) createNew(s *session, api *client.Client) error {
	request, err := c.repository(s, c.Repo, c.Create)
	if err != nil {
		return err
	}
	if c.Create == job.DepotLocation {
		request.Depot = &fleet.Depot{Hosts: []string{c.Host}}
	}
	_, made, err := c.add(s, api, request, []string{c.Host})
	if err != nil {
		return err
	}
	apart, ended := *s, bytes.Buffer{}
	if s.globals.JSON { // standard output is for one job, the last
		apart.Out = &ended
		if !made.Empty() {
			fmt.Fprintf(s.Err, "passphrase of %s: %s\n", c.Repo, made.Reveal())
		}
	} else {
		s.printf("Added repository %s.\n", c.Repo)
		s.printGenerated(made)
	}
	err = apart.submitAndWatch(job.Request{Host: c.Host, Kind: job.Init, Repository: c.Repo, Spec: []byte("{}")})
	if err == nil || withWarnings(err) {
		return nil
	}
	_, _ = ended.WriteTo(s.Out)
	fmt.Fprintf(s.Err, "Repository %s is known now, but may not be there on disk. To create it: borgfleet repo init %s --host %s\n", c.Repo, c.Repo, c.Host)
	return err
}

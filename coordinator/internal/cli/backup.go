package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type backupCommand struct {
	Host          string   `required:"" help:"The host with the data." placeholder:"HOST"`
	Repo          string   `required:"" help:"The repository to back up into." placeholder:"REPOSITORY"`
	Exclude       []string `help:"Leave out what matches this borg pattern; may be repeated." placeholder:"PATTERN" sep:"none"`
	Compression   string   `help:"none, lz4, zstd[,1-22], zlib[,0-9], lzma[,0-9], each also as auto,METHOD. Default: borg's, lz4." placeholder:"METHOD"`
	Archive       string   `help:"The archive's name. Default: HOST and the time." placeholder:"NAME"`
	Comment       string   `help:"A comment that is stored in the archive." placeholder:"TEXT"`
	ExcludeCaches bool     `help:"Leave out directories that are tagged as caches."`
	OneFileSystem bool     `help:"Stay on the file systems of the paths."`
	List          bool     `help:"Name each file that is added, modified, or cannot be read, in the job's log."`
	UploadLimit   int      `help:"Limit the upload, in KiB/s." placeholder:"KIB"`
	Create        string   `help:"Make the repository first, at this location, if there is none of that name." placeholder:"LOCATION"`
	deadlines
	fresh `group:"For --create:"`
	Paths []string `arg:"" help:"Absolute paths on the host."`
}

// Help is the end of the command's help.
func (backupCommand) Help() string {
	return `Example:

    borgfleet backup --host web1 --repo main --exclude '*.tmp' /etc /var/www
    borgfleet backup --host web1 --repo main --create ssh://backup@store/srv/borg/web1 --generate-passphrase /etc

With --json, a passphrase that was made goes to standard error, since standard output is the job.

Ctrl-C ends the watching only; the backup goes on. The exit code is the backup's: 0 good, 3 with warnings, 4 failed, expired or cancelled.`
}

// Run runs the command.
func (c backupCommand) Run(s *session) error {
	spec := job.BackupSpec{
		Paths: c.Paths, Exclude: c.Exclude, Compression: c.Compression, Archive: c.Archive, Comment: c.Comment,
		ExcludeCaches: c.ExcludeCaches, OneFileSystem: c.OneFileSystem, UploadLimit: c.UploadLimit, ListFiles: c.List,
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	request := job.Request{Host: c.Host, Kind: job.Backup, Repository: c.Repo, Spec: data}
	if err := c.deadlines.set(&request); err != nil {
		return err
	}
	if c.Create == "" && (c.GeneratePassphrase || c.PassphraseFile != "") {
		return console.Usage("--generate-passphrase and --passphrase-file are for a new repository (add --create LOCATION)")
	}
	if c.Create != "" {
		if err := c.create(s); err != nil {
			return err
		}
	}
	return s.submitAndWatch(request)
}

// create adds the repository and creates it on disk, unless it is known.
func (c backupCommand) create(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
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

type archiveCommands struct {
	List    archiveList    `cmd:"" help:"List the archives of a repository (borg list)."`
	Show    archiveShow    `cmd:"" help:"Show one archive's sizes (borg info)."`
	Restore archiveRestore `cmd:"" help:"Restore an archive, or some of its paths, into a directory of a host (borg extract)."`
}

type archiveList struct {
	onRepository
	Prefix string `help:"Only archives whose name begins so." placeholder:"PREFIX"`
	Last   int    `help:"Only the newest N." placeholder:"N"`
}

// Run runs the command.
func (c archiveList) Run(s *session) error {
	return c.run(s, job.ListSpec{Prefix: c.Prefix, Last: c.Last})
}

type archiveShow struct {
	onRepository
	Archive string `arg:"" help:"The archive's name."`
}

// Run runs the command.
func (c archiveShow) Run(s *session) error { return c.run(s, job.InfoSpec{Archive: c.Archive}) }

type archiveRestore struct {
	onRepository
	Archive   string   `arg:"" help:"The archive's name."`
	Target    string   `required:"" help:"The directory on the host to restore into. Where the host allows it: by default below /var/restore/borgfleet." placeholder:"DIR"`
	Overwrite bool     `help:"Also into a directory that is not empty; files of the same names are replaced."`
	Paths     []string `arg:"" optional:"" help:"Only these paths, as the archive has them: without a leading slash. Default: all."`
}

// Run runs the command.
func (c archiveRestore) Run(s *session) error {
	return c.run(s, job.RestoreSpec{Archive: c.Archive, Target: c.Target, Paths: c.Paths, Overwrite: c.Overwrite})
}

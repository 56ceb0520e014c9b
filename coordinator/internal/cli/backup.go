package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

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
	UploadLimit   int      `help:"Limit the upload, in KiB/s." placeholder:"KIB"`
	Create        string   `help:"Make the repository first, at this location, if there is none of that name." placeholder:"LOCATION"`
	fresh         `group:"For --create:"`
	Paths         []string `arg:"" help:"Absolute paths on the host."`
}

// Help is the end of the command's help.
func (backupCommand) Help() string {
	return `Example:

    borgfleet backup --host web1 --repo main --exclude '*.tmp' /etc /var/www
    borgfleet backup --host web1 --repo main --create ssh://backup@store/srv/borg/web1 --generate-passphrase /etc

Ctrl-C ends the watching only; the backup goes on. The exit code is the backup's: 0 good, 3 with warnings, 4 failed or cancelled.`
}

// Run runs the command.
func (c backupCommand) Run(s *session) error {
	spec := job.BackupSpec{
		Paths: c.Paths, Exclude: c.Exclude, Compression: c.Compression, Archive: c.Archive, Comment: c.Comment,
		ExcludeCaches: c.ExcludeCaches, OneFileSystem: c.OneFileSystem, UploadLimit: c.UploadLimit,
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	if c.Create != "" {
		if err := c.create(s); err != nil {
			return err
		}
	}
	return s.submitAndWatch(job.Request{Host: c.Host, Kind: job.Backup, Repository: c.Repo, Spec: data})
}

// create adds the repository and creates it on disk, unless it is known.
func (c backupCommand) create(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	_, err = api.Repository(s.ctx, c.Repo)
	if failure, ok := errors.AsType[*job.Failure](err); err == nil || !ok || failure.Code != job.UnknownRepository {
		return err
	}
	request, err := c.repository(s, c.Repo, c.Create)
	if err != nil {
		return err
	}
	_, made, err := c.add(s, api, request, []string{c.Host})
	if err != nil {
		return err
	}
	if s.globals.JSON && !made.Empty() { // standard output is the job's
		fmt.Fprintf(s.Err, "passphrase of %s: %s\n", c.Repo, made.Reveal())
	} else if !s.globals.JSON {
		s.printf("Added repository %s.\n", c.Repo)
		s.printGenerated(made)
	}
	submitted, err := api.SubmitJob(s.ctx, job.Request{Host: c.Host, Kind: job.Init, Repository: c.Repo, Spec: []byte("{}")})
	if err != nil {
		return err
	}
	apart := *s
	if s.globals.JSON { // standard output is the backup's
		apart.Out = io.Discard
	}
	return apart.watch(api, submitted.ID)
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
	Archive string   `arg:"" help:"The archive's name."`
	Target  string   `required:"" help:"The directory on the host to restore into. Where the host allows it: by default below /var/restore/borgfleet." placeholder:"DIR"`
	Paths   []string `arg:"" optional:"" help:"Only these paths, as the archive has them: without a leading slash. Default: all."`
}

// Run runs the command.
func (c archiveRestore) Run(s *session) error {
	return c.run(s, job.RestoreSpec{Archive: c.Archive, Target: c.Target, Paths: c.Paths})
}

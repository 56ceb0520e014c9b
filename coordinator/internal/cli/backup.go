package cli

import (
	"encoding/json"
	"fmt"

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
	Paths         []string `arg:"" help:"Absolute paths on the host."`
}

// Help is the end of the command's help.
func (backupCommand) Help() string {
	return `Example:

    borgfleet backup --host web1 --repo main --exclude '*.tmp' /etc /var/www

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
	return s.submitAndWatch(job.Request{Host: c.Host, Kind: job.Backup, Repository: c.Repo, Spec: data})
}

type archiveCommands struct {
	List archiveList `cmd:"" help:"List the archives of a repository (borg list)."`
	Show archiveShow `cmd:"" help:"Show one archive's sizes (borg info)."`
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

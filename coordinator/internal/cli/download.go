package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type archiveDownload struct {
	Name     string             `arg:"" name:"repository" help:"The repository's name."`
	Archive  string             `arg:"" help:"The archive's name."`
	Path     string             `arg:"" optional:"" help:"A file or a directory, as the archive has it: without a leading slash. Default: everything."`
	Host     string             `help:"The host that reads it. Default: the one that made the archive, or the only one there is." placeholder:"HOST"`
	Output   string             `help:"The file to write; - is standard output. Default: here, by the name it has in the archive." placeholder:"FILE" short:"o"`
	Format   job.DownloadFormat `help:"file: the content of one file. tar, tar.zst: the path and what is below it. Default: file if it is known to be one, else tar." placeholder:"FORMAT"`
	Continue bool               `help:"Go on with a download that broke off."`
	Force    bool               `help:"Replace a file that is there already, and begin anew a download that broke off."`
}

// Help is the end of the command's help.
func (archiveDownload) Help() string {
	return `Examples:

    borgfleet archive download main web1-2026-11-22T02:00:00 etc/nginx/nginx.conf
    borgfleet archive download main web1-2026-11-22T02:00:00 var/www --format tar.zst -o www.tar.zst
    borgfleet archive download main web1-2026-11-22T02:00:00 var/www -o - | tar -x

What has come is in a file beside the target, whose name ends in .part, and takes the target's name when it is whole. A download that breaks off says how to go on with it; one of tar.zst cannot.`
}

// Run runs the command.
func (c archiveDownload) Run(s *session) error {
	if err := c.check(s); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	size := c.settle(s, api)
	if c.Output == "-" {
		total, err := c.fetch(s, api, s.Out, 0)
		return c.outcome(err, total)
	}
	return c.toFile(s, api, size)
}

func (c *archiveDownload) check(s *session) error {
	c.Path = strings.Trim(c.Path, "/")
	format := c.Format
	switch c.Format {
	case "", job.DownloadFile, job.DownloadTar:
	case fleet.DownloadTarZst:
		format = job.DownloadTar
	default:
		return console.Usage("--format is not one of file, tar, tar.zst")
	}
	if err := (job.DownloadSpec{Archive: c.Archive, Path: c.Path, Format: format}).Validate(); err != nil {
		return err
	}
	_, terminal := terminalWidth(s.Out)
	switch {
	case c.Continue && c.Force:
		return console.Usage("--continue and --force exclude each other")
	case c.Continue && c.Format == fleet.DownloadTarZst:
		return console.Usage("a compressed download cannot be continued (use --format tar, or begin anew with --force)")
	case c.Output == "-" && (c.Continue || s.globals.JSON):
		return console.Usage("standard output can have the download only, from its beginning (give a file to -o)")
	case c.Output == "-" && terminal && !c.Force:
		return console.Usage("this would write to your terminal (add > FILE or | COMMAND; --force does it)")
	}
	return nil
}

// settle decides what was left open, so that a download that breaks off can go
// on as it began. It returns the file's size, if that is known.
func (c *archiveDownload) settle(s *session, api *client.Client) (size int64) {
	size = -1
	if c.Path == "" && c.Format == "" {
		c.Format = job.DownloadTar
	}
	if c.Format == "" || c.Format == job.DownloadFile {
		page, err := api.Files(s.ctx, fleet.FilesQuery{Repository: c.Name, Archive: c.Archive, Path: c.Path, Limit: 1})
		regular := err == nil && page.Entry != nil && page.Entry.Type == fleet.RegularFile // else the download itself will say why not
		switch {
		case regular:
			c.Format, size = job.DownloadFile, page.Entry.Size
		case err == nil && page.Entry != nil && page.Entry.Type == fleet.HardLink: // its size is that of the first name
			c.Format = job.DownloadFile
		case c.Format == "":
			c.Format = job.DownloadTar
		}
	}
	if info, err := os.Stat(c.Output); c.Output == "" || err == nil && info.IsDir() {
		c.Output = filepath.Join(c.Output, c.defaultName())
	}
	return size
}

// defaultName is the name of what is asked for, as a file here.
func (c *archiveDownload) defaultName() string {
	name := c.Archive
	if c.Path != "" {
		name = path.Base(c.Path)
	}
	if c.Format != job.DownloadFile {
		name += "." + string(c.Format)
	}
	return console.Printable(name)
}

func (c *archiveDownload) toFile(s *session, api *client.Client, size int64) error {
	file, err := openPart(c.Output, partKey(s, api, *c), partMode{goOn: c.Continue, force: c.Force})
	if err != nil {
		return err
	}
	defer file.close() // of what was not finished: it stays
	begun, total := time.Now(), file.size
	if size >= 0 && file.size > size {
		return fmt.Errorf("what is in %s is more than there is to come (begin anew with --force)", file.Name())
	}
	if file.size == 0 || file.size != size { // else only its name was missing
		if total, err = c.fetch(s, api, file, file.size); err != nil {
			return c.outcome(err, total)
		}
	}
	if err := file.finish(); err != nil {
		return fmt.Errorf("finish %s: %w", c.Output, err)
	}
	done := downloaded{File: c.Output, Format: string(c.Format), Bytes: total, Continued: file.size}
	return s.show(done, func() {
		s.printf("%s: %s in %s\n", console.Printable(c.Output), human.Bytes(total), human.Duration(time.Since(begun)))
	})
}

// downloaded is what a download brought, as JSON.
type downloaded struct {
	File      string `json:"file"`
	Format    string `json:"format"`
	Bytes     int64  `json:"bytes"`
	Continued int64  `json:"continued"` // bytes that were there before
}

// fetch writes the download from an offset on, and returns how much there is
// then.
func (c *archiveDownload) fetch(s *session, api *client.Client, to io.Writer, offset int64) (total int64, err error) {
	line := s.newTransfer(offset)
	defer line.stop()
	body, err := api.Download(s.ctx, fleet.DownloadRequest{
		Repository: c.Name, Archive: c.Archive, Path: c.Path, Host: c.Host, Format: c.Format, Offset: offset,
	})
	if err != nil {
		return offset, err
	}
	defer body.Close() // read to its end, or given up
	line.begin(body.Size)
	n, err := io.Copy(io.MultiWriter(to, line), body)
	if errors.Is(err, client.ErrBrokenOff) && body.Job != "" {
		err = whyBroken(s, api, body.Job, err)
	}
	return offset + n, err
}

// whyBroken returns how the job of a download has failed; err, if it was only the
// connection.
func whyBroken(s *session, api *client.Client, id job.ID, err error) error {
	last, notKnown := api.Job(s.ctx, id)
	if notKnown != nil || last.State != job.Failed || last.Failure == nil {
		return err
	}
	return console.Exit{Code: console.ExitJobFailed, Err: last.Failure}
}

// outcome is how a download has ended, and how to go on with what has come.
func (c *archiveDownload) outcome(err error, total int64) error {
	failed, isFailed := errors.AsType[console.Exit](err)
	_, refused := errors.AsType[*job.Failure](err)
	if err == nil || refused && !isFailed || total == 0 && !isFailed && !errors.Is(err, client.ErrBrokenOff) {
		return err
	}
	code := console.ExitFailed
	_, away := errors.AsType[*client.UnreachableError](err)
	switch {
	case isFailed:
		code = failed.Code
	case away || errors.Is(err, client.ErrBrokenOff):
		code = console.ExitUnreachable
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	err = fmt.Errorf("the download ended after %s: %w", human.Bytes(total), err)
	if c.Output != "-" {
		err = fmt.Errorf("%w (%s)", err, c.goOn(total))
	}
	return console.Exit{Code: code, Err: err}
}

// goOn is the command that goes on with what has come.
func (c *archiveDownload) goOn(total int64) string {
	words := []string{"borgfleet", "archive", "download", c.Name, c.Archive}
	if c.Path != "" {
		words = append(words, c.Path)
	}
	if c.Host != "" {
		words = append(words, "--host", c.Host)
	}
	words = append(words, "--format", string(c.Format), "-o", c.Output)
	switch {
	case c.Format == fleet.DownloadTarZst:
		return "begin anew with: " + commandLine(append(words, "--force")...)
	case total == 0:
		return "again: " + commandLine(words...)
	default:
		return "go on with: " + commandLine(append(words, "--continue")...)
	}
}

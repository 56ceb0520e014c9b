package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type archiveFiles struct {
	onArchive
	Path   string `arg:"" optional:"" help:"A directory or a file, as the archive has it. Default: the top."`
	Limit  int    `help:"At most this many, and how to go on; 1 to ${max_files}. Default: all." placeholder:"N"`
	Cursor string `help:"Go on where the list before ended." placeholder:"CURSOR"`
}

// Help is the end of the command's help.
func (archiveFiles) Help() string {
	return `Example:

    borgfleet archive files main web1-2026-11-22T02:00:00 etc/nginx

The files of an archive are listed once, by a job on a host, and kept by the coordinator. This command starts that job if nobody has, and waits for it; Ctrl-C ends the waiting only.`
}

// Run runs the command.
func (c archiveFiles) Run(s *session) error {
	if c.Limit < 0 || c.Limit > fleet.MaxFiles {
		return console.Usage("--limit is not between 1 and %d", fleet.MaxFiles)
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	asked := fleet.FilesQuery{Repository: c.Name, Archive: c.Archive, Path: strings.Trim(c.Path, "/"), Limit: c.Limit, Cursor: c.Cursor}
	if asked.Limit == 0 {
		asked.Limit = fleet.MaxFiles
	}
	var page fleet.FilePage
	err = s.listed(api, c.place(), func() (err error) {
		page, err = api.Files(s.ctx, asked)
		return err
	})
	if err != nil {
		return err
	}
	for c.Limit == 0 && page.Cursor != "" {
		asked.Cursor = page.Cursor
		next, err := api.Files(s.ctx, asked)
		if err != nil {
			return err
		}
		page.Files, page.Cursor = append(page.Files, next.Files...), next.Cursor
	}
	return s.show(page, func() { s.printFiles(page) })
}

func (s *session) printFiles(page fleet.FilePage) {
	files := page.Files
	if page.Entry != nil && page.Entry.Type != fleet.Directory {
		files = []fleet.File{*page.Entry}
	}
	if len(files) == 0 {
		s.printf("The directory is empty.\n")
	}
	width := 0
	for _, f := range files {
		width = max(width, len(human.Bytes(f.Size)))
	}
	t := newFacts(s.Out)
	for _, f := range files {
		owner, group, size := ownerOf(f.User, f.UID), ownerOf(f.Group, f.GID), human.Bytes(f.Size)
		if f.MTime.IsZero() && f.Type == fleet.Directory { // borg did not list it: it only leads to what was backed up
			owner, group, size = human.None, human.None, human.None
		}
		t.row(f.Mode, owner, group, strings.Repeat(" ", width-utf8.RuneCountInString(size))+size, localTime(f.MTime), nameOf(f))
	}
	t.end()
	if page.Cursor != "" {
		s.printf("There are more: add --cursor %s\n", page.Cursor)
	}
}

// ownerOf is the name of a user or group, else the number.
func ownerOf(name string, id int) string {
	if name == "" {
		return fmt.Sprint(id)
	}
	return name
}

func nameOf(f fleet.File) string {
	name := f.Name
	switch {
	case f.Type == fleet.Directory:
		name += "/"
	case f.Target != "":
		name += " -> " + f.Target
	}
	if f.Damaged {
		name += "  (damaged: parts of it are lost)"
	}
	return name
}

// listingPatience is how long a listing may take to be kept once its job is over.
const listingPatience = 30 * time.Second

// listed asks for something of an archive's files. If they are not listed, a job
// lists them first.
func (s *session) listed(api *client.Client, at place, ask func() error) error {
	err := ask()
	if !isNotListed(err) {
		return err
	}
	archive := at.archives[0]
	if !s.globals.JSON {
		fmt.Fprintf(s.Err, "the files of %s are not listed yet: asking borg, once\n", console.Printable(archive))
	}
	done, err := s.endOf(at, job.ListSpec{Archive: archive})
	if err != nil {
		return err
	}
	if done.State != job.Succeeded && done.State != job.Warning {
		return s.finish(done)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for giveUp := time.Now().Add(listingPatience); ; {
		if err := ask(); !isNotListed(err) || time.Now().After(giveUp) {
			return err
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-ticker.C:
		}
	}
}

func isNotListed(err error) bool {
	failure, ok := errors.AsType[*job.Failure](err)
	return ok && failure.Code == job.NotListed
}

type archiveHistory struct {
	Name string `arg:"" name:"repository" help:"The repository's name."`
	Path string `arg:"" help:"The path, as archives have it: without a leading slash."`
}

// Help is the end of the command's help.
func (archiveHistory) Help() string {
	return `Example:

    borgfleet archive history main etc/nginx/nginx.conf

Only archives whose files are listed are looked at; borgfleet archive files lists those of one.`
}

// Run runs the command.
func (c archiveHistory) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	history, err := api.History(s.ctx, c.Name, strings.Trim(c.Path, "/"))
	if err != nil {
		return err
	}
	return s.show(history, func() { s.printHistory(history) })
}

func (s *session) printHistory(h fleet.PathHistory) {
	if len(h.Versions) > 0 {
		t := newTable(s.Out, "ARCHIVE", "STARTED", "CHANGE", "SIZE", "MODIFIED")
		for i, v := range h.Versions {
			size, modified := human.None, human.None
			if v.File != nil {
				size, modified = human.Bytes(v.File.Size), localTime(v.File.MTime)
			}
			t.row(v.Archive, localTime(v.Start), change(h.Versions, i), size, modified)
		}
		t.end()
	}
	if h.NotListed > 0 {
		s.printf("The files of %s are not listed; to list those of one: %s ARCHIVE\n",
			human.Plural(h.NotListed, "archive"), commandLine("borgfleet", "archive", "files", h.Repository))
	}
	if len(h.Versions) == 0 && h.NotListed == 0 {
		s.printf("There are no archives.\n")
	}
}

// change is what became of a path in an archive, in a word.
func change(versions []fleet.PathVersion, i int) string {
	before := i > 0 && versions[i-1].File != nil
	switch there := versions[i].File != nil; {
	case there && !before && i > 0:
		return "new"
	case there && versions[i].Changed && before:
		return "changed"
	case there:
		return human.None
	case before:
		return "gone"
	default:
		return "not there"
	}
}

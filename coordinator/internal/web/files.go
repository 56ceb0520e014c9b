package web

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// filesPerPage is how many entries of a directory a page has.
const filesPerPage = 200

// How often, and after which pauses, it is looked whether a list that was just
// made is stored.
const (
	storePatience = 15
	storeBeat     = 100 * time.Millisecond
)

// filesPage is the data of a directory or a file of an archive.
type filesPage struct {
	clock
	commands
	reader
	place
	Made    archiveRow // the archive
	Crumbs  []crumb
	Entry   *fileRow // the directory itself, or the file; nil at the top
	Files   []fileRow
	Next    string // address of the next page
	First   string // address of the first, when this is not it
	Listed  bool
	Refused *job.Failure // why they are not listed
	Listing *jobRow      // the newest job that lists them, unless it ended well
	AskHost []choice     // which host may list them
}

// fileRow is an entry of an archive, in one of its places.
type fileRow struct {
	clock
	place
	fleet.File
}

// RowID is that of the row's element.
func (r fileRow) RowID() string { return rowID(r.Repository, r.Archive, r.File.Path) }

// IsDir reports whether there may be entries below it.
func (r fileRow) IsDir() bool { return r.Type == fleet.Directory }

// HasContent reports whether it is a file that can be downloaded as such.
func (r fileRow) HasContent() bool {
	return r.Type == fleet.RegularFile || r.Type == fleet.HardLink
}

// Symbol is its type as a picture.
func (r fileRow) Symbol() string {
	switch r.Type {
	case fleet.Directory:
		return "dir"
	case fleet.RegularFile:
		return "file"
	case fleet.SymLink, fleet.HardLink:
		return "link"
	default:
		return "device"
	}
}

var typeWords = map[fleet.FileType]string{
	fleet.Directory: "directory", fleet.RegularFile: "file", fleet.SymLink: "symbolic link", fleet.HardLink: "hard link",
	fleet.Fifo: "pipe", fleet.CharDevice: "character device", fleet.BlockDevice: "block device", fleet.Socket: "socket",
}

// TypeWord is its type in words.
func (r fileRow) TypeWord() string {
	if word := typeWords[r.Type]; word != "" {
		return word
	}
	return "entry"
}

// Owner is its user and group, by name or else by number.
func (r fileRow) Owner() string { return named(r.User, r.UID) + ":" + named(r.Group, r.GID) }

func named(name string, id int) string {
	if name == "" {
		return strconv.Itoa(id)
	}
	return name
}

// Parent is the directory that it is in.
func (r fileRow) Parent() string {
	if at := strings.LastIndexByte(r.File.Path, '/'); at >= 0 {
		return r.File.Path[:at]
	}
	return ""
}

// files builds the page of a directory, or of a file, of an archive.
func (s *site) files(ctx context.Context, at place, query url.Values, c commands) (*view, error) {
	made, known, err := s.findArchive(ctx, at.Repository, at.Archive)
	if err != nil {
		return nil, err
	}
	at.Host, at.Path = known.Host, strings.Trim(at.Path, "/")
	page := &filesPage{clock: s.moment(), commands: c, reader: readerOf(ctx), place: at, Made: made, Listed: true}
	page.Crumbs = pathCrumbs(at.Repository, at.Archive, at.Path)
	page.Crumbs[len(page.Crumbs)-1].URL = ""
	v := &view{
		Title: page.Title(), Nav: "/repositories", Body: "files", Data: page,
		Live: []string{"files-head", "files-list"}, Cares: caresForListing(at.Repository),
	}
	err = page.read(ctx, s.Catalog, query.Get("cursor"))
	if !notListed(err) {
		return v, err
	}
	if err := s.fillListing(ctx, page); err != nil {
		return nil, err
	}
	page.Listed, err = page.wait(ctx, s.Catalog)
	return v, err
}

// wait reads a list that is just being stored, and reports whether it is there.
func (p *filesPage) wait(ctx context.Context, catalog Catalog) (bool, error) {
	if p.Listing == nil || !good(p.Listing.Job) {
		return false, nil
	}
	for range storePatience {
		if err := pause(ctx, storeBeat); err != nil {
			return false, err
		}
		if err := p.read(ctx, catalog, ""); !notListed(err) {
			return err == nil, err
		}
	}
	return false, nil
}

// MayAsk reports whether borg may be asked for the list: it is not at it.
func (p *filesPage) MayAsk() bool {
	return p.Listing == nil || p.Listing.State.Terminal() && !good(p.Listing.Job)
}

// Title is the last part of the path.
func (p *filesPage) Title() string {
	if p.Path == "" {
		return "Files of " + p.place.Archive
	}
	return p.Path[strings.LastIndexByte(p.Path, '/')+1:]
}

func (p *filesPage) read(ctx context.Context, catalog Catalog, cursor string) error {
	found, err := catalog.Files(ctx, fleet.FilesQuery{Repository: p.Repository, Archive: p.place.Archive, Path: p.Path, Limit: filesPerPage, Cursor: cursor})
	if err != nil {
		return err
	}
	if found.Entry != nil {
		row := p.row(*found.Entry)
		p.Entry = &row
	}
	for _, f := range found.Files {
		p.Files = append(p.Files, p.row(f))
	}
	if found.Cursor != "" {
		p.Next = p.page(found.Cursor)
	}
	if cursor != "" {
		p.First = p.page("")
	}
	return nil
}

func (p *filesPage) row(f fleet.File) fileRow {
	at := p.place
	at.Path = f.Path
	return fileRow{p.clock, at, f}
}

func (p *filesPage) page(cursor string) string {
	return withQuery(archiveURL(p.Repository, p.place.Archive)+"/files", "path", p.Path, "cursor", cursor)
}

// fillListing reads what there is to say of an archive that is not listed.
func (s *site) fillListing(ctx context.Context, page *filesPage) (err error) {
	if page.Listing, err = s.listing(ctx, page.Repository, page.place.Archive); err != nil {
		return err
	}
	hosts, _, err := s.hostField(ctx, &typed{}, task{page.Repository, job.List}, page.Made.Host, s.lastHost(ctx, page.Repository))
	page.AskHost = hosts.Choices
	return err
}

// Here is the path of the page.
func (p *filesPage) Here() place { return p.place }

// IsFile reports whether the page is about something that holds no entries.
func (p *filesPage) IsFile() bool { return p.Entry != nil && !p.Entry.IsDir() }

// FilesCommand is the same in a terminal.
func (p *filesPage) FilesCommand() string {
	words := []string{"archive", "files", p.Repository, p.place.Archive}
	if p.Path != "" {
		words = withPaths(words, p.Path)
	}
	return p.borgfleet(words...)
}

// GetFiles is the same over HTTP.
func (p *filesPage) GetFiles() string {
	return p.Get(filesURL(p.Repository, p.place.Archive, p.Path))
}

// ListJob is what lists the archive's files.
func (p *filesPage) ListJob() string {
	return p.Post(job.Request{Host: p.askHost(), Kind: job.List, Repository: p.Repository, Spec: encode(job.ListSpec{Archive: p.place.Archive})})
}

func (p *filesPage) askHost() string {
	for _, c := range p.AskHost {
		if c.Selected {
			return c.Value
		}
	}
	return "HOST"
}

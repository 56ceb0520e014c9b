package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// findPage is the data of the search.
type findPage struct {
	clock
	commands
	reader
	Name       string // what is looked for
	In         string // archive, repository; empty: everything
	Repository string
	Archive    string
	Matches    []matchRow
	Searched   int
	Next       string // address of the next page
	First      string // address of the first, when this is not it
	Asked      bool
	Listed     int // archives that can be searched
	Faults     []*job.Failure
	Known      []string // repositories
}

// matchRow is an entry that was found.
type matchRow struct {
	fileRow
	Match fleet.Match
}

// ArchiveURL is the page of the archive that it is in.
func (r matchRow) ArchiveURL() string { return archiveURL(r.Repository, r.Match.Archive) }

// find builds the search page.
func (s *site) find(ctx context.Context, query url.Values, c commands) (*view, error) {
	page := &findPage{
		clock: s.moment(), commands: c, reader: readerOf(ctx), Name: strings.TrimSpace(query.Get("name")), In: query.Get("in"),
		Repository: query.Get("repository"), Archive: query.Get("archive"),
	}
	page.settle()
	v := &view{Title: "Find files", Nav: "/find", Body: "find", Data: page}
	repositories, err := s.Repositories.Repositories(ctx)
	if err != nil {
		return nil, wrap("repositories", err)
	}
	for _, r := range repositories {
		page.Known = append(page.Known, r.Name)
		page.Listed += len(s.Catalog.ListedAt(r.Name))
	}
	if page.Name == "" {
		return v, nil
	}
	page.Asked, v.Title = true, page.Name+" · Find files"
	if err := page.search(ctx, s.Catalog, query.Get("cursor")); err != nil {
		page.Faults = failures(err)
		if v.Status = page.Faults[0].Code.HTTPStatus(); v.Status >= http.StatusInternalServerError {
			return nil, err
		}
	}
	return v, nil
}

// settle makes of the address where it is looked.
func (p *findPage) settle() {
	switch {
	case p.In == "" && p.Archive != "" && p.Repository != "":
		p.In = "archive"
	case p.In == "" && p.Repository != "":
		p.In = "repository"
	case p.In == "archive" && p.Archive == "":
		p.In = "repository"
	}
	if p.Repository == "" {
		p.In, p.Archive = "", ""
	}
}

func (p *findPage) search(ctx context.Context, catalog Catalog, cursor string) error {
	q := fleet.FindQuery{Name: p.Name, Limit: filesPerPage, Cursor: cursor}
	if p.In == "archive" || p.In == "repository" {
		q.Repository = p.Repository
	}
	if p.In == "archive" {
		q.Archive = p.Archive
	}
	found, err := catalog.Find(ctx, q)
	if err != nil {
		return err
	}
	for _, m := range found.Matches {
		p.Matches = append(p.Matches, matchRow{fileRow{p.clock, place{Repository: m.Repository, Archive: m.Archive, Path: m.File.Path}, m.File}, m})
	}
	if p.Searched = found.Searched; found.Cursor != "" {
		p.Next = p.page(found.Cursor)
	}
	if cursor != "" {
		p.First = p.page("")
	}
	return nil
}

func (p *findPage) page(cursor string) string {
	return withQuery("/find", "name", p.Name, "in", p.In, "repository", p.Repository, "archive", p.Archive, "cursor", cursor)
}

// InChoices is the menu of where to look.
func (p *findPage) InChoices() []choice {
	list := []choice{}
	if p.Archive != "" {
		list = append(list, choice{"archive", "archive " + p.Archive, p.In == "archive"})
	}
	if p.Repository != "" {
		list = append(list, choice{"repository", "repository " + p.Repository, p.In == "repository"})
	}
	return append(list, choice{"all", "everything that is listed", p.In != "archive" && p.In != "repository"})
}

// FilesOfArchive is where the files are of the archive that is searched.
func (p *findPage) FilesOfArchive() string { return filesURL(p.Repository, p.Archive, "") }

// FindCommand is the same in a terminal.
func (p *findPage) FindCommand() string {
	words := []string{"archive", "find"}
	if p.In == "archive" || p.In == "repository" {
		words = append(words, "--repo", p.Repository)
	}
	if p.In == "archive" {
		words = append(words, "--archive", p.Archive)
	}
	return p.borgfleet(withPaths(words, p.what())...)
}

func (p *findPage) what() string {
	if p.Name == "" {
		return "nginx.conf"
	}
	return p.Name
}

// GetFind is the same over HTTP.
func (p *findPage) GetFind() string {
	repository, archive := p.Repository, p.Archive
	if p.In != "archive" {
		archive = ""
	}
	if p.In != "archive" && p.In != "repository" {
		repository = ""
	}
	return p.Get(withQuery("/find", "name", p.what(), "repository", repository, "archive", archive))
}

// RepositoryChoices is the menu of repositories to look in.
func (p *findPage) RepositoryChoices() []choice {
	return choices(p.Repository, "everything that is listed", p.Known)
}

// ListCommand lists the files of an archive.
func (p *findPage) ListCommand() string {
	repository := p.Repository
	if repository == "" && len(p.Known) > 0 {
		repository = p.Known[0]
	}
	if repository == "" {
		repository = "REPOSITORY"
	}
	return p.borgfleet("archive", "files", repository, "ARCHIVE")
}

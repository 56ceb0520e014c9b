package web

import (
	"context"
	"net/url"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// maxVersions bounds the table of versions, whatever there is.
const maxVersions = 1000

// historyPage is the data of one path through all archives of a repository.
type historyPage struct {
	clock
	commands
	reader
	Repository string
	Path       string
	Crumbs     []crumb
	Versions   []versionRow // newest first
	Total      int          // listed archives
	Same       int          // left out, as nothing has changed in them
	More       int          // left out, as they are too many
	NotListed  int
	All        bool // also where nothing has changed
}

// versionRow is what the path was in one archive.
type versionRow struct {
	fileRow
	Version fleet.PathVersion
	First   bool // nothing is known from before
}

// RowID is that of the row's element.
func (r versionRow) RowID() string { return rowID(r.Version.Archive) }

// There reports whether the archive has the path.
func (r versionRow) There() bool { return r.Version.File != nil }

// Chip says what has become of it since the archive before.
func (r versionRow) Chip() chip {
	switch {
	case r.There() && r.First:
		return chip{"idle", "ok", "first seen"}
	case !r.There() && r.Version.Changed:
		return chip{"warn", "stop", "gone"}
	case !r.There():
		return chip{"idle", "stop", "not there"}
	case r.Version.Changed:
		return chip{"run", "sent", "changed"}
	}
	return chip{"idle", "ok", "the same"}
}

// ArchiveURL is the page of the archive.
func (r versionRow) ArchiveURL() string { return archiveURL(r.Repository, r.Version.Archive) }

// history builds the page of a path.
func (s *site) history(ctx context.Context, repository string, query url.Values, c commands) (*view, error) {
	if _, err := s.Repositories.Repository(ctx, repository); err != nil {
		return nil, err
	}
	found, err := s.Catalog.History(ctx, repository, query.Get("path"))
	if err != nil {
		return nil, err
	}
	page := &historyPage{
		clock: s.moment(), commands: c, reader: readerOf(ctx), Repository: repository, Path: found.Path,
		Total: len(found.Versions), NotListed: found.NotListed, All: query.Has("all"),
		Crumbs: []crumb{{"Repositories", "/repositories"}, {repository, repositoryURL(repository)}, {Label: "history"}},
	}
	page.choose(found.Versions)
	return &view{Title: "History of " + found.Path, Nav: "/repositories", Body: "history", Data: page}, nil
}

// choose keeps the versions that tell something.
func (p *historyPage) choose(versions []fleet.PathVersion) {
	seen := false
	for _, version := range versions {
		row := versionRow{fileRow: fileRow{clock: p.clock, place: place{Repository: p.Repository, Archive: version.Archive, Path: p.Path}}, Version: version, First: !seen && version.File != nil}
		if version.File != nil {
			row.File, seen = *version.File, true
		}
		if !p.All && !row.First && !version.Changed {
			p.Same++
			continue
		}
		p.Versions = append(p.Versions, row)
	}
	if p.More = len(p.Versions) - maxVersions; p.More > 0 {
		p.Versions = p.Versions[p.More:]
	}
	p.More = max(p.More, 0)
	slices.Reverse(p.Versions)
}

// AllURL also shows where nothing has changed.
func (p *historyPage) AllURL() string {
	return withQuery(repositoryURL(p.Repository)+"/history", "path", p.Path, "all", "1")
}

// ArchivesURL is where the archives are that are not listed.
func (p *historyPage) ArchivesURL() string { return archivesURL(p.Repository) }

// HistoryCommand is the same in a terminal.
func (p *historyPage) HistoryCommand() string {
	return p.borgfleet(withPaths([]string{"archive", "history", p.Repository}, p.Path)...)
}

// GetHistory is the same over HTTP.
func (p *historyPage) GetHistory() string { return p.Get(historyURL(p.Repository, p.Path)) }

// ListCommand lists the files of an archive.
func (p *historyPage) ListCommand() string {
	return p.borgfleet("archive", "files", p.Repository, "ARCHIVE")
}

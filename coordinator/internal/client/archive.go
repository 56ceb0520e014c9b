package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Archives returns one page of the archives that are known of a repository,
// newest first. Borg is not asked; a list job does that.
func (c *Client) Archives(ctx context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	q := query{}
	q.text("host", filter.Host)
	q.text("prefix", filter.Prefix)
	q.text("glob", filter.Glob)
	q.time("after", filter.After)
	q.time("before", filter.Before)
	q.page(filter.Limit, filter.Cursor)
	var page fleet.ArchivePage
	return page, c.call(ctx, http.MethodGet, archivesOf(filter.Repository)+q.String(), nil, &page)
}

// Archive returns what is known of one archive.
func (c *Client) Archive(ctx context.Context, repository, archive string) (fleet.Archive, error) {
	var found fleet.Archive
	return found, c.call(ctx, http.MethodGet, archiveOf(repository, archive), nil, &found)
}

// Files returns one page of the entries of a directory of an archive whose files
// are listed; else the failure's code is not_listed.
func (c *Client) Files(ctx context.Context, asked fleet.FilesQuery) (fleet.FilePage, error) {
	q := query{}
	q.text("path", asked.Path)
	q.page(asked.Limit, asked.Cursor)
	var page fleet.FilePage
	return page, c.call(ctx, http.MethodGet, archiveOf(asked.Repository, asked.Archive)+"/files"+q.String(), nil, &page)
}

// Find returns one page of the entries whose names match, in archives whose
// files are listed.
func (c *Client) Find(ctx context.Context, asked fleet.FindQuery) (fleet.MatchPage, error) {
	q := query{}
	q.text("name", asked.Name)
	q.text("repository", asked.Repository)
	q.text("archive", asked.Archive)
	q.page(asked.Limit, asked.Cursor)
	var page fleet.MatchPage
	return page, c.call(ctx, http.MethodGet, "/find"+q.String(), nil, &page)
}

// History returns one path through all listed archives of a repository.
func (c *Client) History(ctx context.Context, repository, path string) (fleet.PathHistory, error) {
	q := query{}
	q.text("path", path)
	var history fleet.PathHistory
	return history, c.call(ctx, http.MethodGet, "/repositories/"+url.PathEscape(repository)+"/history"+q.String(), nil, &history)
}

func archivesOf(repository string) string {
	return "/repositories/" + url.PathEscape(repository) + "/archives"
}

func archiveOf(repository, archive string) string {
	return archivesOf(repository) + "/" + url.PathEscape(archive)
}

// query holds the parameters of a request; those without a value are left out.
type query map[string]string

func (q query) text(name, value string) {
	if value != "" {
		q[name] = value
	}
}

func (q query) number(name string, value int64) {
	if value != 0 {
		q[name] = strconv.FormatInt(value, 10)
	}
}

func (q query) time(name string, at time.Time) {
	if !at.IsZero() {
		q[name] = at.UTC().Format(time.RFC3339Nano)
	}
}

func (q query) page(limit int, cursor string) {
	q.number("limit", int64(limit))
	q.text("cursor", cursor)
}

// String is the query behind a path, with its question mark.
func (q query) String() string {
	if len(q) == 0 {
		return ""
	}
	values := url.Values{}
	for name, value := range q {
		values.Set(name, value)
	}
	return "?" + values.Encode()
}

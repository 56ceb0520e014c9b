package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ArchiveReader reads what is known of the archives of repositories, without when
// their files were listed. Faults are *job.Failure. Safe for concurrent use.
type ArchiveReader interface {
	Archives(ctx context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error)
	Archive(ctx context.Context, repository, name string) (fleet.Archive, error)
}

// Catalog reads the files of archives that were listed. Faults are *job.Failure,
// with the code not_listed for an archive that was not. Safe for concurrent use.
type Catalog interface {
	Files(ctx context.Context, query fleet.FilesQuery) (fleet.FilePage, error)
	Find(ctx context.Context, query fleet.FindQuery) (fleet.MatchPage, error)
	History(ctx context.Context, repository, path string) (fleet.PathHistory, error)
	// ListedAt returns when the archives of a repository were listed, by name.
	ListedAt(repository string) map[string]time.Time
}

const (
	archivesPerPage = 50
	newestArchives  = 5 // on the page of a repository
)

// archivesPage is the data of the list of a repository's archives.
type archivesPage struct {
	clock
	commands
	reader
	archiveTable
	Filter    archiveFilter
	Total     int
	AsOf      *time.Time
	Next      string // address of the next page
	First     string // address of the first, when this is not it
	Fault     *job.Failure
	Refused   *job.Failure // why borg was not asked
	Asking    *jobRow      // the newest job that asks borg for all, unless it ended well
	HostNames []string
	AskHost   []choice // which host may ask borg
}

// archiveTable is a table of archives of one repository.
type archiveTable struct {
	clock
	Repository string
	Archives   []archiveRow
	Pick       bool // rows can be chosen, to be deleted
}

// archiveRow is an archive as lists and its own page show it.
type archiveRow struct {
	clock
	fleet.Archive
}

// RowID is that of the row's element.
func (r archiveRow) RowID() string { return rowID(r.Name) }

// URL is the archive's page.
func (r archiveRow) URL() string { return archiveURL(r.Repository, r.Name) }

// FilesURL is where its files are.
func (r archiveRow) FilesURL() string { return filesURL(r.Repository, r.Name, "") }

// Measured reports whether its sizes are known.
func (r archiveRow) Measured() bool { return r.OriginalSize > 0 || r.NFiles > 0 }

// By is who has made it: a host, or the machine that borg names.
func (r archiveRow) By() string {
	if r.Host != "" {
		return r.Host
	}
	return r.Hostname
}

// archiveFilter is the filter of the list, as it is in the address.
type archiveFilter struct{ Host, Name, From, To, Cursor string }

func archiveFilterOf(query url.Values) archiveFilter {
	return archiveFilter{
		Host: query.Get("host"), Name: strings.TrimSpace(query.Get("name")), From: query.Get("from"), To: query.Get("to"), Cursor: query.Get("cursor"),
	}
}

// query is what the filter asks for. Days are those of UTC.
func (f archiveFilter) query(repository string) (fleet.ArchiveFilter, error) {
	q := fleet.ArchiveFilter{Repository: repository, Host: f.Host, Glob: globOf(f.Name), Limit: archivesPerPage, Cursor: f.Cursor}
	var err error
	if q.After, err = dayOf("from", f.From); err != nil {
		return q, err
	}
	if q.Before, err = dayOf("to", f.To); err != nil || q.Before.IsZero() {
		return q, err
	}
	q.Before = q.Before.AddDate(0, 0, 1) // to the end of that day
	return q, nil
}

// globOf makes a glob of a part of a name, unless it is one.
func globOf(name string) string {
	if name == "" || strings.ContainsAny(name, "*?[") {
		return name
	}
	return "*" + strings.ReplaceAll(name, `\`, `\\`) + "*"
}

func dayOf(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return day, job.Invalid(field, "%.40q is not a day", text).WithHint("such as 2026-11-22")
	}
	return day, nil
}

// Filtered reports whether the list leaves something out.
func (p *archivesPage) Filtered() bool {
	return p.Filter.Host+p.Filter.Name+p.Filter.From+p.Filter.To != ""
}

// HostChoices is the menu of hosts in the filter.
func (p *archivesPage) HostChoices() []choice {
	return choices(p.Filter.Host, "any host", p.HostNames)
}

func (p *archivesPage) address(cursor string) string {
	f := p.Filter
	return withQuery(archivesURL(p.Repository), "host", f.Host, "name", f.Name, "from", f.From, "to", f.To, "cursor", cursor)
}

// Base is the list without a filter.
func (p *archivesPage) Base() string { return archivesURL(p.Repository) }

// FindURL searches the files of the repository.
func (p *archivesPage) FindURL() string {
	return withQuery("/find", "in", "repository", "repository", p.Repository)
}

// RefreshCommand asks borg, in a terminal.
func (p *archivesPage) RefreshCommand() string {
	return p.borgfleet("archive", "list", p.Repository, "--refresh")
}

// ListCommand is the same list in a terminal.
func (p *archivesPage) ListCommand() string {
	words := []string{"archive", "list", p.Repository}
	if glob := globOf(p.Filter.Name); glob != "" {
		words = append(words, "--glob", glob)
	}
	return p.borgfleet(words...)
}

// GetArchives is the same list over HTTP.
func (p *archivesPage) GetArchives() string {
	return p.Get(withQuery(archivesURL(p.Repository), "host", p.Filter.Host, "glob", globOf(p.Filter.Name)))
}

func (s *site) archives(ctx context.Context, repository string, query url.Values, c commands) (*view, error) {
	if _, err := s.Repositories.Repository(ctx, repository); err != nil {
		return nil, err
	}
	now := s.moment()
	page := &archivesPage{clock: now, commands: c, reader: readerOf(ctx), Filter: archiveFilterOf(query), archiveTable: archiveTable{clock: now, Repository: repository}}
	page.Pick = page.mayRun(job.Delete)
	v := &view{
		Title: "Archives in " + repository, Nav: "/repositories", Body: "archives", Data: page,
		Live: []string{"archives-head", "archives-asking", "archives-list"}, Cares: caresForRepository(repository),
		Fill: func(ctx context.Context) error { return s.fillArchiveMenus(ctx, page) },
	}
	page.Fault = page.read(ctx, s)
	if page.Fault != nil {
		if v.Status = page.Fault.Code.HTTPStatus(); v.Status >= http.StatusInternalServerError {
			return nil, page.Fault
		}
	}
	var err error
	page.Asking, err = s.listing(ctx, repository, "")
	return v, err
}

// read fills the page's rows.
func (p *archivesPage) read(ctx context.Context, s *site) *job.Failure {
	filter, err := p.Filter.query(p.Repository)
	if err != nil {
		return job.AsFailure(err)
	}
	found, err := s.Archives.Archives(ctx, filter)
	if err != nil {
		return job.AsFailure(err)
	}
	p.archiveTable.Archives = p.clock.archives(found.Archives, s.Catalog)
	p.Total, p.AsOf = found.Total, found.AsOf
	if found.Cursor != "" {
		p.Next = p.address(found.Cursor)
	}
	if filter.Cursor != "" {
		p.First = p.address("")
	}
	return nil
}

// archives makes rows that know when each archive was listed.
func (c clock) archives(list []fleet.Archive, catalog Catalog) []archiveRow {
	if len(list) == 0 {
		return nil
	}
	rows := make([]archiveRow, len(list))
	for i, a := range fleet.WithListedAt(list, catalog.ListedAt(list[0].Repository)) {
		rows[i] = archiveRow{c, a}
	}
	return rows
}

func (s *site) fillArchiveMenus(ctx context.Context, page *archivesPage) error {
	field, _, err := s.hostField(ctx, &typed{}, task{page.Repository, job.List}, s.lastHost(ctx, page.Repository))
	if err != nil {
		return err
	}
	page.AskHost = field.Choices
	makers, _, err := s.able(ctx, task{page.Repository, job.Prune})
	for _, h := range makers {
		page.HostNames = append(page.HostNames, h.Name)
	}
	return err
}

// lastHost is the host that last backed up into a repository; empty: none did.
func (s *site) lastHost(ctx context.Context, repository string) string {
	r, err := s.Repositories.Repository(ctx, repository)
	if err != nil || r.LastBackup == nil {
		return ""
	}
	return r.LastBackup.Host
}

// caresForRepository reports whether an update changes what is known of a
// repository's archives.
func caresForRepository(name string) func(feed.Update) bool {
	return func(u feed.Update) bool {
		return caresForState(u) && (u.Repository == name || u.Type == feed.Missed)
	}
}

// justListed is for how long after a job the list that it has made may not be
// stored yet.
const justListed = time.Minute

// listing is the newest job that lists an archive's files, or with an empty name
// all archives, if it is open, has just ended, or has not ended well; nil: there
// is none such.
func (s *site) listing(ctx context.Context, repository, archive string) (*jobRow, error) {
	found, err := s.Jobs.Jobs(ctx, job.Filter{Repository: repository, Kind: job.List, Limit: job.DefaultPage})
	if err != nil {
		return nil, wrap("list jobs of "+repository, err)
	}
	for _, j := range found.Jobs {
		spec, ok := j.Spec.(job.ListSpec)
		if !ok || spec != (job.ListSpec{Archive: archive}) {
			continue
		}
		done := j.State == job.Succeeded || j.State == job.Warning
		if done && (archive == "" || j.FinishedAt == nil || s.Now().Sub(*j.FinishedAt) > justListed) {
			return nil, nil
		}
		row := s.moment().job(j)
		return &row, nil
	}
	return nil, nil
}

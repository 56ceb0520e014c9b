package web

import (
	"context"
	"errors"
	"html/template"
	"net/url"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// archivePage is the data of one archive's page.
type archivePage struct {
	archiveRow
	commands
	reader
	At     place
	Crumbs []crumb
	Mounts []mountRow // of this archive, or of all of the repository
}

// archive builds the page of an archive.
func (s *site) archive(ctx context.Context, repository, name string, c commands) (*view, error) {
	row, at, err := s.findArchive(ctx, repository, name)
	if err != nil {
		return nil, err
	}
	page := &archivePage{archiveRow: row, commands: c, reader: readerOf(ctx), At: at}
	page.Crumbs = archiveCrumbs(repository, name)
	page.Crumbs[len(page.Crumbs)-1].URL = ""
	if page.Mounts, err = s.mounts(ctx, job.Filter{Repository: repository}, name); err != nil {
		return nil, err
	}
	return &view{
		Title: name, Nav: "/repositories", Body: "archive", Data: page,
		Live: []string{"archive-head", "archive-facts", "mounts"}, Cares: caresForRepository(repository),
		Progress: mountProgress(page.Mounts, nil),
	}, nil
}

// findArchive reads what is known of an archive, and which host would read it.
func (s *site) findArchive(ctx context.Context, repository, name string) (archiveRow, place, error) {
	at := place{Repository: repository, Archive: name}
	found, err := s.Archives.Archive(ctx, repository, name)
	if err != nil {
		return archiveRow{}, at, err
	}
	hosts, _, err := s.able(ctx, task{repository, job.Download})
	if err != nil {
		return archiveRow{}, at, err
	}
	at.Host = certain(hosts, []string{found.Host})
	row := s.moment().archives([]fleet.Archive{found}, s.Catalog)[0]
	return row, at, nil
}

// Moment is a time to the second.
func (p *archivePage) Moment(t time.Time) template.HTML { return p.clock.At(t) }

// ShowCommand and GetArchive tell the same elsewhere.
func (p *archivePage) ShowCommand() string {
	return p.borgfleet("archive", "show", p.At.Repository, p.At.Archive)
}

// GetArchive reads it over HTTP.
func (p *archivePage) GetArchive() string {
	return p.Get(archiveURL(p.At.Repository, p.At.Archive))
}

// downloadPage asks which host shall read a download, and in which form.
type downloadPage struct {
	commands
	reader
	place
	Crumbs  []crumb
	Formats []choice
	Hosts   []choice
	Action  string // of the API
}

var downloadLabels = map[job.DownloadFormat]string{
	job.DownloadFile: "file: the content of one file", job.DownloadTar: "tar: the path and what is below it", fleet.DownloadTarZst: "tar.zst: the same, compressed on the way",
}

// download builds the page before a download.
func (s *site) download(ctx context.Context, at place, query url.Values, c commands) (*view, error) {
	if err := needRole(ctx, fleet.StartRole(job.Download, nil)); err != nil {
		return nil, err
	}
	row, known, err := s.findArchive(ctx, at.Repository, at.Archive)
	if err != nil {
		return nil, err
	}
	known.Path = at.Path
	hosts, chosen, err := s.hostField(ctx, &typed{Values: query}, task{at.Repository, job.Download}, row.Host, s.lastHost(ctx, at.Repository))
	if err != nil {
		return nil, err
	}
	known.Host = chosen
	page := &downloadPage{commands: c, reader: readerOf(ctx), place: known, Hosts: hosts.Choices, Action: downloadURL(at.Repository, at.Archive, "")}
	page.Crumbs = append(pathCrumbs(at.Repository, at.Archive, at.Path), crumb{Label: "download"})
	formats := []job.DownloadFormat{job.DownloadTar, fleet.DownloadTarZst}
	if at.Path != "" {
		formats = append(formats, job.DownloadFile)
	}
	page.Formats = choices(job.DownloadFormat(query.Get("format")), "", formats)
	for i, format := range page.Formats {
		if label := downloadLabels[job.DownloadFormat(format.Value)]; label != "" {
			page.Formats[i].Label = label
		}
	}
	return &view{Title: "Download from " + at.Archive, Nav: "/repositories", Body: "download", Data: page}, nil
}

// DownloadCommand is the same from a terminal, where a download that broke off
// can go on.
func (p *downloadPage) DownloadCommand() string {
	words := []string{"archive", "download", p.Repository, p.place.Archive}
	if p.Path != "" {
		words = append(words, p.Path)
	}
	return p.borgfleet(append(words, "--host", p.host(), "--continue")...)
}

// GetDownload is the same over HTTP.
func (p *downloadPage) GetDownload() string {
	return curl("-OJ", p.origin+downloadURL(p.Repository, p.place.Archive, p.Path, "host", p.host()))
}

func (p *downloadPage) host() string {
	if p.Host == "" {
		return "HOST"
	}
	return p.Host
}

// notListed reports whether an error says that an archive's files are not known.
func notListed(err error) bool {
	failure, ok := errors.AsType[*job.Failure](err)
	return ok && failure.Code == job.NotListed
}

// caresForListing reports whether an update may change what is known of an
// archive's files.
func caresForListing(repository string) func(feed.Update) bool {
	cares := caresForRepository(repository)
	return func(u feed.Update) bool {
		return cares(u) && (u.Job == nil || u.Job.Kind == job.List || u.Job.State.Terminal())
	}
}

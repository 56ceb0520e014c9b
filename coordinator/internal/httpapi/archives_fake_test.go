package httpapi_test

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// shelf is what a backend knows of archives.
type shelf struct {
	archives []fleet.Archive
	unlisted bool                // borg was never asked for all of them
	filter   fleet.ArchiveFilter // that was last asked for
	files    fleet.FilesQuery    // likewise
	find     fleet.FindQuery     // likewise
	asked    fleet.DownloadRequest
	by       fleet.Actor
	download func(context.Context) (*fleet.Download, error)
}

func (b *backend) Archives(_ context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shelf.filter = filter
	if _, ok := b.repositories[filter.Repository]; !ok {
		return fleet.ArchivePage{}, job.Fail(job.UnknownRepository, "there is no repository %q", filter.Repository)
	}
	page := fleet.ArchivePage{Archives: b.shelf.archives, Total: len(b.shelf.archives)}
	if at := time.Now().UTC(); !b.shelf.unlisted && !b.repositories[filter.Repository].Pending {
		page.AsOf = &at
	}
	return page, nil
}

func (b *backend) Archive(_ context.Context, repository, name string) (fleet.Archive, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, archive := range b.shelf.archives {
		if archive.Name == name {
			return archive, nil
		}
	}
	return fleet.Archive{}, fleet.UnknownArchive(repository, name)
}

func (b *backend) Files(_ context.Context, query fleet.FilesQuery) (fleet.FilePage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shelf.files = query
	if query.Archive != "a1" {
		return fleet.FilePage{}, fleet.NotListed(query.Repository, query.Archive)
	}
	return fleet.FilePage{Repository: query.Repository, Archive: query.Archive, Path: query.Path}, nil
}

func (b *backend) Find(_ context.Context, query fleet.FindQuery) (fleet.MatchPage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shelf.find = query
	return fleet.MatchPage{Searched: 1}, nil
}

func (b *backend) History(_ context.Context, repository, path string) (fleet.PathHistory, error) {
	return fleet.PathHistory{Repository: repository, Path: path}, nil
}

func (b *backend) ListedAt(repository string) map[string]time.Time {
	return map[string]time.Time{"a1": exampleDay}
}

func (b *backend) Open(ctx context.Context, by fleet.Actor, asked fleet.DownloadRequest) (*fleet.Download, error) {
	b.mu.Lock()
	b.shelf.asked, b.shelf.by = asked, by
	open := b.shelf.download
	b.mu.Unlock()
	return open(ctx)
}

// pour makes a download of some text, which fails in the end if err is set.
func pour(download fleet.Download, text string, err error) (open func(context.Context) (*fleet.Download, error), closed chan struct{}) {
	closed = make(chan struct{})
	return func(context.Context) (*fleet.Download, error) {
		var content io.Reader = strings.NewReader(text)
		if err != nil {
			content = io.MultiReader(content, failing{err})
		}
		download.Job, download.Content = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ", poured{content, closed}
		return &download, nil
	}, closed
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type poured struct {
	io.Reader
	closed chan struct{}
}

func (p poured) Close() error {
	close(p.closed)
	return nil
}

package busapi

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Archives knows the archives of the repositories, without when they were
// listed. Errors are *job.Failure.
type Archives interface {
	Archives(ctx context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error)
}

// Catalog knows the files of the archives that were listed. Errors are
// *job.Failure, with the code not_listed for an archive that was not.
type Catalog interface {
	Files(ctx context.Context, query fleet.FilesQuery) (fleet.FilePage, error)
	Find(ctx context.Context, query fleet.FindQuery) (fleet.MatchPage, error)
	History(ctx context.Context, repository, path string) (fleet.PathHistory, error)
	// ListedAt returns when the archives of a repository were listed, by name.
	ListedAt(repository string) map[string]time.Time
}

// HistoryRequest asks for one path through the archives of a repository.
type HistoryRequest struct {
	Repository string `json:"repository"`
	Path       string `json:"path"` // as archives have it
}

// archiveEndpoints is what is served of archives.
func (s *Service) archiveEndpoints() []endpoint {
	return []endpoint{
		serve("archives-list", bus.ArchivesList, "the known archives of a repository, newest first", s.listArchives),
		serve("archives-files", bus.ArchivesFiles, "a directory of a listed archive", func(ctx context.Context, q fleet.FilesQuery) (fleet.FilePage, error) {
			return fitting(s.maxReply(), cmp.Or(q.Limit, fleet.DefaultFiles), func(limit int) (fleet.FilePage, error) {
				q.Limit = limit
				return s.Catalog.Files(ctx, q)
			})
		}),
		serve("archives-find", bus.ArchivesFind, "files by name in listed archives", func(ctx context.Context, q fleet.FindQuery) (fleet.MatchPage, error) {
			return fitting(s.maxReply(), cmp.Or(q.Limit, fleet.DefaultFiles), func(limit int) (fleet.MatchPage, error) {
				q.Limit = limit
				return s.Catalog.Find(ctx, q)
			})
		}),
		serve("archives-history", bus.ArchivesHistory, "one path through the listed archives of a repository", func(ctx context.Context, r HistoryRequest) (fleet.PathHistory, error) {
			return s.Catalog.History(ctx, r.Repository, r.Path)
		}),
	}
}

func (s *Service) listArchives(ctx context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	page, err := fitting(s.maxReply(), cmp.Or(filter.Limit, job.DefaultPage), func(limit int) (fleet.ArchivePage, error) {
		filter.Limit = limit
		return s.Archives.Archives(ctx, filter)
	})
	if err == nil {
		page.Archives = fleet.WithListedAt(page.Archives, s.Catalog.ListedAt(filter.Repository))
	}
	return page, err
}

// fitting reads a page that fits into a message. Where the page is too large it
// is shorter than what was asked for; its cursor leads on all the same.
func fitting[Page any](maxBytes, limit int, read func(limit int) (Page, error)) (Page, error) {
	for {
		page, err := read(limit)
		if err != nil || limit <= 1 {
			return page, err
		}
		encoded, err := json.Marshal(page)
		if err != nil || len(encoded) <= maxBytes {
			return page, err
		}
		limit /= 2
	}
}

package catalog

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Files returns a page of a directory of an archive. The error is ctx's, or a
// *job.Failure: not_listed; path_missing if the archive has no such path.
func (c *Catalog) Files(ctx context.Context, q fleet.FilesQuery) (fleet.FilePage, error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return fleet.FilePage{}, err
	}
	from, err := decodeCursor[fileCursor](q.Cursor)
	if err != nil {
		return fleet.FilePage{}, err
	}
	if err := ctx.Err(); err != nil {
		return fleet.FilePage{}, err
	}
	page := fleet.FilePage{Repository: q.Repository, Archive: q.Archive, Path: inArchive(q.Path)}
	err = c.readArchive(q.Repository, q.Archive, func(l *listing, r *reader) error {
		page.ListedAt = l.ListedAt
		return fillPage(&page, r, from.From, limit)
	})
	if err != nil {
		return fleet.FilePage{}, c.failure("list files", err)
	}
	return page, nil
}

// fillPage reads entry, files and cursor of a page.
func fillPage(page *fleet.FilePage, r *reader, from string, limit int) error {
	page.Entry, page.Files, page.Cursor = nil, []fleet.File{}, ""
	if page.Path != "" {
		entry, found, err := r.entry(page.Path)
		if err != nil {
			return err
		}
		if !found {
			return missing(page.Repository, page.Archive, page.Path)
		}
		page.Entry = &entry
	}
	files, more, err := r.page(page.Path, from, limit)
	if err != nil {
		return err
	}
	if page.Files = append(page.Files, files...); more {
		page.Cursor = encodeCursor(fileCursor{From: files[len(files)-1].Name + "\x00"}) // the next possible name
	}
	return nil
}

// Entry returns one entry of an archive. Errors are those of [Catalog.Files].
func (c *Catalog) Entry(ctx context.Context, repository, archive, path string) (fleet.File, error) {
	if err := ctx.Err(); err != nil {
		return fleet.File{}, err
	}
	path = inArchive(path)
	var file fleet.File
	err := c.readArchive(repository, archive, func(_ *listing, r *reader) error {
		entry, found, err := r.entry(path)
		if err == nil && !found {
			err = missing(repository, archive, path)
		}
		file = entry
		return err
	})
	if err != nil {
		return fleet.File{}, c.failure("look for a file", err)
	}
	return file, nil
}

func missing(repository, archive, path string) *job.Failure {
	return job.Fail(job.PathMissing, "archive %s of repository %s has no path %q", archive, repository, path).
		WithHint("borgfleet archive files %s %s shows what it has; borgfleet archive find searches by name", repository, archive)
}

// inArchive returns a path as archives have it, without slashes at its ends; ""
// is the top.
func inArchive(path string) string {
	if path = strings.Trim(path, "/"); path == "." {
		return ""
	}
	return path
}

func pageLimit(asked int) (int, error) {
	switch {
	case asked < 0 || asked > fleet.MaxFiles:
		return 0, job.Invalid("limit", "%d is not between 1 and %d", asked, fleet.MaxFiles)
	case asked == 0:
		return fleet.DefaultFiles, nil
	default:
		return asked, nil
	}
}

// fileCursor says where the next page begins.
type fileCursor struct {
	From string `json:"from"` // a name
}

func encodeCursor[Cursor any](cursor Cursor) string {
	data, err := json.Marshal(cursor)
	if err != nil {
		return "" // not with strings and numbers
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeCursor reads a cursor; an empty one is the zero value.
func decodeCursor[Cursor any](text string) (cursor Cursor, err error) {
	if text == "" {
		return cursor, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &cursor)
	}
	if err != nil {
		return cursor, job.Invalid("cursor", "%.40q did not come from a page", text)
	}
	return cursor, nil
}

// failure makes of an error what a caller may see.
func (c *Catalog) failure(doing string, err error) error {
	if _, isFailure := errors.AsType[*job.Failure](err); isFailure || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.logger.Error(doing, "err", err)
	return job.Fail(job.Unavailable, "the listing cannot be read: %s", err).WithHint("see the coordinator's log; its disk may be failing")
}

package catalog

import (
	"context"
	"errors"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// History returns what a path was in each listed archive of a repository, oldest
// first. A version is compared with the archive before it of the same host, as
// the hosts of a repository have paths in common that have nothing to do with
// each other. Errors are ctx's, or a *job.Failure.
func (c *Catalog) History(ctx context.Context, repository, path string) (fleet.PathHistory, error) {
	history := fleet.PathHistory{Repository: repository, Path: inArchive(path), Versions: []fleet.PathVersion{}}
	if history.Path == "" {
		return history, job.Invalid("path", "is empty").WithHint("give the path of a file or directory as archives have it")
	}
	known, err := c.known(ctx, repository)
	if err != nil {
		return history, c.failure("read archives", err)
	}
	listings := []*listing{}
	if repository != "" {
		listings = c.all(repository)
	}
	slices.SortFunc(listings, func(a, b *listing) int { return cursorAt(b).compare(a) })
	before := map[string]*fleet.PathVersion{} // by host
	for _, l := range listings {
		if err := ctx.Err(); err != nil {
			return history, err
		}
		version, err := c.version(l, history.Path)
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return history, c.failure("look for a file", err)
		}
		host := known[l.Archive].Host
		if last := before[host]; last != nil {
			version.Changed = differ(last.File, version.File)
		}
		before[host] = &version
		history.Versions = append(history.Versions, version)
	}
	for name := range known {
		if _, listed := c.find(repository, name); !listed {
			history.NotListed++
		}
	}
	return history, nil
}

// version returns what a path is in one archive.
func (c *Catalog) version(l *listing, path string) (fleet.PathVersion, error) {
	version := fleet.PathVersion{Archive: l.Archive, Start: l.Start}
	err := c.read(l, func(r *reader) error {
		file, found, err := r.entry(path)
		if found {
			version.File = &file
		}
		return err
	})
	return version, err
}

func differ(a, b *fleet.File) bool {
	if a == nil || b == nil {
		return a != b
	}
	x, y := *a, *b
	same := x.MTime.Equal(y.MTime)
	x.MTime = y.MTime
	return !same || x != y
}

// known returns the archives of a repository that are known, by name.
func (c *Catalog) known(ctx context.Context, repository string) (map[string]fleet.Archive, error) {
	known := map[string]fleet.Archive{}
	filter := fleet.ArchiveFilter{Repository: repository, Limit: job.MaxPage}
	for {
		page, err := c.options.Archives.Archives(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Archives {
			known[a.Name] = a
		}
		if filter.Cursor = page.Cursor; page.Cursor == "" {
			return known, nil
		}
	}
}

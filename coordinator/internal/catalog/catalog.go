package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Source hands out what a job streams. It is safe for concurrent use.
type Source interface {
	// Stream reads what a running attempt prints, from its first byte. Reading
	// ends with io.EOF after the last byte, and with another error if it is lost.
	Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser
}

// Jobs knows the jobs. Errors are *job.Failure.
type Jobs interface {
	Job(ctx context.Context, id job.ID) (job.Job, error)
	Jobs(ctx context.Context, f job.Filter) (job.Page, error)
}

// Archives knows the archives of repositories. Errors are *job.Failure: an
// archive that is not known is archive_missing.
type Archives interface {
	Archive(ctx context.Context, repository, name string) (fleet.Archive, error)
	Archives(ctx context.Context, f fleet.ArchiveFilter) (fleet.ArchivePage, error)
}

// Repositories knows the repositories. One that is not there is
// unknown_repository.
type Repositories interface {
	Repository(ctx context.Context, name string) (fleet.RepositoryView, error)
}

// Options are what a catalog is made of. All but the last group are needed.
type Options struct {
	Dir          string // made if it is not there
	Feed         *feed.Feed
	Jobs         Jobs
	Archives     Archives
	Repositories Repositories
	Source       Source
	Logger       hclog.Logger

	Now      func() time.Time // default time.Now
	Patience time.Duration    // how long one search goes on; default 2 s
}

const (
	workDir       = ".work" // no repository has that name
	suffix        = ".listing"
	fileMode      = 0o600
	dirMode       = 0o700
	findPatience  = 2 * time.Second
	maxFaults     = 1000        // that are remembered
	watchPatience = time.Minute // see Catalog.begin
)

// Catalog serves listings, and makes them while [Catalog.Run] runs. It is safe
// for concurrent use.
type Catalog struct {
	options Options
	logger  hclog.Logger
	watcher *feed.Watcher
	codec   codec
	indexes *indexCache
	slots   chan struct{} // one for each stream that is sorted
	arena   int           // bytes of memory for each of them

	mu       sync.RWMutex // also held while a file takes its place, or goes
	listings map[string]map[string]*listing
	streams  map[attempt]*stream
	ended    map[job.ID]int // the last attempt whose stream is over
	faults   map[archive]string
}

// archive names an archive.
type archive struct{ repository, name string }

// attempt names an attempt of a job.
type attempt struct {
	job    job.ID
	number int
}

// New opens the directory, removes what a crash has left there, and reads what
// the listings in it are of. It begins to watch the feed, so that [Catalog.Run]
// misses nothing that happens in between.
func New(o Options) (*Catalog, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = findPatience
	}
	codec, err := newCodec()
	if err != nil {
		return nil, err
	}
	c := &Catalog{
		options: o, logger: o.Logger.Named("catalog"), codec: codec, indexes: newIndexCache(), slots: make(chan struct{}, maxStreams), arena: arenaBytes,
		listings: map[string]map[string]*listing{}, streams: map[attempt]*stream{}, ended: map[job.ID]int{}, faults: map[archive]string{},
	}
	work := filepath.Join(o.Dir, workDir)
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, dirMode)); err != nil {
		return nil, fmt.Errorf("clean the directory of listings: %w", err)
	}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("read the directory of listings: %w", err)
	}
	c.watcher = o.Feed.Watch()
	return c, nil
}

// load looks at all files.
func (c *Catalog) load() error {
	paths, err := filepath.Glob(filepath.Join(globSafe(c.options.Dir), "*", "*"+suffix))
	if err != nil {
		return err
	}
	for _, path := range paths {
		l, err := inspect(path)
		if err == nil && path != c.path(l.Repository, l.Archive) {
			err = fmt.Errorf("%w: it is of archive %q in repository %q", errDamaged, l.Archive, l.Repository)
		}
		switch {
		case err == nil:
			c.put(l)
		case errors.Is(err, errDamaged):
			c.logger.Warn("damaged listing is removed; list the archive again", "path", path, "err", err)
			_ = os.Remove(path) // it is not served either way
		default:
			c.logger.Error("listing cannot be read", "path", path, "err", err)
		}
	}
	return nil
}

// globSafe returns a path for a pattern that means only itself.
func globSafe(path string) string {
	safe := make([]byte, 0, len(path))
	for _, b := range []byte(path) {
		if b == '*' || b == '?' || b == '[' || b == '\\' {
			safe = append(safe, '\\')
		}
		safe = append(safe, b)
	}
	return string(safe)
}

// path is where the listing of an archive lies. Names of repositories are safe
// as names of files, those of archives are not, and may be longer.
func (c *Catalog) path(repository, archive string) string {
	sum := sha256.Sum256([]byte(archive))
	return filepath.Join(c.options.Dir, repository, hex.EncodeToString(sum[:16])+suffix)
}

// put makes a listing the one of its archive. The caller holds the lock, or is
// alone.
func (c *Catalog) put(l *listing) {
	of := c.listings[l.Repository]
	if of == nil {
		of = map[string]*listing{}
		c.listings[l.Repository] = of
	}
	if old := of[l.Archive]; old != nil {
		c.indexes.forget(old)
	}
	of[l.Archive] = l
}

// take removes a listing from memory. The caller holds the lock. It reports
// whether it was there.
func (c *Catalog) take(l *listing) bool {
	of := c.listings[l.Repository]
	if of[l.Archive] != l {
		return false
	}
	delete(of, l.Archive)
	if len(of) == 0 {
		delete(c.listings, l.Repository)
	}
	c.indexes.forget(l)
	return true
}

// install gives a finished file its place, and serves it.
func (c *Catalog) install(made string, about summary) error {
	path := c.path(about.Repository, about.Archive)
	l, err := inspect(made)
	if err != nil {
		return fmt.Errorf("look at the new listing: %w", err)
	}
	l.path = path
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return fmt.Errorf("make directory of listings: %w", err)
	}
	if err := os.Rename(made, path); err != nil {
		return fmt.Errorf("put listing in place: %w", err)
	}
	c.put(l)
	delete(c.faults, archive{about.Repository, about.Archive})
	return errors.Join(disk.SyncDir(filepath.Dir(path)), disk.SyncDir(c.options.Dir))
}

// remove removes a listing, unless a newer one has taken its place.
func (c *Catalog) remove(l *listing, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.take(l) {
		return
	}
	c.logger.Info("listing is removed", "repo", l.Repository, "archive", l.Archive, "why", why)
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.logger.Error("remove listing; it is tried again at the next start", "path", l.path, "err", err)
	}
	_ = os.Remove(filepath.Dir(l.path)) // only if it is empty
}

// find returns the listing of an archive.
func (c *Catalog) find(repository, archive string) (*listing, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	l, found := c.listings[repository][archive]
	return l, found
}

// all returns the listings of a repository, or of all if it is empty.
func (c *Catalog) all(repository string) []*listing {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []*listing
	for name, of := range c.listings {
		if repository != "" && name != repository {
			continue
		}
		for _, l := range of {
			all = append(all, l)
		}
	}
	return all
}

// ListedAt returns when the archives of a repository were listed, by their names.
func (c *Catalog) ListedAt(repository string) map[string]time.Time {
	times := map[string]time.Time{}
	for _, l := range c.all(repository) {
		if l.Repository == repository {
			times[l.Archive] = l.ListedAt
		}
	}
	return times
}

// read opens a listing and calls visit. What turns out to be damaged is removed,
// and is as if it had never been: visit's results must not be used then. The
// error is errReplaced when the listing is gone.
func (c *Catalog) read(l *listing, visit func(*reader) error) error {
	r, err := l.open(c.codec, c.indexes)
	if err == nil {
		err = visit(r)
		r.close()
	}
	switch {
	case errors.Is(err, errDamaged):
		c.logger.Warn("listing is damaged; list the archive again", "path", l.path, "err", err)
		c.remove(l, "it is damaged")
		return errReplaced
	case errors.Is(err, errReplaced):
		c.dropMissing(l)
	}
	return err
}

// dropMissing forgets a listing whose file somebody else has removed or put
// another one in the place of.
func (c *Catalog) dropMissing(l *listing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.take(l)
}

// readArchive reads the listing of an archive, or says that it is not listed.
func (c *Catalog) readArchive(repository, name string, visit func(*listing, *reader) error) error {
	for {
		l, found := c.find(repository, name)
		if !found {
			return c.notListed(repository, name)
		}
		err := c.read(l, func(r *reader) error { return visit(l, r) })
		if !errors.Is(err, errReplaced) { // else: by a newer one, or by none; each turn drops one
			return err
		}
	}
}

// notListed says why there is no listing, if that is known.
func (c *Catalog) notListed(repository, name string) error {
	failure := fleet.NotListed(repository, name)
	c.mu.RLock()
	defer c.mu.RUnlock()
	for of, s := range c.streams {
		if s.of == (archive{repository, name}) {
			return failure.WithHint("job %s is listing them: ask again when they are here", of.job)
		}
	}
	if fault := c.faults[archive{repository, name}]; fault != "" {
		failure.Message += "; the last time that did not work: " + fault
	}
	return failure
}

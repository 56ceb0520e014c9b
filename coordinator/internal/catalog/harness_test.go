package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/catalog"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const patience = 20 * time.Second

var started = time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)

// world is a catalog among fakes of all that it asks.
type world struct {
	*catalog.Catalog
	t    testing.TB
	dir  string
	feed *feed.Feed
	stop func() // ends Run

	patience time.Duration // of searches

	mu           sync.Mutex
	jobs         map[job.ID]job.Job
	archives     map[string]fleet.Archive // by repository/name
	asOf         *time.Time
	repositories map[string]fleet.Repository
	streams      map[string]io.Reader // by job/attempt
	opened       map[string]int
	open         int
}

// newWorld starts a catalog, with the repository main, in a directory.
func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{
		t: t, dir: dir, feed: feed.New(), patience: patience, jobs: map[job.ID]job.Job{}, archives: map[string]fleet.Archive{},
		repositories: map[string]fleet.Repository{}, streams: map[string]io.Reader{}, opened: map[string]int{},
	}
	w.addRepository("main")
	return w
}

func (w *world) addRepository(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.repositories[name] = fleet.Repository{Repository: job.Repository{Name: name}, CreatedAt: time.Now().Add(-time.Hour)}
}

// start makes the catalog and runs it.
func (w *world) start() *world {
	w.t.Helper()
	var err error
	w.Catalog, err = catalog.New(catalog.Options{
		Dir: w.dir, Feed: w.feed, Jobs: (*jobs)(w), Archives: (*archives)(w), Repositories: (*repositories)(w), Source: (*source)(w),
		Logger: hclog.NewNullLogger(), Patience: w.patience,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	return w
}

// jobs, archives, repositories and source are the world's sides.
type (
	jobs         world
	archives     world
	repositories world
	source       world
)

func (f *jobs) Job(_ context.Context, id job.ID) (job.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j, ok := f.jobs[id]; ok {
		return j, nil
	}
	return job.Job{}, job.Fail(job.UnknownJob, "no job %s", id)
}

func (f *jobs) Jobs(_ context.Context, filter job.Filter) (page job.Page, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		if j.Kind == filter.Kind && j.State == filter.State {
			page.Jobs = append(page.Jobs, j)
		}
	}
	return page, nil
}

func (f *archives) Archive(_ context.Context, repository, name string) (fleet.Archive, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.archives[repository+"/"+name]; ok {
		return a, nil
	}
	return fleet.Archive{}, fleet.UnknownArchive(repository, name)
}

func (f *archives) Archives(_ context.Context, filter fleet.ArchiveFilter) (fleet.ArchivePage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	page := fleet.ArchivePage{AsOf: f.asOf}
	for _, a := range f.archives {
		if a.Repository == filter.Repository {
			page.Archives = append(page.Archives, a)
		}
	}
	page.Total = len(page.Archives)
	return page, nil
}

func (f *repositories) Repository(_ context.Context, name string) (fleet.RepositoryView, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.repositories[name]; ok {
		return fleet.RepositoryView{Repository: r}, nil
	}
	return fleet.RepositoryView{}, fleet.UnknownRepository(name)
}

func (f *source) Stream(ctx context.Context, _ string, id job.ID, attempt int) io.ReadCloser {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := fmt.Sprintf("%s/%d", id, attempt)
	f.opened[key]++
	f.open++
	from := f.streams[key]
	if from == nil {
		from = broken{}
	}
	return &opened{ctx: ctx, from: from, closed: sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open--
		if closer, ok := from.(io.Closer); ok {
			_ = closer.Close() // a pipe: whoever writes to it sees that nobody reads
		}
	})}
}

type opened struct {
	ctx    context.Context
	from   io.Reader
	closed func()
}

func (o *opened) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	return o.from.Read(p)
}

func (o *opened) Close() error { o.closed(); return nil }

// broken is a stream whose host has lost what is left.
type broken struct{}

func (broken) Read([]byte) (int, error) {
	return 0, job.Fail(job.ConnectionLost, "the host has lost it")
}

// held is a stream that waits until it is let go.
type held struct {
	ready chan struct{}
	from  io.Reader
}

func (h *held) Read(p []byte) (int, error) { <-h.ready; return h.from.Read(p) }

// has makes an archive known.
func (w *world) has(repository, name, id string, start time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.archives[repository+"/"+name] = fleet.Archive{Archive: job.Archive{Name: name, ID: id, Start: start}, Repository: repository, Host: "web1"}
}

func (w *world) forget(repository, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.archives, repository+"/"+name)
}

func (w *world) setHost(repository, name, host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.archives[repository+"/"+name]
	a.Host = host
	w.archives[repository+"/"+name] = a
}

// prints says what an attempt prints.
func (w *world) prints(j job.Job, from io.Reader) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[fmt.Sprintf("%s/%d", j.ID, j.Attempt)] = from
}

// newList returns a job that lists an archive, running its first attempt.
func newList(repository, archive string) job.Job {
	now := time.Now()
	return job.Job{
		ID: job.NewID(now), Kind: job.List, Host: "web1", Repository: repository, State: job.Running, Attempt: 1,
		Spec: job.ListSpec{Archive: archive}, Attempts: []job.Attempt{{Number: 1, State: job.Running, StartedAt: &now}},
	}
}

// tell stores a job and tells of it.
func (w *world) tell(j job.Job) {
	w.mu.Lock()
	w.jobs[j.ID] = j
	w.mu.Unlock()
	w.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &j, Host: j.Host, Repository: j.Repository})
}

// over tells that a job has ended.
func (w *world) over(j job.Job, state job.State) {
	now := time.Now()
	j.State, j.FinishedAt = state, &now
	w.tell(j)
}

// list lists an archive with a text, and waits until that is served.
func (w *world) list(repository, archive, text string) {
	w.t.Helper()
	before := w.ListedAt(repository)[archive]
	j := newList(repository, archive)
	w.prints(j, strings.NewReader(text))
	w.tell(j)
	w.over(j, job.Succeeded)
	w.until("archive "+archive+" is listed", func() bool { return w.ListedAt(repository)[archive].After(before) })
}

// until waits for a condition.
func (w *world) until(what string, condition func() bool) {
	w.t.Helper()
	w.within(patience, what, condition)
}

func (w *world) within(limit time.Duration, what string, condition func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(limit); !condition(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %s: %s", limit, what)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-w.t.Context().Done():
			w.t.Fatalf("test ended: %s", what)
		}
	}
}

// item is a line of borg's.
func item(kind, path string, size int) string {
	mode := map[string]string{"d": "drwxr-xr-x", "-": "-rw-r--r--", "l": "lrwxrwxrwx"}[kind]
	return fmt.Sprintf(`{"type": %q, "mode": %q, "user": "root", "group": "root", "uid": 0, "gid": 0, "path": %q, "healthy": true, "source": "", "linktarget": "", "flags": 0, "size": %d, "mtime": "2026-05-01T01:02:03.456789"}`+"\n",
		kind, mode, path, size)
}

// items are lines of regular files.
func items(paths ...string) string {
	var text strings.Builder
	for _, path := range paths {
		text.WriteString(item("-", path, len(path)))
	}
	return text.String()
}

// wantCode fails unless err is a failure with a code.
func wantCode(t testing.TB, err error, code job.Code) {
	t.Helper()
	f, ok := errors.AsType[*job.Failure](err)
	if !ok || f.Code != code {
		t.Errorf("got %v, want code %s", err, code)
	}
}

package transfer_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/transfer"
	"github.com/borgfleet/borgfleet/shared/job"
)

const id job.ID = "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"

var alice = fleet.Actor{Name: "operator:alice"}

// world is all that surrounds a service: one job, what borg prints in it, and
// what is known of hosts and archives.
type world struct {
	feed     *feed.Feed
	print    func(ctx context.Context) io.Reader // what borg prints; its Read should end with ctx
	hosts    []fleet.HostView
	archives map[string]fleet.Archive
	files    map[string]fleet.File // nil: nothing is listed
	refuse   error                 // of submissions

	submitted chan struct{} // gets one for each submission

	mu        sync.Mutex
	asked     job.Request
	job       job.Job
	cancelled chan struct{} // closed when somebody cancels
}

func newWorld() *world {
	return &world{
		feed: feed.New(), hosts: []fleet.HostView{{Host: fleet.Host{Name: "web1"}, Online: true}}, cancelled: make(chan struct{}),
		archives: map[string]fleet.Archive{}, submitted: make(chan struct{}, 8),
	}
}

func (w *world) service(t *testing.T) *transfer.Service {
	t.Helper()
	s, err := transfer.New(transfer.Options{
		Jobs: w, Feed: w.feed, Source: w, Archives: w, Catalog: w, Hosts: w, Logger: hclog.NewNullLogger(), MaxOpen: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// change changes the job and tells everybody.
func (w *world) change(f func(*job.Job)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.job)
	told := w.job
	w.feed.Publish(feed.Update{Type: feed.JobChanged, Job: &told})
}

// run says that borg was started.
func (w *world) run() {
	now := time.Now()
	w.change(func(j *job.Job) { j.State, j.Attempt, j.StartedAt = job.Running, 1, &now })
}

// finish ends the job.
func (w *world) finish(failure *job.Failure) {
	w.change(func(j *job.Job) {
		j.State, j.Failure = job.Succeeded, failure
		if failure != nil {
			j.State = job.Failed
		}
	})
}

func (w *world) Submit(_ context.Context, by fleet.Actor, request job.Request) (job.Job, error) {
	if w.refuse != nil {
		w.asked = request
		return job.Job{}, w.refuse
	}
	if by.Name != alice.Name {
		return job.Job{}, errors.New("submitted by " + by.Name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = request
	w.job = job.Job{ID: id, Host: request.Host, Kind: request.Kind, State: job.Queued}
	w.submitted <- struct{}{}
	return w.job, nil
}

// untilSubmitted waits for a job and then does something.
func (w *world) untilSubmitted(t *testing.T, then func()) {
	select {
	case <-w.submitted:
		then()
	case <-t.Context().Done():
	}
}

func (w *world) Cancel(_ context.Context, by fleet.Actor, asked job.ID) (job.Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.job.State.Terminal() {
		return w.job, job.Fail(job.Conflict, "the job is over")
	}
	if asked != id || by.Name != alice.Name || w.job.CancelRequested {
		return w.job, errors.New("a cancellation that should not be")
	}
	w.job.CancelRequested = true
	close(w.cancelled)
	return w.job, nil
}

func (w *world) Job(ctx context.Context, asked job.ID) (job.Job, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if asked != id {
		return job.Job{}, job.Fail(job.UnknownJob, "no job %s", asked)
	}
	return w.job, ctx.Err()
}

func (w *world) isCancelled() bool {
	select {
	case <-w.cancelled:
		return true
	default:
		return false
	}
}

type stream struct {
	io.Reader
	ctx context.Context
}

func (s stream) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.Reader.Read(p)
}

func (stream) Close() error { return nil }

func (w *world) Stream(ctx context.Context, host string, asked job.ID, attempt int) io.ReadCloser {
	if host != "web1" || asked != id || attempt != 1 {
		return stream{errorReader{errors.New("the wrong stream was asked for")}, ctx}
	}
	return stream{w.print(ctx), ctx}
}

func (w *world) Archive(_ context.Context, repository, name string) (fleet.Archive, error) {
	if repository != "main" {
		return fleet.Archive{}, job.Fail(job.UnknownRepository, "no repository %s", repository)
	}
	if a, ok := w.archives[name]; ok {
		return a, nil
	}
	return fleet.Archive{}, fleet.UnknownArchive(repository, name)
}

func (w *world) Entry(_ context.Context, repository, archive, path string) (fleet.File, error) {
	if w.files == nil {
		return fleet.File{}, fleet.NotListed(repository, archive)
	}
	if f, ok := w.files[path]; ok {
		return f, nil
	}
	return fleet.File{}, job.Fail(job.PathMissing, "no %s", path)
}

func (w *world) Hosts(context.Context) ([]fleet.HostView, error) { return w.hosts, nil }

// errorReader fails.
type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// ctxReader gives nothing until its context ends.
type ctxReader struct{ ctx context.Context }

func (r ctxReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, context.Cause(r.ctx)
}

package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	causePatience  = 5 * time.Second  // when the output breaks off, for the job's own word of why
	cancelPatience = 10 * time.Second // for asking to end a job
)

// errClosed ends what a download that was closed still waits for.
var errClosed = errors.New("the download was closed")

// transfer is one download on its way.
type transfer struct {
	service *Service
	by      fleet.Actor
	job     job.Job         // as it was submitted
	ctx     context.Context // ends with the caller's, with the job if that fails, and when the download is closed
	stop    context.CancelCauseFunc

	started chan int      // gets the number of the attempt that borg runs in
	over    chan struct{} // closed when the job is over, or not followed any more
	ended   bool          // which of these; set when over is closed, as is the next
	failure error         // why the job failed, or is not followed any more

	stream io.Closer // nil before borg runs
}

// follow watches a job until it is over.
func (s *Service) follow(ctx context.Context, by fleet.Actor, submitted job.Job) *transfer {
	t := &transfer{service: s, by: by, job: submitted, started: make(chan int, 1), over: make(chan struct{})}
	t.ctx, t.stop = context.WithCancelCause(ctx)
	watcher := s.Feed.Watch() // before the job is read, so that no change falls in between
	go func() {
		defer close(t.over)
		defer watcher.Close()
		if t.ended, t.failure = t.watch(watcher); t.failure != nil {
			t.stop(t.failure)
		}
	}()
	return t
}

// watch returns when the job is over, with why it failed; or when it cannot be
// watched any more.
func (t *transfer) watch(watcher *feed.Watcher) (ended bool, err error) {
	current, err := t.service.Jobs.Job(t.ctx, t.job.ID)
	told := false
	for err == nil {
		if !told && (current.StartedAt != nil || current.State.Terminal()) {
			told = true
			t.started <- current.Attempt
		}
		if current.State.Terminal() {
			return true, outcome(current)
		}
		current, err = t.next(watcher, current)
	}
	return false, err
}

// next waits for a change of the job.
func (t *transfer) next(watcher *feed.Watcher, current job.Job) (job.Job, error) {
	for {
		batch, err := watcher.Next(t.ctx)
		if err != nil {
			return job.Job{}, context.Cause(t.ctx)
		}
		changed := false
		for _, update := range batch {
			switch {
			case update.Type == feed.Missed:
				return t.service.Jobs.Job(t.ctx, t.job.ID)
			case update.Type == feed.JobChanged && update.Job.ID == t.job.ID:
				current, changed = *update.Job, true
			}
		}
		if changed {
			return current, nil
		}
	}
}

// outcome returns why a job that is over failed, or nil.
func outcome(j job.Job) error {
	switch {
	case j.State == job.Succeeded || j.State == job.Warning:
		return nil
	case j.Failure != nil:
		return j.Failure
	case j.State == job.Cancelled:
		return job.Fail(job.CodeCancelled, "the download was cancelled")
	default:
		return job.Fail(job.Timeout, "the download ended as %s", j.State).WithHint("borgfleet job show %s", j.ID)
	}
}

// begin waits until borg prints, leaves out what is not wanted, and returns the
// rest.
func (t *transfer) begin(offset int64) (*content, error) {
	attempt, err := t.start()
	if err != nil {
		return nil, err
	}
	stream := t.service.Source.Stream(t.ctx, t.job.Host, t.job.ID, attempt)
	t.stream = stream
	skipped, err := io.CopyN(io.Discard, stream, offset)
	switch {
	case err == io.EOF:
		if err = t.end(); err == nil {
			err = fleet.NewBeyondEnd(skipped)
		}
		return nil, err
	case err != nil:
		return nil, t.why(err)
	}
	held := &held{source: stream, end: t.end, why: t.why}
	if err := held.begin(); err != nil {
		return nil, err
	}
	return &content{held: held, transfer: t}, nil
}

// start waits until borg runs, and returns the attempt that it does so in.
func (t *transfer) start() (attempt int, err error) {
	select {
	case attempt = <-t.started:
		return attempt, nil
	case <-t.over:
	}
	if t.failure != nil {
		return 0, t.failure
	}
	return <-t.started, nil
}

// end waits for the end of the job, after the last byte, and returns why it
// failed.
func (t *transfer) end() error {
	<-t.over // ends with ctx, too
	return t.failure
}

// why returns the cause of an error of the stream: the job's own word, if that
// comes soon.
func (t *transfer) why(err error) error {
	timer := time.NewTimer(causePatience)
	defer timer.Stop()
	select {
	case <-t.over:
		if t.failure != nil {
			return t.failure
		}
	case <-timer.C:
	}
	return err
}

// close ends everything. A job that is not over is cancelled.
func (t *transfer) close() {
	t.stop(errClosed)
	<-t.over
	if t.stream != nil {
		_ = t.stream.Close() // it is only read
	}
	if t.ended {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), cancelPatience)
	defer cancel()
	if _, err := t.service.Jobs.Cancel(ctx, t.by, t.job.ID); err != nil && job.AsFailure(err).Code != job.Conflict { // it is over
		t.service.logger.Warn("a download that nobody reads could not be cancelled", "job", t.job.ID, "err", err)
	}
}

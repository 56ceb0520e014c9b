package catalog

import (
	"context"
	"sync"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Run makes listings of what jobs stream, and removes those of archives that are
// gone, until ctx ends. It returns when all streams are closed. Call it once.
func (c *Catalog) Run(ctx context.Context) error {
	defer c.watcher.Close()
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	c.catchUp(ctx, &streams)
	for {
		updates, err := c.watcher.Next(ctx)
		if err != nil {
			return nil // ctx is over
		}
		for _, update := range updates {
			switch update.Type {
			case feed.JobChanged:
				c.jobChanged(ctx, *update.Job, &streams)
			case feed.RepositoryChanged:
				c.reconcile(ctx, update.Repository)
			case feed.Missed:
				c.catchUp(ctx, &streams)
			}
		}
	}
}

// catchUp looks at all that may have changed unseen: at the start, and when the
// feed was too quick. A job that streams since before our start is read from its
// first byte: its host has it still, or ends the attempt, which is then tried
// again.
func (c *Catalog) catchUp(ctx context.Context, streams *sync.WaitGroup) {
	filter := job.Filter{Kind: job.List, State: job.Running, Limit: job.MaxPage}
	for {
		page, err := c.options.Jobs.Jobs(ctx, filter)
		if err != nil {
			c.complain(ctx, "look for jobs that list archives", err)
			break
		}
		for _, j := range page.Jobs {
			c.jobChanged(ctx, j, streams)
		}
		if filter.Cursor = page.Cursor; page.Cursor == "" {
			break
		}
	}
	for _, s := range c.underWay() {
		if j, err := c.options.Jobs.Job(ctx, s.attempt.job); err != nil {
			s.cancel(err)
		} else {
			c.jobChanged(ctx, j, streams)
		}
	}
	for _, name := range c.repositories() {
		c.reconcile(ctx, name)
	}
}

func (c *Catalog) complain(ctx context.Context, doing string, err error) {
	if ctx.Err() == nil {
		c.logger.Error(doing, "err", err)
	}
}

// underWay returns the streams that are not over.
func (c *Catalog) underWay() []*stream {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []*stream
	for _, s := range c.streams {
		all = append(all, s)
	}
	return all
}

// repositories returns the names of those that have listings.
func (c *Catalog) repositories() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var names []string
	for name := range c.listings {
		names = append(names, name)
	}
	return names
}

// jobChanged follows a job that lists an archive, and removes what a job that
// has ended has deleted.
func (c *Catalog) jobChanged(ctx context.Context, j job.Job, streams *sync.WaitGroup) {
	if spec, ok := j.Spec.(job.ListSpec); ok && spec.Archive != "" {
		c.listChanged(ctx, j, spec, streams)
		return
	}
	if j.State.Terminal() {
		c.removeGone(ctx, j)
	}
}

func (c *Catalog) listChanged(ctx context.Context, j job.Job, spec job.ListSpec, streams *sync.WaitGroup) {
	now := attempt{j.ID, j.Attempt}
	for _, s := range c.underWay() {
		if s.attempt.job == j.ID && s.attempt != now {
			s.cancel(errNotKept)
		}
	}
	s := c.begin(ctx, j, spec, streams)
	switch {
	case s == nil:
	case j.State == job.Succeeded || j.State == job.Warning:
		s.end()
	case j.State != job.Running:
		s.cancel(errNotKept)
	}
}

// end lets the stream know that the job has ended well. It is called by Run's
// goroutine only.
func (s *stream) end() {
	if !s.ended {
		s.ended = true
		close(s.over)
	}
}

// begin returns the stream of a job's present attempt, and starts it if borg has
// begun; nil when there is none. Of a quick job the feed may tell only that it is
// over; its host keeps what it has printed for a minute.
func (c *Catalog) begin(ctx context.Context, j job.Job, spec job.ListSpec, streams *sync.WaitGroup) *stream {
	of := attempt{j.ID, j.Attempt}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[of]; s != nil {
		return s
	}
	if c.ended[j.ID] >= j.Attempt || !c.streaming(j) {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{
		attempt: of, host: j.Host, of: archive{j.Repository, spec.Archive}, since: c.options.Now().UTC(), cancel: cancel, over: make(chan struct{}),
	}
	c.streams[of] = s
	streams.Go(func() {
		defer cancel(nil)
		c.finish(ctx, s, c.follow(ctx, s))
	})
	return s
}

// streaming reports whether the host has something to read for a job.
func (c *Catalog) streaming(j job.Job) bool {
	switch j.State {
	case job.Running:
		n := len(j.Attempts)
		return n > 0 && j.Attempts[n-1].Number == j.Attempt && j.Attempts[n-1].StartedAt != nil
	case job.Succeeded, job.Warning:
		return j.FinishedAt != nil && c.options.Now().Sub(*j.FinishedAt) < watchPatience
	default:
		return false
	}
}

// finish notes how a stream has ended.
func (c *Catalog) finish(ctx context.Context, s *stream, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.attempt)
	if len(c.ended) >= maxFaults {
		clear(c.ended) // only what the feed tells of the last minute counts
	}
	c.ended[s.attempt.job] = max(c.ended[s.attempt.job], s.attempt.number)
	if err == nil || ctx.Err() != nil { // the job says why it did not end well, or we stop
		return
	}
	c.logger.Warn("listing is not kept", "job", s.attempt.job, "host", s.host, "repo", s.of.repository, "archive", s.of.name, "err", err)
	if len(c.faults) >= maxFaults {
		clear(c.faults)
	}
	c.faults[s.of] = err.Error()
}

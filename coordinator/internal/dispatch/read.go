package dispatch

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Job returns a job with its live progress. The error is a *job.Failure.
func (s *Service) Job(_ context.Context, id job.ID) (job.Job, error) {
	j, err := s.stored(id)
	if err != nil {
		return job.Job{}, err
	}
	return s.withProgress(j), nil
}

// stored returns a job as the store has it.
func (s *Service) stored(id job.ID) (job.Job, error) {
	if _, err := job.ParseID(string(id)); err != nil {
		return job.Job{}, err
	}
	j, found, err := s.options.Store.Job(id)
	if err != nil {
		return job.Job{}, s.failure("read job", err)
	}
	if !found {
		return job.Job{}, job.Fail(job.UnknownJob, "there is no job %s", id).WithHint("borgfleet job list shows the newest")
	}
	return j, nil
}

// Jobs returns a page of jobs with their live progress, newest first. The
// error is a *job.Failure.
func (s *Service) Jobs(_ context.Context, f job.Filter) (job.Page, error) {
	page, err := s.options.Store.Jobs(f)
	if err != nil {
		return job.Page{}, s.failure("list jobs", err)
	}
	for i := range page.Jobs {
		page.Jobs[i] = s.withProgress(page.Jobs[i])
	}
	return page, nil
}

// Log returns lines of a job's log from a place on: 0, or the Next of the
// answer before. A long log takes several answers. The error is a *job.Failure.
func (s *Service) Log(_ context.Context, id job.ID, after int) (fleet.JobLog, error) {
	if after < 0 {
		return fleet.JobLog{}, job.Invalid("after", "%d is negative", after)
	}
	j, err := s.stored(id) // before the lines, so that a job that is over has all of them
	if err != nil {
		return fleet.JobLog{}, err
	}
	log, err := s.logs.read(id, after)
	if err != nil {
		return fleet.JobLog{}, s.failure("read log", err)
	}
	log.Complete = log.Complete && j.State.Terminal()
	return log, nil
}

// Counts is what metrics want to know of the service.
type Counts struct {
	Jobs          []store.JobCount // stored jobs by state and kind
	Queued        int              // open jobs that wait
	Active        int              // sent and running
	EventsApplied uint64           // since the start
	EventsDropped uint64           // since the start; repeats included
	LogFaults     uint64           // job logs that could not be written
	Position      uint64           // in the events stream
	IngestLag     time.Duration    // from the making of the newest stored event to its storing, by two clocks
}

// Counts returns the service's numbers.
func (s *Service) Counts() (Counts, error) {
	jobs, err := s.options.Store.Counts()
	if err != nil {
		return Counts{}, err
	}
	queued, held := s.index.sizes()
	return Counts{
		Jobs: jobs, Queued: queued, Active: held,
		EventsApplied: s.counters.applied.Load(), EventsDropped: s.counters.dropped.Load(),
		LogFaults: s.counters.logFaults.Load(), Position: s.counters.position.Load(),
		IngestLag: time.Duration(s.counters.lag.Load()),
	}, nil
}

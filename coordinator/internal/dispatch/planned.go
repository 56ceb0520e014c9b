package dispatch

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file takes the jobs of plans.

// Planned asks for a job that belongs to a run of a plan.
type Planned = fleet.Planned

// Submitted is what became of one of several that were planned.
type Submitted = fleet.Submitted

// SubmitPlanned stores the jobs of runs, up to a thousand in one transaction, and
// says in the same order what became of each. What an idempotency key stands for
// already is returned as it is, whatever is asked for now. After an error some may
// be stored: the same, asked again, is safe, and makes none twice.
func (s *Service) SubmitPlanned(_ context.Context, by fleet.Actor, planned []Planned) ([]Submitted, error) {
	s.write.Lock()
	defer s.write.Unlock()
	answer := make([]Submitted, len(planned))
	first := map[string]int{} // by key, where it was asked for
	added := map[int]*entry{} // by place
	for i, p := range planned {
		if _, again := first[p.IdempotencyKey]; again {
			continue
		}
		e, err := s.plannedOne(by, p, &answer[i])
		if err != nil {
			return nil, s.failure("submit the jobs of a plan", err)
		}
		if e != nil {
			answer[i].Job, added[i] = e.job, e
		}
		first[p.IdempotencyKey] = i
	}
	if err := s.enqueueAll(by, planned, added); err != nil {
		return nil, s.failure("submit the jobs of a plan", err)
	}
	for i, p := range planned {
		answer[i] = answer[first[p.IdempotencyKey]]
	}
	return answer, nil
}

// plannedOne makes the job that is asked for, unless it is there already, or
// cannot be: then the answer has it. An error is not this job's own.
func (s *Service) plannedOne(by fleet.Actor, p Planned, answer *Submitted) (*entry, error) {
	if p.Plan == "" || p.IdempotencyKey == "" {
		answer.Err = job.Invalid("plan", "a planned job needs its plan and its idempotency key")
		return nil, nil
	}
	old, found, err := s.plannedBefore(p)
	if err == nil && found {
		answer.Job = s.withProgress(old)
		return nil, nil
	}
	var e *entry
	if err == nil {
		e, err = s.makePlanned(by, p)
	}
	if err == nil {
		err = s.guardHost(e)
	}
	if err == nil {
		err = s.guard(e.job)
	}
	if err == nil {
		return e, nil
	}
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Code != job.Internal {
		answer.Err = f
		return nil, nil
	}
	return nil, err
}

// plannedBefore returns the job that a key stands for.
func (s *Service) plannedBefore(p Planned) (job.Job, bool, error) {
	id, found, err := s.options.Store.JobByIdempotency(p.IdempotencyKey)
	if err != nil || !found {
		return job.Job{}, false, err
	}
	old, found, err := s.options.Store.Job(id)
	if err == nil && found && old.Run != p.Run {
		err = job.Fail(job.Conflict, "idempotency_key: %q stands for job %s, which is none of this run", p.IdempotencyKey, id).
			WithHint("run the plan again")
	}
	return old, found, err
}

func (s *Service) makePlanned(by fleet.Actor, p Planned) (*entry, error) {
	if err := checkSeries(p); err != nil {
		return nil, err
	}
	e, err := s.make(by, p.Request)
	if err != nil {
		return nil, err
	}
	if p.Window != nil {
		if e.window, err = schedule.ParseWindow(p.Window.Hours, p.Window.Timezone); err != nil {
			return nil, joined(err)
		}
	}
	e.job.Run, e.job.Series, e.job.Window = p.Run, p.Series, p.Window
	e.job.RetryWait = int((p.RetryWait + time.Second - 1) / time.Second)
	return e, nil
}

// checkSeries returns nil, or why no archive can have a name that begins so.
func checkSeries(p Planned) error {
	if p.Series == "" {
		return nil
	}
	if strings.ContainsAny(p.Series, "{}") {
		return job.Invalid("series", "%q has braces, which borg would fill in", p.Series).WithHint("give a beginning without them")
	}
	name := job.InfoSpec{Archive: p.Series + archiveTime}
	return name.Validate()
}

// maxAtOnce bounds the jobs of one transaction: the pages of the database's indexes
// are split when it ends, and the more one of them has taken in by then, the longer
// each more takes.
const maxAtOnce = 1000

// enqueueAll stores new jobs, by their places among those planned.
func (s *Service) enqueueAll(by fleet.Actor, planned []Planned, added map[int]*entry) error {
	if len(added) == 0 {
		return nil
	}
	if err := cmp.Or(s.space(job.Backup), s.room(len(added))); err != nil {
		return err
	}
	defer s.stir() // also after an error: the jobs may have been stored
	for places := range slices.Chunk(slices.Sorted(maps.Keys(added)), maxAtOnce) {
		b, err := s.begin()
		if err != nil {
			return err
		}
		for _, i := range places {
			j := added[i].job
			b.enqueue(by, added[i])
			b.also(store.RequireHost(j.Host), store.PutIdempotency(planned[i].IdempotencyKey, j.ID, j.SubmittedAt))
			if j.Repository != "" {
				b.also(store.RequireRepository(j.Repository))
			}
		}
		if err := b.commit(); err != nil {
			return removedMeanwhile(err)
		}
	}
	s.logger.Info("jobs of plans submitted", "jobs", len(added), "by", by.Name)
	return nil
}

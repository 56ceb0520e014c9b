package plan_test

import (
	"context"
	"errors"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// blow is what goes wrong where plans store something.
type blow struct {
	jobs  bool // when jobs are asked for; else when plans, runs or their steps are stored
	after bool // it was stored, and nobody is told
	kills bool // the coordinator dies of it; else it is told of an error
	spare int  // so many are spared before
}

var errBlow = errors.New("something went wrong")

// hit does what stores something, if that is not to go wrong.
func (s *simulation) hit(jobs bool, do func() error) error {
	s.mu.Lock()
	b := s.blow
	switch {
	case s.dead:
		s.mu.Unlock()
		return errBlow
	case b == nil || b.jobs != jobs:
		s.mu.Unlock()
		return do()
	case b.spare > 0:
		b.spare--
		s.mu.Unlock()
		return do()
	}
	s.blow, s.dead = nil, b.kills
	s.mu.Unlock()
	if b.after {
		if err := do(); err != nil {
			s.t.Error(err)
		}
	}
	if b.kills {
		s.died <- struct{}{}
	}
	return errBlow
}

// storing wraps how plans store what they do.
func (s *simulation) storing(apply func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
	return func(changes ...store.Change) (sequence uint64, err error) {
		err = s.hit(false, func() error {
			sequence, err = apply(changes...)
			return err
		})
		return sequence, err
	}
}

// crashing is dispatch, at whose door the coordinator can be killed.
type crashing struct {
	plan.Jobs
	s *simulation
}

// SubmitPlanned implements plan.Jobs.
func (c crashing) SubmitPlanned(ctx context.Context, by fleet.Actor, planned []fleet.Planned) (answers []fleet.Submitted, err error) {
	err = c.s.hit(true, func() error {
		answers, err = c.Jobs.SubmitPlanned(ctx, by, planned)
		return err
	})
	return answers, err
}

// Cancel implements plan.Jobs.
func (c crashing) Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	c.s.mu.Lock()
	dead := c.s.dead
	c.s.mu.Unlock()
	if dead {
		return job.Job{}, errBlow
	}
	return c.Jobs.Cancel(ctx, by, id)
}

// crash kills and restarts the coordinator when it asks for jobs the next time.
func (s *simulation) crash(after bool) {
	s.t.Helper()
	s.mu.Lock()
	s.blow = &blow{jobs: true, after: after, kills: true}
	s.mu.Unlock()
	<-s.died
	s.restart()
}

package dispatch

import (
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// WrapApply puts a layer between the service and its store, for faults.
func (s *Service) WrapApply(wrap func(inner func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error)) {
	s.apply = wrap(s.apply)
}

// SetFull sets what says that the disk is full.
func (s *Service) SetFull(full func() error) { s.options.Full = full }

// Summary is the sentence over everything.
var Summary = summary

// LiveProgress is the number of jobs whose progress is remembered.
func (s *Service) LiveProgress() int {
	s.live.Lock()
	defer s.live.Unlock()
	return len(s.live.progress)
}

// Action is what the audit calls a kind of job.
func Action(kind job.Kind) string { return actions[kind] }

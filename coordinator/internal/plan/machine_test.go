package plan_test

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// machine is a host with an agent.
type machine struct {
	name     string
	on       bool
	revision uint64
	attempts map[string]*attempt
	files    int64 // what its backups have
	ran      []ranJob
}

type attempt struct {
	order bus.Order
	last  int
	over  bool
}

// ranJob is a job that a machine has run.
type ranJob struct {
	bus.Order
	at time.Time
}

// Order implements dispatch.Link.
func (s *simulation) Order(_ context.Context, host string, order bus.Order) (bus.OrderReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, key := s.hosts[host], order.Job.AttemptID(order.Attempt)
	if !m.on {
		return bus.OrderReply{}, fleet.ErrHostAway
	}
	if m.attempts[key] == nil {
		a := &attempt{order: order}
		m.attempts[key] = a
		m.ran = append(m.ran, ranJob{order, s.now()})
		s.tell(m, a, job.Event{Type: job.EventAccepted})
		go s.work(m, a)
	}
	return bus.OrderReply{Accepted: true, Stamp: bus.Stamp{Journal: "journal", Revision: m.revision}}, nil
}

// lengths is how long jobs take.
var lengths = map[job.Kind]time.Duration{
	job.Backup: 20 * time.Minute, job.Prune: time.Minute, job.Compact: 3 * time.Minute, job.Check: 15 * time.Minute, job.TestRestore: 5 * time.Minute,
}

func (s *simulation) work(m *machine, a *attempt) {
	timer := time.NewTimer(lengths[a.order.Kind])
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.over:
		return
	}
	s.mu.Lock()
	s.tell(m, a, job.Event{Type: job.EventFinished, State: job.Succeeded, Result: &job.Result{
		Archive: a.order.Archive, NFiles: m.files, OriginalSize: m.files << 20, DeduplicatedSize: m.files << 10, Duration: lengths[a.order.Kind].Seconds(),
	}})
	jobs := s.jobs
	s.mu.Unlock()
	if jobs != nil {
		s.deliver(jobs)
	}
}

// tell journals an event. It is called with the lock held.
func (s *simulation) tell(m *machine, a *attempt, event job.Event) {
	if a.over {
		return
	}
	a.last++
	m.revision++
	a.over = event.Type == job.EventFinished
	event.Job, event.Attempt, event.Host, event.Seq, event.At = a.order.Job, a.order.Attempt, m.name, a.last, s.now()
	s.stream = append(s.stream, bus.Event{Event: event, Stamp: bus.Stamp{Journal: "journal", Revision: m.revision}})
}

// Cancel implements dispatch.Link.
func (s *simulation) Cancel(_ context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.hosts[host]
	key := cancel.Job.AttemptID(cancel.Attempt)
	if m.attempts[key] == nil { // its order never came, and may not come any more
		m.attempts[key] = &attempt{order: bus.Order{Job: cancel.Job, Attempt: cancel.Attempt}}
	}
	s.tell(m, m.attempts[key], job.Event{Type: job.EventFinished, State: job.Cancelled})
	return bus.CancelReply{Stamp: bus.Stamp{Journal: "journal", Revision: m.revision}}, nil
}

// Present implements dispatch.Link.
func (s *simulation) Present(_ context.Context, host, _ string) bool { return s.isOn(s.hosts[host]) }

// holds says how many files a host has from now on.
func (s *simulation) holds(host string, files int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host].files = files
}

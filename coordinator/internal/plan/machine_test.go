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
	untold   []bus.Event
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
		go s.work(m, a, s.fateOf(m, order))
	}
	return bus.OrderReply{Accepted: true, Stamp: bus.Stamp{Journal: "journal", Revision: m.revision}}, nil
}

// lengths is how long jobs take.
var lengths = map[job.Kind]time.Duration{
	job.Backup: 20 * time.Minute, job.Prune: time.Minute, job.Compact: 3 * time.Minute, job.Check: 15 * time.Minute, job.TestRestore: 5 * time.Minute,
}

// fate is how an attempt goes.
type fate struct {
	length  time.Duration
	state   job.State
	failure *job.Failure
	files   int64
}

// fateOf says how an attempt goes that may not take longer than its order says. It
// is called with the lock held.
func (s *simulation) fateOf(m *machine, order bus.Order) fate {
	f := fate{length: lengths[order.Kind], state: job.Succeeded, files: m.files}
	if s.fate != nil {
		f = s.fate(m, order)
	}
	if limit := time.Duration(order.Timeout) * time.Second; limit > 0 && f.length > limit {
		f = fate{length: limit, state: job.Failed, failure: job.Fail(job.Timeout, "it took longer than %s", limit)}
	}
	return f
}

func (s *simulation) work(m *machine, a *attempt, f fate) {
	timer := time.NewTimer(f.length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.over:
		return
	}
	finished := job.Event{Type: job.EventFinished, State: f.state, Failure: f.failure}
	if f.state == job.Succeeded || f.state == job.Warning {
		finished.Result = &job.Result{
			Archive: a.order.Archive, NFiles: f.files, OriginalSize: f.files << 20, DeduplicatedSize: f.files << 10, Duration: f.length.Seconds(),
		}
	}
	s.mu.Lock()
	s.tell(m, a, finished)
	jobs := s.jobs
	s.mu.Unlock()
	if jobs != nil {
		s.deliver(jobs)
	}
}

// tell journals an event, and sends it if the host is there. It is called with the
// lock held.
func (s *simulation) tell(m *machine, a *attempt, event job.Event) {
	if a.over {
		return
	}
	a.last++
	m.revision++
	a.over = event.Type == job.EventFinished
	event.Job, event.Attempt, event.Host, event.Seq, event.At = a.order.Job, a.order.Attempt, m.name, a.last, s.now()
	m.untold = append(m.untold, bus.Event{Event: event, Stamp: bus.Stamp{Journal: "journal", Revision: m.revision}})
	if m.on {
		s.stream, m.untold = append(s.stream, m.untold...), nil
	}
}

// Cancel implements dispatch.Link.
func (s *simulation) Cancel(_ context.Context, host string, cancel bus.Cancel) (bus.CancelReply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.hosts[host]
	if !m.on {
		return bus.CancelReply{}, fleet.ErrHostAway
	}
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

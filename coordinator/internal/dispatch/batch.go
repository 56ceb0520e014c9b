package dispatch

import (
	"errors"
	"fmt"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// batch collects changes of jobs that become one transaction. It is used under
// the service's write lock, from begin to commit.
type batch struct {
	s       *Service
	entries map[job.ID]*entry // own copies
	order   []job.ID
	put     map[job.ID]bool // the job's record changes, not only its attempt's
	created map[job.ID]bool
	changes []store.Change
	records map[string]store.RepositoryRecord
	events  []job.Event
	hosts   map[string]bool // to be read again by watchers
	repos   map[string]bool
	done    []job.Job // jobs that became terminal
}

// begin starts a batch. It first reads again what an earlier write left
// uncertain, and fails if that cannot be done.
func (s *Service) begin() (*batch, error) {
	if err := s.resolve(); err != nil {
		return nil, err
	}
	return &batch{
		s: s, entries: map[job.ID]*entry{}, put: map[job.ID]bool{}, created: map[job.ID]bool{},
		records: map[string]store.RepositoryRecord{}, hosts: map[string]bool{}, repos: map[string]bool{},
	}, nil
}

// get returns a copy of an open job's entry that the batch may change, nil if
// the job is not open.
func (b *batch) get(id job.ID) *entry {
	if e := b.entries[id]; e != nil {
		return e
	}
	known := b.s.index.get(id)
	if known == nil {
		return nil
	}
	e := *known
	return &e
}

// set puts a changed entry into the batch. With whole, the job's own record is
// written, not only its attempt's.
func (b *batch) set(e *entry, whole bool) {
	id := e.job.ID
	if b.entries[id] == nil {
		b.order = append(b.order, id)
	}
	b.entries[id] = e
	b.put[id] = b.put[id] || whole
}

// create puts a new job into the batch.
func (b *batch) create(e *entry) {
	b.set(e, true)
	b.created[e.job.ID] = true
}

// tell adds an event for watchers.
func (b *batch) tell(e job.Event) { b.events = append(b.events, e) }

// also adds changes that belong to no job.
func (b *batch) also(changes ...store.Change) { b.changes = append(b.changes, changes...) }

func (b *batch) empty() bool { return len(b.order) == 0 && len(b.changes) == 0 && len(b.records) == 0 }

// list turns the batch into changes of the store.
func (b *batch) list() []store.Change {
	var changes []store.Change
	for _, id := range b.order {
		e := b.entries[id]
		if b.created[id] {
			changes = append(changes, store.CreateJob(e.job))
		} else if b.put[id] {
			changes = append(changes, b.steps(e)...)
		}
		if known := b.s.index.get(id); known != nil && known.attempt.Attempt != 0 &&
			(known.attempt.Attempt != e.attempt.Attempt || e.attempt.Finished) {
			changes = append(changes, store.DeleteAttemptState(id, known.attempt.Attempt))
		}
		if e.attempt.Attempt != 0 && !e.attempt.Finished {
			changes = append(changes, store.PutAttemptState(e.attempt))
		}
	}
	for name, record := range b.records {
		changes = append(changes, store.PutRepositoryRecord(name, record))
	}
	return append(changes, b.changes...)
}

// steps puts a job by way of what the state table wants to see in between: an
// attempt that another life of this store ordered was sent.
func (b *batch) steps(e *entry) []store.Change {
	known := b.s.index.get(e.job.ID)
	if known == nil || e.job.Attempt <= known.job.Attempt || known.job.State != job.Queued || known.job.State.CanBecome(e.job.State) {
		return []store.Change{store.PutJob(e.job)}
	}
	between := e.job
	between.State, between.FinishedAt = job.Sent, nil
	return []store.Change{store.PutJob(between), store.PutJob(e.job)}
}

// commit stores the batch, then changes memory, then tells watchers. After an
// error the jobs are read again before anything else happens: the write may
// have been stored all the same, or may have been refused because memory was
// wrong.
func (b *batch) commit() error {
	b.previewed()
	if err := b.vetted(); err != nil {
		return err
	}
	for _, id := range b.order {
		e := b.entries[id]
		if err := b.unsettle(e); err != nil {
			return err
		}
		if e.job.State.Terminal() {
			if err := errors.Join(b.consequences(e.job), b.takeStock(e)); err != nil {
				return err
			}
		}
	}
	if err := b.breakLocks(); err != nil {
		return err
	}
	if b.empty() {
		return nil
	}
	if _, err := b.s.apply(b.list()...); err != nil {
		for _, id := range b.order {
			b.s.uncertain[id] = true
		}
		return errors.Join(err, b.s.resolve())
	}
	for _, id := range b.order {
		b.install(id)
	}
	b.s.jobsOver(b.done)
	b.publish()
	return nil
}

func (b *batch) install(id job.ID) {
	e := b.entries[id]
	if e.attempt.Finished {
		e.attempt = store.AttemptState{}
	}
	if e.job.State.Terminal() {
		b.done = append(b.done, e.job)
	}
	b.s.index.set(e)
	if !e.held() { // only now, as progress looks into the index
		b.s.forgetProgress(id)
	}
}

func (b *batch) publish() {
	f := b.s.options.Feed
	for i := range b.events {
		event := b.events[i]
		f.Publish(feed.Update{Type: feed.JobEvent, Event: &event, Host: event.Host, Repository: b.repository(event.Job), Plan: b.plan(event.Job)})
	}
	for _, id := range b.order {
		if e := b.entries[id]; b.put[id] {
			j := b.s.withProgress(e.job)
			f.Publish(feed.Update{Type: feed.JobChanged, Job: &j, Host: j.Host, Repository: j.Repository, Plan: j.Plan})
		}
	}
	for name := range b.hosts {
		f.Publish(feed.Update{Type: feed.HostChanged, Host: name})
	}
	for name := range b.repos {
		f.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: name})
	}
}

func (b *batch) repository(id job.ID) string {
	if e := b.entries[id]; e != nil {
		return e.job.Repository
	}
	return ""
}

func (b *batch) plan(id job.ID) string {
	if e := b.entries[id]; e != nil {
		return e.job.Plan
	}
	return ""
}

// resolve reads jobs again whose last write may or may not have been stored,
// and tells watchers, to whom nobody has told what that write changed.
func (s *Service) resolve() error {
	for id := range s.uncertain {
		j, found, err := s.options.Store.Job(id)
		if err != nil {
			return fmt.Errorf("read job %s again: %w", id, err)
		}
		if !found {
			s.index.drop(id)
			delete(s.uncertain, id)
			continue
		}
		if err := s.reload(j); err != nil {
			return err
		}
		delete(s.uncertain, id)
		s.reloaded(j)
	}
	return nil
}

// reloaded does for a job that was read again what a commit does besides.
func (s *Service) reloaded(j job.Job) {
	if j.State != job.Sent && j.State != job.Running {
		s.forgetProgress(j.ID)
	}
	if j.State.Terminal() {
		s.jobsOver([]job.Job{j})
	}
	j = s.withProgress(j)
	s.options.Feed.Publish(feed.Update{Type: feed.JobChanged, Job: &j, Host: j.Host, Repository: j.Repository, Plan: j.Plan})
}

// reload puts a job as it is stored into memory.
func (s *Service) reload(j job.Job) error {
	state, _, err := s.options.Store.AttemptState(j.ID, j.Attempt)
	if err != nil {
		return fmt.Errorf("read attempt of job %s: %w", j.ID, err)
	}
	repository, _, err := s.options.Store.Repository(j.Repository)
	if err != nil {
		return fmt.Errorf("read repository of job %s: %w", j.ID, err)
	}
	aside, err := s.options.Store.Aside(j.ID)
	if err != nil {
		return fmt.Errorf("read what is kept beside job %s: %w", j.ID, err)
	}
	j.Attempts = slices.Clip(j.Attempts)
	e := newEntry(repository, j)
	e.encrypted, e.given, e.maybe = repository.HasPassphrase && !aside.Given, aside.Given, j.State == job.Sent
	e.preview, e.vet, e.vetFor = aside.Preview, aside.Vet, aside.VetFor
	e.follows, e.adopt, e.settles = aside.Follows, aside.Adopt, aside.Settles
	if e.held() {
		e.attempt = state
		e.attempt.Job, e.attempt.Attempt, e.attempt.Host = j.ID, j.Attempt, j.Host
	}
	s.index.set(e)
	return nil
}

package dispatch

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Bounds of a request.
const (
	maxAttempts = 10
	maxPriority = 100
	maxKeyBytes = 200
)

// Submit stores a new job and returns it, or the job that the request's
// idempotency key stands for. by is who asks, for example "operator:alice".
// The error is a *job.Failure, and then nothing has changed, unless the
// database failed: then the same request with the same idempotency key is safe
// to repeat.
func (s *Service) Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error) {
	return s.SubmitWith(ctx, by, request, secret.Value{})
}

// submit stores a new job, and what changes with it, under the write lock.
func (s *Service) submit(by fleet.Actor, e *entry, key string, also ...store.Change) (job.Job, error) {
	if err := cmp.Or(s.space(e.job.Kind), s.room(1)); err != nil {
		return job.Job{}, s.failure("submit job", err)
	}
	if err := cmp.Or(s.guardHost(e), s.guard(e.job)); err != nil {
		return job.Job{}, s.failure("submit job", err)
	}
	b, err := s.begin()
	if err != nil {
		return job.Job{}, s.failure("submit job", err)
	}
	j := e.job
	b.also(also...)
	b.enqueue(by, e)
	b.also(store.RequireHost(j.Host))
	if j.Repository != "" {
		b.also(store.RequireRepository(j.Repository))
	}
	if key != "" {
		b.also(store.PutIdempotency(key, j.ID, j.SubmittedAt))
	}
	defer s.stir() // also after an error: the job may have been stored
	if err := b.commit(); err != nil {
		return job.Job{}, s.failure("submit job", removedMeanwhile(err))
	}
	fault.Point(fault.SubmitStored)
	s.logger.Info("job submitted", "job", j.ID, "host", j.Host, "repo", j.Repository, "kind", j.Kind, "by", by.Name)
	return j, nil
}

// removedMeanwhile says so of an error of storing jobs whose host or repository was
// there when they were checked.
func removedMeanwhile(err error) error {
	if errors.Is(err, store.ErrMissing) {
		return job.Fail(job.Conflict, "what the job is for was just removed: %s", err)
	}
	return err
}

// space returns nil, or that the disk is too full for a job. What frees space is
// taken as long as the database has room in itself: the repositories in the depot
// may lie on that disk.
func (s *Service) space(kind job.Kind) error {
	if s.options.Full == nil || kind.FreesSpace() {
		return nil
	}
	return s.options.Full()
}

// room returns nil, or why so many more jobs cannot be taken.
func (s *Service) room(jobs int) error {
	if queued, held := s.index.sizes(); queued+held+jobs > s.options.Limits.Open {
		return job.Fail(job.Unavailable, "there are %d jobs already that are not over", queued+held).
			WithHint("wait, or cancel some of them; borgfleet status shows what they wait for")
	}
	return nil
}

// enqueue puts a new job into the batch, with its entry in the audit.
func (b *batch) enqueue(by fleet.Actor, e *entry) {
	j := e.job
	b.create(e)
	b.also(auditRequest(by, j))
	b.tell(job.Event{Job: j.ID, Host: j.Host, Type: job.EventQueued, At: j.SubmittedAt, State: job.Queued})
}

// check makes a job of a person's request, or says what is wrong with it.
func (s *Service) check(by fleet.Actor, r job.Request) (*entry, error) {
	if r.Plan != "" {
		return nil, job.Invalid("plan", "plan excludes all other fields").WithHint("borgfleet plan run %s runs what the plan says", r.Plan)
	}
	return s.make(by, r)
}

// make makes a job of a request, or says what is wrong with it.
func (s *Service) make(by fleet.Actor, r job.Request) (*entry, error) {
	if err := checkKind(r.Kind); err != nil {
		return nil, err
	}
	host, about, err := s.place(r)
	if err != nil {
		return nil, err
	}
	repository, err := s.checkRepository(r.Repository, r.Kind)
	if err != nil {
		return nil, err
	}
	spec, err := job.ParseSpec(r.Kind, r.Spec)
	if err != nil {
		return nil, joined(err)
	}
	switch {
	case r.MaxAttempts < 0 || r.MaxAttempts > maxAttempts:
		return nil, job.Invalid("max_attempts", "%d is not between 0 and %d", r.MaxAttempts, maxAttempts).WithHint("0 means the kind's default")
	case r.Priority < -maxPriority || r.Priority > maxPriority:
		return nil, job.Invalid("priority", "%d is not between -%d and %d", r.Priority, maxPriority, maxPriority)
	case r.Kind == job.Download && r.MaxAttempts > 1:
		return nil, job.Invalid("max_attempts", "a download is tried once").WithHint("whoever reads it has to begin again")
	case len(r.IdempotencyKey) > maxKeyBytes:
		return nil, job.Invalid("idempotency_key", "%d bytes, more than the %d that are allowed", len(r.IdempotencyKey), maxKeyBytes)
	}
	if err := checkTimes(r); err != nil {
		return nil, err
	}
	now := s.now()
	return newEntry(repository, job.Job{
		ID: job.NewID(now), Kind: r.Kind, Host: host, For: about, Repository: r.Repository, Plan: r.Plan, State: job.Queued,
		MaxAttempts: cmp.Or(r.MaxAttempts, r.Kind.DefaultAttempts()), Priority: r.Priority,
		ExpiresAt: s.expiry(now, time.Duration(r.ExpiresIn)*time.Second), Timeout: cmp.Or(r.Timeout, s.timeout(r.Kind)),
		SubmittedBy: by.Name, SubmittedAt: now, Spec: spec, Attempts: []job.Attempt{},
	}), nil
}

// onBehalf returns a job of the coordinator's own, for the host and the repository
// of another one. It goes before all that people asked for.
func (s *Service) onBehalf(e *entry, spec job.Spec) (*entry, error) {
	now, kind := s.now(), spec.Kind()
	repository, _, err := s.options.Store.Repository(e.job.Repository)
	if err != nil {
		return nil, fmt.Errorf("read repository %s: %w", e.job.Repository, err)
	}
	host, about := e.job.Host, e.job.For
	if repository.InDepot() && fleet.OnDepot(kind) && host != fleet.LocalHost {
		host, about = fleet.LocalHost, host
	}
	look := newEntry(repository, job.Job{
		ID: job.NewID(now), Kind: kind, Host: host, For: about, Repository: e.job.Repository, State: job.Queued,
		MaxAttempts: kind.DefaultAttempts(), Priority: maxPriority, ExpiresAt: s.expiry(now, 0), Timeout: s.timeout(kind),
		SubmittedBy: coordinator.Name, SubmittedAt: now, Spec: spec, Attempts: []job.Attempt{},
	})
	look.encrypted = e.encrypted
	return look, nil
}

func checkKind(kind job.Kind) error {
	if kind == "" {
		return job.Invalid("kind", "is missing").WithHint("for example backup")
	}
	_, err := job.ParseSpec(kind, nil)
	if f := job.AsFailure(err); f != nil && f.Code == job.UnknownKind {
		return f
	}
	return nil
}

func (s *Service) checkHost(name string) error {
	if name == "" {
		return job.Invalid("host", "is missing").WithHint("borgfleet host list shows all")
	}
	_, found, err := s.options.Store.Host(name)
	if err != nil {
		return err
	}
	if !found {
		return fleet.UnknownHost(name)
	}
	return nil
}

// checkRepository returns a repository that a job of a kind may have, zero if it
// needs none.
func (s *Service) checkRepository(name string, kind job.Kind) (repository fleet.Repository, err error) {
	if name == "" && !kind.NeedsRepository() {
		return repository, nil
	}
	if name == "" {
		return repository, job.Invalid("repository", "is missing").WithHint("borgfleet repo list shows all")
	}
	repository, found, err := s.options.Store.Repository(name)
	if err != nil {
		return repository, err
	}
	if !found {
		return repository, fleet.UnknownRepository(name)
	}
	return repository, repository.CheckKind(kind)
}

// joined makes one failure of several: the first one's code, everybody's words.
func joined(err error) error {
	faults := flatten(err)
	if len(faults) < 2 {
		return err
	}
	all := *faults[0]
	messages, hints := []string{}, []string{}
	for i, f := range faults {
		if i == 10 {
			messages = append(messages, "and more")
			break
		}
		messages = append(messages, f.Message)
		if f.Hint != "" {
			hints = append(hints, f.Hint)
		}
	}
	all.Message, all.Hint = strings.Join(messages, "; "), strings.Join(hints, "; ")
	return &all
}

func flatten(err error) []*job.Failure {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var faults []*job.Failure
		for _, one := range many.Unwrap() {
			faults = append(faults, flatten(one)...)
		}
		return faults
	}
	return []*job.Failure{job.AsFailure(err)}
}

// earlier returns the job that a request's key stands for. The same key with
// another request is a conflict.
func (s *Service) earlier(request job.Request, asked *entry) (job.Job, bool, error) {
	key := request.IdempotencyKey
	id, found, err := s.options.Store.JobByIdempotency(key)
	if err != nil || !found {
		return job.Job{}, false, err
	}
	old, found, err := s.options.Store.Job(id)
	if err != nil || !found {
		return job.Job{}, false, err
	}
	same, err := sameRequest(old, asked.job)
	if err != nil {
		return job.Job{}, false, err
	}
	aside, err := s.options.Store.Aside(id)
	if err != nil {
		return job.Job{}, false, err
	}
	if !same || !sameTimes(old, request) || aside.Given != asked.given {
		return job.Job{}, false, job.Fail(job.Conflict, "idempotency_key: %q stands for job %s, which was another request", key, id).
			WithHint("use a new key for a new request")
	}
	return old, true, nil
}

func sameRequest(a, b job.Job) (bool, error) {
	left, err := json.Marshal(a.Spec)
	if err != nil {
		return false, err
	}
	right, err := json.Marshal(b.Spec)
	if err != nil {
		return false, err
	}
	return a.Kind == b.Kind && a.Host == b.Host && a.For == b.For && a.Repository == b.Repository && a.Plan == b.Plan &&
		a.MaxAttempts == b.MaxAttempts && a.Priority == b.Priority && bytes.Equal(left, right), nil
}

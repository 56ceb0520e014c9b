package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Jobs starts, ends and reads jobs. Safe for concurrent use.
type Jobs interface {
	Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error)
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	Job(ctx context.Context, id job.ID) (job.Job, error)
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
}

// Jobs returns jobs behind the gate.
func (g *Gate) Jobs(inner Jobs) Jobs { return jobs{inner, g} }

type jobs struct {
	inner Jobs
	gate  *Gate
}

func (j jobs) Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error) {
	if err := j.gate.passRequest(by, request); err != nil {
		return job.Job{}, err
	}
	return j.inner.Submit(ctx, by, request)
}

func (j jobs) Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	if err := j.gate.pass(by, "job.cancel", "job/"+string(id)); err != nil {
		return job.Job{}, err
	}
	return j.inner.Cancel(ctx, by, id)
}

// Retry needs the role that the job's kind needs. A kind never changes.
func (j jobs) Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error) {
	object := "job/" + string(id)
	if err := j.gate.pass(by, "job.retry", object); err != nil {
		return job.Job{}, err
	}
	old, err := j.inner.Job(ctx, id)
	if err != nil {
		return job.Job{}, err
	}
	if err := j.gate.passJob(by, "job.retry", object, old.Kind, old.Spec); err != nil {
		return job.Job{}, err
	}
	return j.inner.Retry(ctx, by, id)
}

func (j jobs) Job(ctx context.Context, id job.ID) (job.Job, error) { return j.inner.Job(ctx, id) }

func (j jobs) Jobs(ctx context.Context, filter job.Filter) (job.Page, error) {
	return j.inner.Jobs(ctx, filter)
}

// Hosts changes and reads hosts. Safe for concurrent use.
type Hosts interface {
	AddHost(ctx context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, error)
	AddSSHHost(ctx context.Context, by fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error)
	ChangeHost(ctx context.Context, by fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error)
	SharedSSHKey(ctx context.Context) (publicKey string, err error)
	RemoveHost(ctx context.Context, by fleet.Actor, name string) error
	Host(ctx context.Context, name string) (fleet.HostView, error)
	Hosts(ctx context.Context) ([]fleet.HostView, error)
}

// Hosts returns hosts behind the gate.
func (g *Gate) Hosts(inner Hosts) Hosts { return hosts{inner, g} }

type hosts struct {
	inner Hosts
	gate  *Gate
}

func (h hosts) AddHost(ctx context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, error) {
	if err := h.gate.pass(by, "host.add", "host/"+name); err != nil {
		return fleet.HostView{}, err
	}
	return h.inner.AddHost(ctx, by, name, labels)
}

func (h hosts) AddSSHHost(ctx context.Context, by fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error) {
	if err := h.gate.pass(by, "host.add", "host/"+asked.Name); err != nil {
		return fleet.HostView{}, err
	}
	return h.inner.AddSSHHost(ctx, by, asked)
}

func (h hosts) ChangeHost(ctx context.Context, by fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error) {
	if err := h.gate.pass(by, "host.change", "host/"+name); err != nil {
		return fleet.HostView{}, err
	}
	return h.inner.ChangeHost(ctx, by, name, asked)
}

// SharedSSHKey is for those who may add hosts: the first call makes the key.
func (h hosts) SharedSSHKey(ctx context.Context) (string, error) {
	if err := h.gate.passReader(ctx, "ssh.key", ""); err != nil {
		return "", err
	}
	return h.inner.SharedSSHKey(ctx)
}

func (h hosts) RemoveHost(ctx context.Context, by fleet.Actor, name string) error {
	if err := h.gate.pass(by, "host.remove", "host/"+name); err != nil {
		return err
	}
	return h.inner.RemoveHost(ctx, by, name)
}

func (h hosts) Host(ctx context.Context, name string) (fleet.HostView, error) {
	return h.inner.Host(ctx, name)
}

func (h hosts) Hosts(ctx context.Context) ([]fleet.HostView, error) { return h.inner.Hosts(ctx) }

// Enrolment keeps the tokens that let agents in. Safe for concurrent use.
type Enrolment interface {
	EnrolmentToken(ctx context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error)
	EnrolmentTokens(ctx context.Context) ([]fleet.EnrolmentToken, error)
	RemoveEnrolmentToken(ctx context.Context, by fleet.Actor, id string) error
}

// Enrolment returns enrolment behind the gate.
func (g *Gate) Enrolment(inner Enrolment) Enrolment { return enrolment{inner, g} }

type enrolment struct {
	inner Enrolment
	gate  *Gate
}

func (e enrolment) EnrolmentToken(ctx context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error) {
	if err := e.gate.pass(by, "host.token.add", "host/"+asked.Host); err != nil {
		return fleet.EnrolmentToken{}, fleet.EnrolmentCommand{}, err
	}
	return e.inner.EnrolmentToken(ctx, by, asked)
}

func (e enrolment) EnrolmentTokens(ctx context.Context) ([]fleet.EnrolmentToken, error) {
	if err := e.gate.passReader(ctx, "host.token.list", ""); err != nil {
		return nil, err
	}
	return e.inner.EnrolmentTokens(ctx)
}

func (e enrolment) RemoveEnrolmentToken(ctx context.Context, by fleet.Actor, id string) error {
	if err := e.gate.pass(by, "host.token.remove", "enrolment/"+id); err != nil {
		return err
	}
	return e.inner.RemoveEnrolmentToken(ctx, by, id)
}

// Repositories changes and reads repositories. Safe for concurrent use.
type Repositories interface {
	AddRepository(ctx context.Context, by fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error)
	SealPassphrase(ctx context.Context, by fleet.Actor, repository string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error)
	MoveRepository(ctx context.Context, by fleet.Actor, name, location string) (fleet.RepositoryView, error)
	RemoveRepository(ctx context.Context, by fleet.Actor, name string) error
	Allow(ctx context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error)
	Deny(ctx context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error)
	Repository(ctx context.Context, name string) (fleet.RepositoryView, error)
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
}

// Repositories returns repositories behind the gate.
func (g *Gate) Repositories(inner Repositories) Repositories { return repositories{inner, g} }

type repositories struct {
	inner Repositories
	gate  *Gate
}

func (r repositories) AddRepository(ctx context.Context, by fleet.Actor, asked fleet.NewRepository) (fleet.RepositoryView, secret.Value, error) {
	if err := r.gate.pass(by, "repository.add", "repository/"+asked.Name); err != nil {
		return fleet.RepositoryView{}, secret.Value{}, err
	}
	return r.inner.AddRepository(ctx, by, asked)
}

func (r repositories) SealPassphrase(ctx context.Context, by fleet.Actor, name string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error) {
	if err := r.gate.pass(by, "repository.seal", "repository/"+name); err != nil {
		return fleet.RepositoryView{}, err
	}
	return r.inner.SealPassphrase(ctx, by, name, sealed)
}

func (r repositories) MoveRepository(ctx context.Context, by fleet.Actor, name, location string) (fleet.RepositoryView, error) {
	if err := r.gate.pass(by, "repository.move", "repository/"+name); err != nil {
		return fleet.RepositoryView{}, err
	}
	return r.inner.MoveRepository(ctx, by, name, location)
}

func (r repositories) RemoveRepository(ctx context.Context, by fleet.Actor, name string) error {
	if err := r.gate.pass(by, "repository.remove", "repository/"+name); err != nil {
		return err
	}
	return r.inner.RemoveRepository(ctx, by, name)
}

func (r repositories) Allow(ctx context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	if err := r.gate.pass(by, "repository.allow", "repository/"+name); err != nil {
		return fleet.RepositoryView{}, err
	}
	return r.inner.Allow(ctx, by, name, host)
}

func (r repositories) Deny(ctx context.Context, by fleet.Actor, name, host string) (fleet.RepositoryView, error) {
	if err := r.gate.pass(by, "repository.deny", "repository/"+name); err != nil {
		return fleet.RepositoryView{}, err
	}
	return r.inner.Deny(ctx, by, name, host)
}

func (r repositories) Repository(ctx context.Context, name string) (fleet.RepositoryView, error) {
	return r.inner.Repository(ctx, name)
}

func (r repositories) Repositories(ctx context.Context) ([]fleet.RepositoryView, error) {
	return r.inner.Repositories(ctx)
}

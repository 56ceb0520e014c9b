package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// Jobs submits and reads jobs. Every method is safe for concurrent use; an
// error that is the caller's fault is a *job.Failure.
type Jobs interface {
	// Submit returns after the job is stored. The same idempotency key gets
	// the same job.
	Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error)
	Job(ctx context.Context, id job.ID) (job.Job, error)
	// Jobs returns one page, newest first.
	Jobs(ctx context.Context, filter job.Filter) (job.Page, error)
	// Cancel asks to end a job; asking again changes nothing.
	Cancel(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
	// Retry returns a new job with the request of a terminal one.
	Retry(ctx context.Context, by fleet.Actor, id job.ID) (job.Job, error)
}

// Logs reads jobs' logs. It is safe for concurrent use.
type Logs interface {
	// Log returns what is stored after the given place; 0 is the beginning.
	Log(ctx context.Context, id job.ID, after int) (fleet.JobLog, error)
}

// Statuses tells the whole in short. It is safe for concurrent use.
type Statuses interface {
	Status(ctx context.Context) (fleet.Status, error)
}

// Hosts keeps the hosts. Every method is safe for concurrent use; an error that
// is the caller's fault is a *job.Failure.
type Hosts interface {
	// AddHost declares a host; its agent enrols itself later.
	AddHost(ctx context.Context, by fleet.Actor, name string, labels map[string]string) (fleet.HostView, error)
	Host(ctx context.Context, name string) (fleet.HostView, error)
	Hosts(ctx context.Context) ([]fleet.HostView, error)
	RemoveHost(ctx context.Context, by fleet.Actor, name string) error
	// AddSSHHost adds a host that the coordinator connects to.
	AddSSHHost(ctx context.Context, by fleet.Actor, asked fleet.NewSSHHost) (fleet.HostView, error)
	// ChangeHost leaves as it is what is not asked for.
	ChangeHost(ctx context.Context, by fleet.Actor, name string, asked fleet.HostChange) (fleet.HostView, error)
	// SharedSSHKey returns the public key for hosts without one of their own.
	SharedSSHKey(ctx context.Context) (publicKey string, err error)
}

// Repositories keeps the repositories. Every method is safe for concurrent use;
// an error that is the caller's fault is a *job.Failure.
type Repositories interface {
	// AddRepository also returns the passphrase, if it made one.
	AddRepository(ctx context.Context, by fleet.Actor, repository fleet.NewRepository) (fleet.RepositoryView, secret.Value, error)
	Repository(ctx context.Context, name string) (fleet.RepositoryView, error)
	Repositories(ctx context.Context) ([]fleet.RepositoryView, error)
	RemoveRepository(ctx context.Context, by fleet.Actor, name string) error
	// SealPassphrase stores the passphrase as it was sealed to more hosts, or
	// anew, with custody "hosts".
	SealPassphrase(ctx context.Context, by fleet.Actor, repository string, sealed map[string]fleet.SealedPassphrase) (fleet.RepositoryView, error)
	// MoveRepository says where a repository is now. It is refused while jobs of
	// it are not over.
	MoveRepository(ctx context.Context, by fleet.Actor, repository, location string) (fleet.RepositoryView, error)
	// Allow and Deny say whether a host, or all with "*", may use what is in the
	// depot.
	Allow(ctx context.Context, by fleet.Actor, repository, host string) (fleet.RepositoryView, error)
	Deny(ctx context.Context, by fleet.Actor, repository, host string) (fleet.RepositoryView, error)
}

// Connections reaches hosts over SSH. It is safe for concurrent use; an error
// that is the caller's or the host's fault is a *job.Failure.
type Connections interface {
	// ScanSSH returns the keys with which a server proves itself.
	ScanSSH(ctx context.Context, by fleet.Actor, address string, jump []fleet.SSHHop) ([]fleet.ShownKey, error)
	// TryHost connects to a host of mode ssh and looks at it anew, so that what is
	// known of it is fresh. It leaves an agent's host as it is.
	TryHost(ctx context.Context, by fleet.Actor, host string) error
	// ConvertHost gives a host of mode ssh an agent, within five minutes. It
	// returns what it has done, also with an error.
	ConvertHost(ctx context.Context, by fleet.Actor, host string) ([]fleet.ConvertStep, error)
}

// Depot looks after the repositories that the coordinator keeps itself. It is
// safe for concurrent use; an error that is the caller's fault is a *job.Failure.
type Depot interface {
	Depot(ctx context.Context) (fleet.DepotView, error)
	// Transactions are oldest first.
	Transactions(ctx context.Context, repository string) ([]fleet.Transaction, error)
	// Unfreeze takes a frozen repository as it is when the job has ended well.
	Unfreeze(ctx context.Context, by fleet.Actor, repository, reason string) (job.Job, error)
	// Rollback undoes what came after a transaction of a frozen repository.
	Rollback(ctx context.Context, by fleet.Actor, repository string, to int, reason string) error
}

// Authenticator knows who asks. It is safe for concurrent use.
type Authenticator interface {
	// Authenticate returns who a request's credentials stand for; known is
	// false when it carries none. Wrong or expired ones are a *job.Failure
	// with the code not_authenticated.
	Authenticate(r *http.Request) (actor fleet.Actor, known bool, err error)
	// Changed returns a channel that is closed when somebody's access changes
	// the next time.
	Changed() <-chan struct{}
}

// Logins signs people in and out. It is safe for concurrent use; an error that
// is the caller's fault is a *job.Failure.
type Logins interface {
	// Login checks a password. It slows down who guesses: too_many_requests.
	Login(ctx context.Context, from, name string, password secret.Value) (fleet.Actor, error)
	// LoginToken makes a token that stands for the person and ends with it.
	LoginToken(ctx context.Context, actor fleet.Actor, name string) (fleet.APIToken, secret.Value, error)
	// EndSession ends the token of a login, or the session, that the request
	// came with.
	EndSession(w http.ResponseWriter, r *http.Request) error
	// ChangePassword gives by another password, and ends all that the old one
	// has let in. It slows down who guesses, too.
	ChangePassword(ctx context.Context, by fleet.Actor, old, fresh secret.Value) error
}

// The services below heed by's role, or that of the context's actor where there
// is no by: what it may not do is a *job.Failure with the code not_allowed. All
// of them are safe for concurrent use.

// People keeps who may sign in.
type People interface {
	Users(ctx context.Context) ([]fleet.User, error)
	// AddUser also returns the secret part of a one-time link with which the
	// person chooses a password, and when the link ends.
	AddUser(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, secret.Value, time.Time, error)
	SetRole(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.User, error)
	NewLink(ctx context.Context, by fleet.Actor, name string) (secret.Value, time.Time, error)
	RemoveUser(ctx context.Context, by fleet.Actor, name string) error
}

// Tokens keeps the API tokens.
type Tokens interface {
	Tokens(ctx context.Context) ([]fleet.APIToken, error)
	// AddToken also returns the token itself, which is not kept.
	AddToken(ctx context.Context, by fleet.Actor, asked fleet.NewAPIToken) (fleet.APIToken, secret.Value, error)
	RemoveToken(ctx context.Context, by fleet.Actor, id string) error
}

// Credentials keeps what was given out for the bus.
type Credentials interface {
	Credentials(ctx context.Context) ([]fleet.NATSCredentials, error)
	// MintCredentials also returns the text of a .creds file, which is not kept.
	MintCredentials(ctx context.Context, by fleet.Actor, name string, role bus.Role) (fleet.NATSCredentials, secret.Value, error)
	RevokeCredentials(ctx context.Context, by fleet.Actor, name string) error
}

// Enrolment keeps the one-time tokens for agents.
type Enrolment interface {
	EnrolmentToken(ctx context.Context, by fleet.Actor, asked fleet.NewEnrolmentToken) (fleet.EnrolmentToken, fleet.EnrolmentCommand, error)
	EnrolmentTokens(ctx context.Context) ([]fleet.EnrolmentToken, error)
	RemoveEnrolmentToken(ctx context.Context, by fleet.Actor, id string) error
}

// Audit reads who did what.
type Audit interface {
	Audit(ctx context.Context, filter fleet.AuditFilter) (fleet.AuditPage, error)
	VerifyAudit(ctx context.Context) (fleet.AuditProof, error)
}

// State copies the coordinator's own state. It is safe for concurrent use.
type State interface {
	// BackupState returns a copy that is to be written out, and closed.
	BackupState(ctx context.Context, by fleet.Actor, asked fleet.StateBackup) (*fleet.StateCopy, error)
}

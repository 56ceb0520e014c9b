// Package registry adds and removes hosts and repositories, and shows each with
// its present state. It is the owner of hosts' identities, of stored
// passphrases, and of what hosts say of themselves.
package registry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/hashicorp/go-hclog"
)

// Revoker ends bus identities for good, and cuts their connections. It is safe
// for concurrent use, and ending one again is no error.
type Revoker interface {
	RevokeAgent(publicKey string) error
}

// Presence tells whether a host is there, and since when it is or is not; the
// zero time says that this is not known. It is safe for concurrent use.
type Presence interface {
	Online(host string) (online bool, since time.Time)
	// Forget drops what is known of a host that was removed, or has got another
	// identity.
	Forget(host string)
}

// Options are what a registry works with. All but Now and Problem are required.
type Options struct {
	Store    *store.Store
	Keyring  *Keyring
	Revoker  Revoker
	Presence Presence
	Removed  func(host string) // told when a host was removed, before another one of its name can be added
	// Problem says why a host is not reached over SSH; nil: it is, or is not to be.
	// It is called often, and may be left out.
	Problem func(host string) *job.Failure
	Feed    *feed.Feed
	Now     func() time.Time // default time.Now
	Logger  hclog.Logger
}

// Registry adds, removes and shows hosts and repositories. It is safe for
// concurrent use.
type Registry struct {
	options  Options
	store    *store.Store
	logger   hclog.Logger
	roster   *roster
	flushed  atomic.Int64 // when facts were stored last; Unix nanoseconds
	changing sync.Mutex   // held while something is added or removed
	// adopters is how many calls have adopted a pending repository and neither kept
	// nor abandoned it; guarded by changing.
	adopters map[string]int
	making   sync.Mutex // held while the key for all hosts is read or made
}

// New returns a registry of what the store holds.
func New(options Options) (*Registry, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Problem == nil {
		options.Problem = func(string) *job.Failure { return nil }
	}
	r := &Registry{
		options: options, store: options.Store, logger: options.Logger.Named("registry"), roster: &roster{},
		adopters: map[string]int{},
	}
	r.flushed.Store(options.Now().UnixNano())
	if err := r.roster.load(r.store); err != nil {
		return nil, err
	}
	return r, nil
}

// apply stores changes. After an ambiguous error memory is read again, so that
// it says what the disk says.
func (r *Registry) apply(changes ...store.Change) error {
	_, err := r.store.Apply(changes...)
	if errors.Is(err, store.ErrAmbiguous) {
		err = errors.Join(err, r.roster.load(r.store))
	}
	return err
}

// audit makes the audit entry of a change that is done in the same transaction.
func (r *Registry) audit(by fleet.Actor, action, object, detail string) store.Change {
	return store.AppendAudit(fleet.AuditEntry{
		At: r.options.Now().UTC(), By: by.Name, From: by.From, Action: action, Object: object, Outcome: "done", Detail: detail,
	})
}

// failure translates the store's refusals about an object into what its user
// reads.
func failure(err error, code job.Code, object string) error {
	switch {
	case errors.Is(err, store.ErrExists):
		return job.Fail(job.Conflict, "%s already exists", object).WithHint("choose another name, or remove the old one first")
	case errors.Is(err, store.ErrMissing):
		return job.Fail(code, "there is no %s", object)
	case errors.Is(err, store.ErrOpenJobs):
		return job.Fail(job.Conflict, "%s has jobs that are not over", object).
			WithHint("cancel them, or wait until they are over, then remove it")
	}
	if planned, ok := errors.AsType[*store.PlannedError](err); ok {
		return job.Fail(job.Conflict, "%s is named by plans: %s", object, some(planned.Plans)).
			WithHint("take it out of them (borgfleet plan change), or remove them (borgfleet plan remove)")
	}
	return err
}

// maxNamed bounds how many names one failure tells.
const maxNamed = 5

// some writes a few of many names.
func some(names []string) string {
	text := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

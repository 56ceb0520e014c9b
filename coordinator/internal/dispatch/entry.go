package dispatch

import (
	"cmp"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// entry is an open job as memory knows it. Entries in the index are never
// changed: a change makes a copy, stores it, and puts it in the place of the
// old one.
type entry struct {
	job       job.Job            // as stored; its Progress is kept elsewhere
	attempt   store.AttemptState // of the current attempt; zero while there is none
	server    string             // that its repository is on; empty: it has none
	window    schedule.Window    // in which its attempts may begin
	encrypted bool               // its orders carry a sealed passphrase
	given     bool               // it is one of the job's own, sealed and stored
	preview   job.ID             // the dry run that goes before it; empty: none was asked for
	vet       job.ID             // the look that goes before attempt vetFor; empty: none was asked for
	vetFor    int
	follows   job.ID // of a list: the one that it goes on from
	adopt     bool   // of a list: what it names is what there is to be
	settles   bool   // of a list: it shows what a job has left that could not say so

	// What follows is lost with the process, and means after a restart what its
	// zero value says, except that then every sent order may have arrived.
	outstanding bool      // a request about it is on its way
	maybe       bool      // the order may have reached the host
	holdUntil   time.Time // not to be tried before, for a reason of our own
	hold        string    // that reason
}

// newEntry returns the entry of a job that is new here, for a repository; zero: it
// has none.
func newEntry(repository fleet.Repository, j job.Job) *entry {
	return &entry{job: j, server: server(repository, j.Host), window: windowOf(j), encrypted: repository.HasPassphrase}
}

func (e *entry) ticket() ticket {
	t := ticket{ID: e.job.ID, Kind: e.job.Kind, Host: e.job.Host, Repository: e.job.Repository, Server: e.server, Group: group(e.job)}
	if spec, ok := e.job.Spec.(job.MountSpec); ok {
		t.MountPoint = spec.MountPoint
	}
	return t
}

// held reports whether the job holds its lease, and a slot if its kind takes one.
func (e *entry) held() bool { return e.job.State == job.Sent || e.job.State == job.Running }

func (e *entry) waiting() waiting {
	w := waiting{
		ticket: e.ticket(), Encrypted: e.encrypted, NotBefore: e.holdUntil, Pause: e.hold,
		Expires: e.expires(), Retry: e.job.Attempt > 0, Since: e.job.SubmittedAt, Priority: e.job.Priority,
	}
	if at := e.job.RetryAt; at != nil && at.After(w.NotBefore) {
		w.NotBefore, w.Pause = *at, fmt.Sprintf("retry %d of %d", e.job.Attempt+1, e.job.MaxAttempts)
	}
	return w
}

// before orders the queue: priority, then age.
func before(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(b.job.Priority, a.job.Priority),
		a.job.SubmittedAt.Compare(b.job.SubmittedAt),
		cmp.Compare(a.job.ID, b.job.ID),
	)
}

// orderedBy reports whether the current attempt had been ordered at a moment.
func (e *entry) orderedBy(at time.Time) bool {
	current := e.current()
	return current != nil && !current.SentAt.After(at)
}

// current returns the job's current attempt in its list, nil if the list does
// not hold it.
func (e *entry) current() *job.Attempt {
	if n := len(e.job.Attempts); n > 0 && e.job.Attempts[n-1].Number == e.job.Attempt {
		return &e.job.Attempts[n-1]
	}
	return nil
}

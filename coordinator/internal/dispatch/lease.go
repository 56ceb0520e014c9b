package dispatch

import (
	"fmt"

	"github.com/borgfleet/borgfleet/shared/job"
)

// ticket is what the queue needs to know of an open job.
type ticket struct {
	ID         job.ID
	Kind       job.Kind
	Host       string
	Repository string // empty: none
	Server     string // that the repository is on; empty: none
	Group      string // jobs of one group take turns with those of others
	MountPoint string // of a mount
	Before     job.ID // the job that it looks at the repository for, whose reservation it may pass
}

// title names a ticket in a sentence: "…Y0ABCD (backup of web1)".
func (t ticket) title() string {
	return fmt.Sprintf("…%s (%s of %s)", t.ID.Short(), t.Kind, t.Host)
}

// leases says who uses which repository. A lease is held from the moment an
// order is stored as sent until its attempt is known to be over, so the table
// can be rebuilt from the open jobs at any time.
type leases map[string]*lease

type lease struct {
	holders   []ticket // one exclusive, or any number of shared ones
	exclusive bool
	mount     *ticket // of the holders, one that mounts it
	next      *ticket // an exclusive job that waits for the holders to end
	busy      string  // the reason that holders give others, once it was asked for
}

// leaseless reports whether t can go whatever others do with the repository: to
// unmount must never wait for whoever waits for the mount.
func (t ticket) leaseless() bool { return t.Repository == "" || t.Kind == job.Umount }

// hold notes that t uses its repository.
func (l leases) hold(t ticket) {
	if t.leaseless() {
		return
	}
	entry := l.entry(t.Repository)
	entry.holders = append(entry.holders, t)
	if t.Kind == job.Mount && entry.mount == nil {
		entry.mount = &t
	}
	entry.exclusive = entry.exclusive || t.Kind.Exclusive()
	entry.busy = ""
}

// reserve keeps later jobs away from t's repository, so that shared jobs that
// keep coming cannot starve an exclusive one. The first reservation stays.
func (l leases) reserve(t ticket) {
	if entry := l.entry(t.Repository); entry.next == nil && t.Kind.Exclusive() {
		entry.next = &t
	}
}

// blocker returns why t cannot use its repository now, or "".
func (l leases) blocker(t ticket) string {
	entry := l[t.Repository]
	if entry == nil || t.leaseless() {
		return ""
	}
	if len(entry.holders) > 0 && (entry.exclusive || t.Kind.Exclusive()) {
		if entry.busy == "" { // thousands may ask
			entry.busy = entry.occupied(t.Repository)
		}
		return entry.busy
	}
	// What is mounted may stay so for hours: only other mounts wait behind the job
	// that waits for that, since they would keep it waiting for longer.
	if next := entry.next; next != nil && next.ID != t.ID && next.ID != t.Before && (entry.mount == nil || t.Kind == job.Mount) {
		return fmt.Sprintf("repository %s is next for job %s", t.Repository, entry.next.title())
	}
	return ""
}

// occupied says who uses the repository. A mount is named before all others: it
// ends when somebody unmounts it.
func (l *lease) occupied(repository string) string {
	if m := l.mount; m != nil {
		return fmt.Sprintf("repository %s is mounted at %s by job …%s: borgfleet archive umount %s --host %s",
			repository, m.MountPoint, m.ID.Short(), m.MountPoint, m.Host)
	}
	return fmt.Sprintf("repository %s is busy with job %s%s", repository, l.holders[0].title(), more(len(l.holders)-1))
}

func (l leases) entry(repository string) *lease {
	if l[repository] == nil {
		l[repository] = &lease{}
	}
	return l[repository]
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" and %d more", n)
}

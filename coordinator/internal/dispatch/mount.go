package dispatch

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// longMount is for how long a mount may keep a job waiting before a person should
// look.
const longMount = time.Hour

// longMounts lists the mounts that have kept a job waiting for too long: nothing
// but somebody who unmounts them may end that.
func longMounts(hosts []fleet.HostView, queue, held []*entry, now time.Time) (items []fleet.Attention) {
	online := map[string]bool{}
	for _, h := range hosts {
		online[h.Name] = h.Online
	}
	seen := map[string]bool{} // repositories, of which one item is enough
	for _, mount := range held {
		current := mount.current()
		if mount.job.Kind != job.Mount || current == nil || seen[mount.job.Repository] {
			continue
		}
		waits, since := longestWait(mount.job.Repository, current.SentAt, online, queue)
		if waits == nil || now.Sub(since) < longMount {
			continue
		}
		seen[mount.job.Repository] = true
		t := mount.ticket()
		items = append(items, fleet.Attention{
			Kind: "mount", Host: t.Host, Repository: t.Repository, Job: t.ID, Since: since,
			Message: fmt.Sprintf("repository %s is mounted at %s on %s, and has kept %s waiting for %s",
				t.Repository, t.MountPoint, t.Host, waits.job.Title(), human.Duration(now.Sub(since))),
			Hint: fmt.Sprintf("when it is not needed any more: borgfleet archive umount %s --host %s", t.MountPoint, t.Host),
		})
	}
	return items
}

// longestWait returns the job that has waited for a repository the longest since
// it was mounted, and since when; nil: none does.
func longestWait(repository string, mounted time.Time, online map[string]bool, queue []*entry) (waits *entry, since time.Time) {
	for _, e := range queue {
		if e.job.Repository != repository || !e.job.Kind.Exclusive() || !online[e.job.Host] {
			continue
		}
		from := mounted
		for _, at := range []*time.Time{&e.job.SubmittedAt, e.job.RetryAt} {
			if at != nil && at.After(from) {
				from = *at
			}
		}
		if waits == nil || from.Before(since) {
			waits, since = e, from
		}
	}
	return waits, since
}

package cli

import (
	"fmt"
	"slices"

	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

type repoBreakLock struct {
	onRepository
	Yes   bool `help:"Do not ask whether you are sure." short:"y"`
	Force bool `help:"Also break the lock of a holder that may live. Make sure that it does not: borg would damage the repository."`
}

// Help is the end of the command's help.
func (repoBreakLock) Help() string {
	return `A borg that was killed leaves its lock, and everybody else waits for it. This command lets the host look at who holds the lock, shows it, and asks; then the host runs borg break-lock, if every holder was a process of that host and is gone. What borg has left under the host's own name it clears by itself at the next job.

The lock of a repository on a server (ssh://) is held by a process of the server, which no host can see: it takes --force.`
}

// Run runs the command.
func (c repoBreakLock) Run(s *session) error {
	if _, ok := s.terminal(); !c.Yes && (!ok || s.globals.JSON) {
		return console.Usage("this breaks a lock, and nobody is there to be asked (add --yes if you are sure)")
	}
	if !c.Yes {
		if needed, err := c.ask(s); err != nil || !needed {
			return err
		}
	}
	return c.run(s, job.BreakLockSpec{Force: c.Force})
}

// ask shows who holds the lock, and asks whether to break it. Without a lock
// there is nothing to ask.
func (c repoBreakLock) ask(s *session) (needed bool, err error) {
	look, err := s.endOf(c.place(), job.BreakLockSpec{DryRun: true})
	if err != nil {
		return false, err
	}
	if look.State != job.Succeeded || look.Result == nil {
		return false, s.finish(look)
	}
	s.printResult(look, *look.Result)
	result := *look.Result
	unseen := len(result.Warnings) > 0
	living := unseen || slices.ContainsFunc(result.Locks, func(l job.Lock) bool { return l.Process != job.Dead })
	switch {
	case len(result.Locks) == 0 && !unseen && !c.Force:
		return false, nil
	case c.Force:
		return true, s.confirm(fmt.Sprintf("Break the lock of %s whoever holds it? If a borg still uses it, both damage the repository. [y/N] ", c.Name), "add --yes")
	case living:
		return false, job.Fail(job.RepositoryLocked, "nothing was changed: a borg that holds the lock may be alive").
			WithHint("wait until it ends; or make sure that no borg uses %s, and add --force", c.Name)
	default:
		return true, s.confirm(fmt.Sprintf("All of them are gone. Break the lock of %s? [y/N] ", c.Name), "add --yes")
	}
}

// printLocks shows who holds a lock, or held it before it was broken.
func (s *session) printLocks(r job.Result) {
	if len(r.Locks) > 0 {
		t := newTable(s.Out, "HOLDER", "PROCESS", "KIND", "STATE")
		for _, lock := range r.Locks {
			kind := "shared"
			if lock.Exclusive {
				kind = "exclusive"
			}
			t.row(lock.Holder, fmt.Sprint(lock.PID), kind, string(lock.Process))
		}
		t.end()
	}
	switch {
	case r.Broken:
		s.printf("  the lock is broken\n")
	case len(r.Locks) == 0 && len(r.Warnings) == 0:
		s.printf("  nobody holds the lock\n")
	}
}

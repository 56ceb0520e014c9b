package plan

import (
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// compactEvery is how old the last compaction must be. A daily plan does not take
// exactly as long each day.
const compactEvery = 20 * time.Hour

// follow adds what follows the backups, each once: a prune of what a host's backup
// has made room for, and when all hosts are done with a repository, its care.
func (m *mover) follow() {
	for i := range m.run.Tasks { // those that follow are added behind
		if t := m.run.Tasks[i]; t.Kind == job.Backup {
			m.prune(t)
		}
	}
	for _, repository := range m.plan.Repositories {
		if m.settled(repository, job.Backup) {
			m.careFor(repository)
		}
	}
	for i, t := range m.run.Tasks {
		if t.Kind == job.Backup || t.State != fleet.RunRunning {
			continue
		}
		switch reason := m.unwanted(t); {
		case t.Job != "":
			m.giveUp(t, reason)
		case reason != "":
			m.end(i, fleet.RunSkipped, reason, m.now)
		default:
			m.step.submit = append(m.step.submit, i)
		}
	}
}

// unwanted returns why a task that follows is left out, as the plan has changed
// since it was made, or a backup looks suspicious now; empty: it is not.
func (m *mover) unwanted(t fleet.Task) string {
	switch {
	case !m.host(t.Host):
		return "the plan is not for this host any more"
	case !slices.Contains(m.plan.Repositories, t.Repository):
		return "the plan does not back up to this repository any more"
	case t.Kind == job.Prune && (m.plan.Retention == nil || !slices.Contains(m.plan.After, job.Prune)):
		return "the plan does not prune any more"
	case t.Kind == job.Compact && !slices.Contains(m.plan.After, job.Compact):
		return "the plan does not compact any more"
	case (t.Kind == job.Prune || t.Kind == job.Compact) && m.holdsIn(t):
		return heldReason
	case t.Kind == job.Check && m.plan.Check == nil:
		return "the plan has no checks any more"
	case t.Kind == job.TestRestore && m.plan.RestoreTest == nil:
		return "the plan has no restore tests any more"
	default:
		return ""
	}
}

// giveUp cancels the job of a task that is unwanted while it waits: who takes
// retention out of a plan means that nothing more is deleted, and a prune may have
// waited for its hours while another run brought a backup that is held.
func (m *mover) giveUp(t fleet.Task, reason string) {
	if reason == "" {
		return
	}
	if j, found := m.job(t.Job); found && j.State == job.Queued {
		m.step.cancel = append(m.step.cancel, t.Job)
	}
}

// add makes a task that follows.
func (m *mover) add(like fleet.Task, kind job.Kind) *fleet.Task {
	m.run.Tasks = append(m.run.Tasks, fleet.Task{
		Host: like.Host, Repository: like.Repository, Kind: kind, NotBefore: m.now, State: fleet.RunRunning,
	})
	m.step.changed = true
	return &m.run.Tasks[len(m.run.Tasks)-1]
}

// has reports whether a run has a task like the given one, of a kind.
func (m *mover) has(like fleet.Task, kind job.Kind) bool {
	return slices.ContainsFunc(m.run.Tasks, func(t fleet.Task) bool {
		return t.Kind == kind && t.Host == like.Host && t.Repository == like.Repository && t.Dump == like.Dump
	})
}

// prune follows a good backup, once all of its host into its repository are over.
func (m *mover) prune(t fleet.Task) {
	if m.plan.Retention == nil || !slices.Contains(m.plan.After, job.Prune) || !good(t) || m.has(t, job.Prune) {
		return
	}
	for _, other := range m.run.Tasks {
		if other.Kind == job.Backup && other.Host == t.Host && other.Repository == t.Repository && other.State == fleet.RunRunning {
			return
		}
	}
	added := m.add(t, job.Prune)
	added.Dump = t.Dump
	if m.holds(t) {
		at := m.now
		added.State, added.FinishedAt = fleet.RunSkipped, &at
		added.Reason = heldReason
	}
}

const heldReason = "a backup looks suspicious, and nothing is pruned until somebody accepts it"

// holdsIn reports whether a suspicious backup keeps a task from deleting archives:
// one of its host, or to compact, any in its repository.
func (m *mover) holdsIn(t fleet.Task) bool {
	if t.Kind == job.Prune {
		return m.holds(t)
	}
	return slices.ContainsFunc(m.run.Tasks, func(other fleet.Task) bool { return other.Repository == t.Repository && m.holds(other) })
}

// holds reports whether a suspicious backup keeps archives from being deleted.
func (m *mover) holds(t fleet.Task) bool {
	if m.hold[trackID{host: t.Host, repository: t.Repository}] {
		return true
	}
	held := m.held(t.Host, t.Repository)
	return held != nil && held.Holds
}

// settled reports whether all tasks of some kinds in a repository have ended.
func (m *mover) settled(repository string, kinds ...job.Kind) bool {
	return !slices.ContainsFunc(m.run.Tasks, func(t fleet.Task) bool {
		return t.Repository == repository && t.State == fleet.RunRunning && slices.Contains(kinds, t.Kind)
	})
}

// careFor adds the care of a repository, after the backups of all hosts: space is
// freed, then it is checked, and restoring is tested.
func (m *mover) careFor(repository string) {
	var done []fleet.Task // good backups of files, or of a dump where there are no files
	for _, t := range m.run.Tasks {
		same := func(other fleet.Task) bool { return other.Host == t.Host }
		if t.Repository == repository && t.Kind == job.Backup && good(t) && !slices.ContainsFunc(done, same) {
			done = append(done, t)
		}
	}
	if len(done) == 0 || !m.settled(repository, job.Prune) {
		return
	}
	m.compact(done[0])
	if !m.settled(repository, job.Compact) {
		return
	}
	m.check(done[0])
	for _, t := range done {
		m.testRestore(t)
	}
}

// once reports whether the run has no task of a kind in a repository yet.
func (m *mover) once(repository string, kind job.Kind) bool {
	return !slices.ContainsFunc(m.run.Tasks, func(t fleet.Task) bool { return t.Repository == repository && t.Kind == kind })
}

// compact frees space, at most daily; not while archives are to be kept, as what
// it takes away is gone for good.
func (m *mover) compact(t fleet.Task) {
	if !slices.Contains(m.plan.After, job.Compact) || !m.once(t.Repository, job.Compact) || !older(m.care(t.Host, t.Repository).lastCompact, compactEvery, m.now) {
		return
	}
	if task := (fleet.Task{Host: t.Host, Repository: t.Repository, Kind: job.Compact}); !m.holdsIn(task) {
		m.add(task, job.Compact)
	}
}

// check checks a repository, if the last time is long ago.
func (m *mover) check(t fleet.Task) {
	known := m.care(t.Host, t.Repository)
	if !m.once(t.Repository, job.Check) || known.checking {
		return
	}
	if due, _ := checkDue(m.plan.Check, known, m.now); due {
		m.add(fleet.Task{Host: t.Host, Repository: t.Repository}, job.Check)
	}
}

// checkDue says whether a repository is to be checked, and whether with all of its
// data.
func checkDue(policy *fleet.CheckPolicy, known care, now time.Time) (due, verify bool) {
	if policy == nil {
		return false, false
	}
	verify = policy.VerifyData != "" && older(known.lastVerify, policy.VerifyData.Duration(), now)
	return verify || policy.Every != "" && older(latest(known.lastCheck, known.lastVerify), policy.Every.Duration(), now), verify
}

// testRestore tests restoring, if the last good test is long ago.
func (m *mover) testRestore(t fleet.Task) {
	policy := m.plan.RestoreTest
	t.Dump = ""
	if policy == nil || m.has(t, job.TestRestore) {
		return
	}
	if older(m.care(t.Host, t.Repository).lastRestoreTest, policy.Every.Duration(), m.now) {
		m.add(t, job.TestRestore)
	}
}

// older reports whether something was never done, or so long ago.
func older(last *time.Time, than time.Duration, now time.Time) bool {
	return last == nil || now.Sub(*last) >= than
}

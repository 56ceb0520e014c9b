package plan

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// world is what a step of a run is decided by. Its functions answer at once and
// change nothing.
type world struct {
	now  time.Time
	plan fleet.PlanSpec
	// late is how long after its moment a host's first job may begin; 0: for ever.
	late time.Duration
	// early says that the coordinator has just begun: what hosts did while it was
	// away is not all known yet.
	early bool
	// host reports whether the plan is for a host still.
	host func(name string) bool
	// shut reports whether the hours in which a backup may begin come too late for it.
	shut func(t fleet.Task) bool
	// job returns what is stored of a job, false when that is gone.
	job func(job.ID) (job.Job, bool)
	// before says whether an earlier run of the plan keeps a host from beginning.
	before func(host string) standing
	// replaced returns the later run that takes the place of this one on a host;
	// nil: there is none.
	replaced func(host string) *fleet.Run
	// judge returns in what a good backup looks suspicious, nil when it does not.
	judge func(t fleet.Task) *fleet.Suspicion
	// held returns why nothing may be pruned; nil: it may.
	held func(host, repository string) *fleet.Suspicion
	care func(host, repository string) care
}

// care is what is known of when a repository and its archives were last cared for.
type care struct {
	lastCheck, lastVerify, lastCompact *time.Time
	lastRestoreTest                    *time.Time
	checking                           bool // another run has a check of the repository that is not over
}

// step is what a run needs next.
type step struct {
	submit  []int    // places of tasks whose job is to be asked for
	cancel  []job.ID // jobs that are to end
	held    []heldBackup
	wake    time.Time // when to decide again at the latest; zero: when something happens
	changed bool      // something is to be stored
}

// heldBackup is a backup that looks suspicious, and its task.
type heldBackup struct {
	task  fleet.Task
	found fleet.Suspicion
}

// mover decides one step.
type mover struct {
	world
	run  *store.PlanRun
	step step
	hold map[trackID]bool // newly held
}

// advance brings the tasks of a run up to date, and says what it needs next. What
// is to be submitted is not changed: asked again, it says the same.
func advance(run *store.PlanRun, w world) step {
	m := &mover{world: w, run: run, hold: map[trackID]bool{}}
	m.settle()
	if run.Cancelled != "" {
		m.endAll()
	} else {
		m.begin()
		m.follow()
	}
	m.finish()
	return m.step
}

// end ends a task.
func (m *mover) end(i int, state fleet.RunState, reason string, at time.Time) {
	t := &m.run.Tasks[i]
	t.State, t.Reason, t.FinishedAt = state, reason, &at
	m.step.changed = true
}

// settle takes in how jobs have ended.
func (m *mover) settle() {
	for i, t := range m.run.Tasks {
		if t.State != fleet.RunRunning || t.Job == "" {
			continue
		}
		j, found := m.job(t.Job)
		if !found {
			m.end(i, fleet.RunFailed, "its job is not known any more", m.now)
			continue
		}
		state, reason := stateOf(j)
		if state == fleet.RunRunning {
			continue
		}
		if state == fleet.RunCancelled && t.Kind != job.Backup {
			if why := m.unwanted(t); why != "" {
				state, reason = fleet.RunSkipped, why
			}
		}
		at := m.now
		if j.FinishedAt != nil {
			at = *j.FinishedAt
		}
		m.end(i, state, reason, at)
		if t = m.run.Tasks[i]; files(t) && good(t) && m.plan.Suspicion != fleet.SuspectOff {
			m.suspect(t)
		}
	}
}

func (m *mover) suspect(t fleet.Task) {
	if found := m.judge(t); found != nil {
		found.Holds = m.plan.Suspicion != fleet.SuspectAlert
		m.step.held = append(m.step.held, heldBackup{task: t, found: *found})
		m.hold[trackID{host: t.Host, repository: t.Repository}] = found.Holds
	}
}

// files reports whether a task is the backup of a plan's files.
func files(t fleet.Task) bool { return t.Kind == job.Backup && t.Dump == "" }

// endAll ends what was not begun, and what was.
func (m *mover) endAll() {
	for i, t := range m.run.Tasks {
		switch {
		case t.State != fleet.RunRunning:
		case t.Job == "":
			m.end(i, fleet.RunCancelled, "cancelled by "+m.run.Cancelled, m.now)
		default:
			m.step.cancel = append(m.step.cancel, t.Job)
		}
	}
}

// finish ends a run whose tasks have ended, and of which nothing follows.
func (m *mover) finish() {
	if len(m.step.submit) > 0 || !over(m.run.Tasks) || m.run.FinishedAt != nil {
		return
	}
	at := m.now
	m.run.State, m.run.FinishedAt, m.step.changed = worst(m.run.Tasks), &at, true
}

// wakeAt has the run looked at again at a moment.
func (m *mover) wakeAt(at time.Time) {
	if m.step.wake.IsZero() || at.Before(m.step.wake) {
		m.step.wake = at
	}
}

// begin decides for each host whether its next backup begins.
func (m *mover) begin() {
	var earlier []fleet.Task // of hosts before
	for _, host := range hostsOf(m.run.Tasks) {
		m.beginHost(host, earlier)
		for _, t := range m.run.Tasks {
			if t.Host == host && t.Kind == job.Backup {
				earlier = append(earlier, t)
			}
		}
	}
}

// hostsOf returns the hosts of tasks in their order.
func hostsOf(tasks []fleet.Task) []string {
	var hosts []string
	seen := map[string]bool{}
	for _, t := range tasks {
		if !seen[t.Host] {
			seen[t.Host] = true
			hosts = append(hosts, t.Host)
		}
	}
	return hosts
}

// beginHost begins the next backup of a host, or says why it does not.
func (m *mover) beginHost(host string, earlier []fleet.Task) {
	next, first, away := m.next(host)
	if next < 0 {
		return
	}
	if away { // nobody took the one before in its time: the others wait no longer
		m.endHost(host, fleet.RunMissed, "the host was away")
		return
	}
	if later := m.replaced(host); later != nil {
		m.replace(host, *later)
		return
	}
	t := m.run.Tasks[next]
	switch {
	case t.Job != "": // it runs
	case !m.host(host):
		m.endHost(host, fleet.RunCancelled, "the plan is not for this host any more")
	case t.NotBefore.After(m.now):
		m.wakeAt(t.NotBefore)
	case m.plan.Order == fleet.Sequential && !m.turn(host, earlier):
	case first && !m.free(host, t, len(earlier) == 0 || m.plan.Order != fleet.Sequential):
	case m.shut(t): // it would only wait until the next one is due, which is nobody's fault
		m.endHost(host, fleet.RunSkipped, "its hours do not begin before the next run is due")
	default:
		m.step.submit = append(m.step.submit, next)
	}
}

// next returns the place of a host's first backup that is not over, -1 if all are,
// whether none is over, and whether one was missed.
func (m *mover) next(host string) (next int, first, away bool) {
	first = true
	for i, t := range m.run.Tasks {
		if t.Host != host || t.Kind != job.Backup {
			continue
		}
		if t.State == fleet.RunRunning {
			return i, first, away
		}
		first, away = false, away || t.State == fleet.RunMissed
	}
	return -1, first, away
}

// turn reports whether the hosts before one are done with. With stop_on_failure
// it is left out if one of them has failed.
func (m *mover) turn(host string, earlier []fleet.Task) bool {
	for _, t := range earlier {
		if t.State == fleet.RunRunning {
			return false
		}
	}
	for _, t := range earlier {
		if m.plan.StopOnFailure && (t.State == fleet.RunFailed || t.State == fleet.RunMissed || t.State == fleet.RunCancelled) {
			m.endHost(host, fleet.RunSkipped, "the backup of "+t.Host+" did not succeed, and stop_on_failure is set")
			return false
		}
	}
	return true
}

// free reports whether a host can begin: its run before is over, and it is not too
// late. timely says that nothing but time could have kept it from beginning.
func (m *mover) free(host string, t fleet.Task, timely bool) bool {
	last := m.before(host)
	switch {
	case last.over:
	case last.ending || m.early: // soon more is known
		m.wakeAt(m.now.Add(time.Second))
		return false
	case m.plan.Schedule != nil && m.plan.Schedule.Overlap == fleet.OverlapReplace:
		return false
	case m.plan.Schedule != nil && m.plan.Schedule.Overlap == fleet.OverlapQueue:
		if last.waits {
			m.endHost(host, fleet.RunSkipped, "another run waits for "+last.run()+" already")
		}
		return false
	default:
		m.endHost(host, fleet.RunSkipped, last.run()+" is not over")
		return false
	}
	queued := m.plan.Schedule != nil && (m.plan.Schedule.Overlap == fleet.OverlapQueue || m.plan.Schedule.Overlap == fleet.OverlapReplace)
	if timely && !queued && m.late > 0 && m.now.Sub(t.NotBefore) > max(m.late, grace) {
		m.endHost(host, fleet.RunMissed, "the coordinator was away")
		return false
	}
	return true
}

// endHost ends the backups of a host that were not begun.
func (m *mover) endHost(host string, state fleet.RunState, reason string) {
	for i, t := range m.run.Tasks {
		if t.Host == host && t.Kind == job.Backup && t.State == fleet.RunRunning && t.Job == "" {
			m.end(i, state, reason, m.now)
		}
	}
}

// replace ends a host's backups, as a later run takes their place.
func (m *mover) replace(host string, later fleet.Run) {
	m.endHost(host, fleet.RunCancelled, "replaced by the run of "+clock(later.Due))
	for _, t := range m.run.Tasks {
		if t.Host == host && t.Kind == job.Backup && t.State == fleet.RunRunning && t.Job != "" {
			m.step.cancel = append(m.step.cancel, t.Job)
		}
	}
}

// clock is a moment as reasons have it.
func clock(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }

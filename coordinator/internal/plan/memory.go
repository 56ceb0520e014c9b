package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// memory is what is known of the store.
type memory struct {
	plans        map[string]*entry
	hosts        map[string]fleet.Host
	repositories map[string]repository
	tracks       map[trackID]outline
	runs         map[string]*openRun // by id
	checks       map[string]string   // the open run that checks a repository, by the repository's name
}

// trackID names a track.
type trackID struct{ plan, host, repository string }

// repository is what plans need to know of one.
type repository struct {
	lastCheck, lastVerify, lastCompact *time.Time
}

// outline is a track without its history.
type outline struct {
	last            *fleet.BackupSummary
	dumps           map[string]fleet.BackupSummary
	held            *fleet.Suspicion
	lastRun         fleet.RunState
	lastRunAt       *time.Time
	missed          *time.Time
	lastRestoreTest *time.Time
	restoreTestJob  job.ID
	seconds         float64 // the median of how long good backups took
}

// openRun is a run that is not over.
type openRun struct {
	run   store.PlanRun
	wake  time.Time // when to look at it again at the latest; zero: when something happens
	dirty bool      // look now
}

// entry is a plan that was understood.
type entry struct {
	plan   fleet.Plan
	table  *schedule.Timetable // nil: it has no schedule
	cursor time.Time           // up to when the schedule was followed
	next   time.Time           // the first occurrence after cursor; zero: none
	hosts  []string            // that it is for now
	maxAge time.Duration       // 0: any age is good
	period time.Duration       // between this occurrence and the next; 0: no schedule
	runs   []*openRun          // that are not over, oldest first
	told   map[trackID]fleet.FreshState
}

// newEntry understands a plan that was checked when it was stored. One of another
// version that is not understood now has no schedule, and the error says so.
func newEntry(p fleet.Plan, cursor time.Time) (*entry, error) {
	e := &entry{plan: p, told: map[trackID]fleet.FreshState{}, maxAge: p.MaxAge.Duration()}
	if p.Schedule == nil {
		e.cursor = cursor
		return e, nil
	}
	table, err := schedule.Parse(*p.Schedule)
	if err != nil {
		return e, err
	}
	e.table = table
	e.follow(cursor)
	return e, nil
}

// follow moves the cursor.
func (e *entry) follow(cursor time.Time) {
	e.cursor, e.next = cursor, time.Time{}
	if e.table == nil {
		return
	}
	e.next, e.period = e.table.Next(cursor), e.table.Period(cursor)
	if e.plan.MaxAge == "" {
		e.maxAge = 2*e.period + time.Hour
	}
}

// due is when something is to be done for the schedule, zero for never: an
// occurrence, or the end of a pause.
func (e *entry) due() time.Time {
	if e.plan.Pause == nil {
		return e.next
	}
	if until := e.plan.Pause.Until; until != nil {
		return *until
	}
	return time.Time{}
}

// paused reports whether a plan is kept from running at a moment.
func paused(p *fleet.Pause, now time.Time) bool {
	return p != nil && (p.Until == nil || p.Until.After(now))
}

// rows are what freshness is told of.
func (e *entry) rows() []trackID {
	var rows []trackID
	for _, host := range e.hosts {
		for _, repository := range e.plan.Repositories {
			rows = append(rows, trackID{e.plan.Name, host, repository})
		}
	}
	return rows
}

// resolve returns the names of the hosts that a plan is for, sorted: in the order
// in which they were named if the plan names them.
func resolve(p fleet.PlanSpec, hosts map[string]fleet.Host) []string {
	names := []string{}
	if len(p.Hosts) > 0 {
		for _, name := range p.Hosts {
			if _, ok := hosts[name]; ok {
				names = append(names, name)
			}
		}
		return names
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if host := hosts[name]; host.Mode != fleet.ModeLocal && selected(p.Selector, host.Labels) {
			names = append(names, name)
		}
	}
	return names
}

// selected reports whether labels have all that a selector asks for. An empty
// selector chooses nothing.
func selected(selector, labels map[string]string) bool {
	for key, value := range selector {
		if have, ok := labels[key]; !ok || have != value {
			return false
		}
	}
	return len(selector) > 0
}

// outlineOf leaves a track's history out.
func outlineOf(t store.Track) outline {
	o := outline{
		dumps: t.Dumps, held: t.Held, lastRun: t.LastRun, lastRunAt: t.LastRunAt, missed: t.Missed,
		lastRestoreTest: t.LastRestoreTest, restoreTestJob: t.RestoreTestJob,
	}
	if last, ok := t.Last(); ok {
		o.last = &last
	}
	seconds := make([]float64, len(t.Samples))
	for i, sample := range t.Samples {
		seconds[i] = sample.Duration
	}
	o.seconds = median(seconds)
	return o
}

// addRun puts an open run where it belongs.
func (m *memory) addRun(run store.PlanRun) *openRun {
	r := &openRun{run: run, dirty: true}
	m.runs[run.ID] = r
	m.noteChecks(run)
	if e := m.plans[run.Plan]; e != nil {
		e.runs = append(e.runs, r)
		slices.SortFunc(e.runs, func(a, b *openRun) int { return order(a.run.Run, b.run.Run) })
	}
	return r
}

// dropRun takes out a run that is over, and has the other ones of its plan looked
// at, which may have waited for it.
func (m *memory) dropRun(run store.PlanRun) {
	delete(m.runs, run.ID)
	if e := m.plans[run.Plan]; e != nil {
		e.runs = slices.DeleteFunc(e.runs, func(r *openRun) bool { return r.run.ID == run.ID })
		e.stir()
	}
}

// noteChecks notes which repositories a run checks.
func (m *memory) noteChecks(run store.PlanRun) {
	for _, t := range run.Tasks {
		switch {
		case t.Kind != job.Check:
		case t.State == fleet.RunRunning:
			m.checks[t.Repository] = run.ID
		case m.checks[t.Repository] == run.ID:
			delete(m.checks, t.Repository)
		}
	}
}

// stir has all open runs of a plan looked at.
func (e *entry) stir() {
	for _, r := range e.runs {
		r.dirty = true
	}
}

// order sorts runs by their begin.
func order(a, b fleet.Run) int {
	return cmp.Or(a.StartedAt.Compare(b.StartedAt), strings.Compare(a.ID, b.ID))
}

package plan

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

// standpoint is what the freshness of one row is decided by.
type standpoint struct {
	now     time.Time
	entry   *entry
	track   outline
	repo    repository
	created time.Time // when the host came
}

// ages are how old things are allowed to be. Each check may be late by a period of
// the schedule, as it comes with a backup.
func (e *entry) ages() (check, verify, restoreTest time.Duration) {
	if c := e.plan.Check; c != nil {
		check, verify = c.Every.Duration(), c.VerifyData.Duration()
	}
	if r := e.plan.RestoreTest; r != nil {
		restoreTest = r.Every.Duration()
	}
	late := func(every time.Duration) time.Duration {
		if every == 0 {
			return 0
		}
		return every + max(e.period, time.Hour)
	}
	return late(check), late(verify), late(restoreTest)
}

// lastGood returns the newest good backup of a row: the oldest of its parts, as a
// plan with dumps is as fresh as the oldest of them. Nil: one part is missing.
func (p *standpoint) lastGood() *fleet.BackupSummary {
	var oldest *fleet.BackupSummary
	if hasFiles(p.entry.plan.PlanSpec) {
		oldest = p.track.last
		if hook := p.entry.plan.ContentFrom; hook != "" { // its track is that of a dump
			if known, ok := p.track.dumps[hook]; ok {
				oldest = &known
			}
		}
		if oldest == nil {
			return nil
		}
	}
	for _, dump := range p.entry.plan.Dumps {
		known, ok := p.track.dumps[dump.Hook]
		if !ok {
			return nil
		}
		if oldest == nil || known.FinishedAt.Before(oldest.FinishedAt) {
			oldest = &known
		}
	}
	return oldest
}

// begun is when a row began to be due.
func (p *standpoint) begun() time.Time {
	began := p.entry.plan.CreatedAt
	if p.created.After(began) {
		began = p.created
	}
	return began
}

// resumed is when the plan's last pause ended; zero: there was none.
func (p *standpoint) resumed() time.Time {
	if pause := p.entry.plan.Pause; pause != nil && pause.Until != nil && !paused(pause, p.now) {
		return *pause.Until // which nobody has noted yet
	}
	return p.entry.plan.ResumedAt
}

// overdueAt is when a row becomes overdue, zero for never. In a pause nothing is
// expected: after it, age counts from its end until a run had its chance.
func (p *standpoint) overdueAt(last *fleet.BackupSummary) (at time.Time) {
	switch {
	case p.entry.maxAge <= 0:
		return time.Time{}
	case last != nil:
		at = last.FinishedAt.Add(p.entry.maxAge)
	default:
		at = p.begun().Add(p.entry.period + p.entry.maxAge)
	}
	resumed := p.resumed()
	if had := p.track.lastRunAt; resumed.IsZero() || had != nil && had.After(resumed) {
		return at
	}
	return later(at, resumed.Add(p.entry.maxAge))
}

// tooOldAt is when something becomes too old, zero for never. It comes with a
// backup, and so only with the first one after a pause.
func (p *standpoint) tooOldAt(last *time.Time, allowed time.Duration) (at time.Time) {
	switch {
	case allowed == 0:
		return time.Time{}
	case last != nil:
		at = last.Add(allowed)
	default:
		at = p.begun().Add(allowed)
	}
	if resumed := p.resumed(); !resumed.IsZero() {
		return later(at, resumed.Add(2*max(p.entry.period, time.Hour)))
	}
	return at
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func past(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// fault is why a row is not fresh.
type fault struct {
	state fleet.FreshState
	kind  string // of its condition
	since time.Time
	data  bool // a check with all data
}

// faults returns why a row is not fresh, the worst first. Of a plan that is paused
// nothing is expected.
func (p *standpoint) faults(last *fleet.BackupSummary) (faults []fault) {
	if !paused(p.entry.plan.Pause, p.now) {
		if at := p.overdueAt(last); past(at, p.now) {
			faults = append(faults, fault{state: fleet.Overdue, kind: "overdue", since: at})
		}
		check, verify, restoreTest := p.entry.ages()
		if at := p.tooOldAt(latest(p.repo.lastCheck, p.repo.lastVerify), check); past(at, p.now) {
			faults = append(faults, fault{state: fleet.Stale, kind: "check_old", since: at})
		}
		if at := p.tooOldAt(p.repo.lastVerify, verify); past(at, p.now) {
			faults = append(faults, fault{state: fleet.Stale, kind: "check_old", since: at, data: true})
		}
		if at := p.tooOldAt(p.track.lastRestoreTest, restoreTest); past(at, p.now) {
			faults = append(faults, fault{state: fleet.Stale, kind: "restore_test_old", since: at})
		}
	}
	if held := p.track.held; held != nil && p.entry.plan.Suspicion != fleet.SuspectOff && past(held.At, p.now) {
		faults = append(faults, fault{state: fleet.Suspicious, kind: "suspicious", since: held.At})
	}
	return faults
}

// text says a fault to a person.
func (p *standpoint) text(f fault, last *fleet.BackupSummary) string {
	switch {
	case f.kind == "overdue":
		return p.overdueText(last)
	case f.kind == "suspicious":
		return heldMessage(*p.track.held)
	case f.kind == "restore_test_old":
		return oldText("restoring was tested with success", p.track.lastRestoreTest, p.now)
	case f.data:
		return oldText("all data of the repository was checked", p.repo.lastVerify, p.now)
	default:
		return oldText("the repository was checked", latest(p.repo.lastCheck, p.repo.lastVerify), p.now)
	}
}

func (p *standpoint) overdueText(last *fleet.BackupSummary) string {
	if last == nil {
		return "there was no good backup yet, for " + human.Duration(p.now.Sub(p.begun()))
	}
	return "the newest good backup is " + human.Duration(p.now.Sub(last.FinishedAt)) + " old, more than " + human.Duration(p.entry.maxAge)
}

func oldText(what string, last *time.Time, now time.Time) string {
	if last == nil {
		return "never yet " + what
	}
	return what + " " + human.Ago(*last, now) + ", the last time"
}

// state is how a row stands.
func (p *standpoint) state(last *fleet.BackupSummary, faults []fault) fleet.FreshState {
	switch {
	case len(faults) > 0:
		return faults[0].state
	case paused(p.entry.plan.Pause, p.now):
		return fleet.PlanPaused
	case last == nil:
		return fleet.NeverYet
	default:
		return fleet.Fresh
	}
}

// rank orders states, the best first.
var rank = map[fleet.FreshState]int{
	fleet.Fresh: 0, fleet.NeverYet: 1, fleet.PlanPaused: 2, fleet.Suspicious: 3, fleet.Stale: 4, fleet.Overdue: 5,
}

// worstState is the worst of rows; of none, that of a plan for nobody.
func worstState(e *entry, rows []fleet.Freshness, now time.Time) fleet.FreshState {
	if len(rows) == 0 {
		if paused(e.plan.Pause, now) {
			return fleet.PlanPaused
		}
		return fleet.NeverYet
	}
	state := fleet.Fresh
	for _, row := range rows {
		if rank[row.State] > rank[state] {
			state = row.State
		}
	}
	return state
}

// row is the freshness as it is shown.
func (p *standpoint) row(id trackID) fleet.Freshness {
	last := p.lastGood()
	faults := p.faults(last)
	f := fleet.Freshness{
		Plan: id.plan, Host: id.host, Repository: id.repository, State: p.state(last, faults), LastSuccess: last,
		MaxAge: p.entry.maxAge.Seconds(), NextRun: p.nextRun(id.host), LastRun: p.track.lastRun,
		LastCheck: latest(p.repo.lastCheck, p.repo.lastVerify), LastVerify: p.repo.lastVerify,
		LastRestoreTest: p.track.lastRestoreTest, RestoreTestJob: p.track.restoreTestJob, Suspicion: p.track.held,
	}
	if last != nil {
		age := p.now.Sub(last.FinishedAt).Seconds()
		f.Age = &age
	}
	switch {
	case len(faults) > 0:
		f.Message = p.text(faults[0], last)
	case f.State == fleet.PlanPaused:
		f.Message = pauseText(*p.entry.plan.Pause)
	}
	return f
}

func pauseText(p fleet.Pause) string {
	text := "paused by " + p.By
	if p.Until != nil {
		text += " until " + clock(*p.Until)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

func latest(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// nextRun is when a host is due next, with jitter; nil: not by itself.
func (p *standpoint) nextRun(host string) *time.Time {
	e := p.entry
	if e.table == nil || e.plan.Pause != nil && e.plan.Pause.Until == nil {
		return nil
	}
	next := e.next
	if e.plan.Pause != nil && paused(e.plan.Pause, p.now) {
		next = e.table.Next(*e.plan.Pause.Until)
	}
	if next.IsZero() {
		return nil
	}
	at := next.Add(e.delay(host))
	return &at
}

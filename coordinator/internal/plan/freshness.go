package plan

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// standpointOf gathers what a row is decided by. It is called with mem held.
func (s *Service) standpointOf(e *entry, id trackID, now time.Time) standpoint {
	return standpoint{
		now: now, entry: e, track: s.mem.tracks[id], repo: s.mem.repositories[id.repository], created: s.mem.hosts[id.host].CreatedAt,
	}
}

// freshnessOf returns the rows of a plan. It is called with mem held.
func (s *Service) freshnessOf(e *entry, now time.Time) []fleet.Freshness {
	rows := make([]fleet.Freshness, 0, len(e.hosts)*len(e.plan.Repositories))
	for _, id := range e.rows() {
		p := s.standpointOf(e, id, now)
		rows = append(rows, p.row(id))
	}
	return rows
}

// Freshness returns how every plan stands on each host and repository, by plan,
// host as the plan has it, repository.
func (s *Service) Freshness(context.Context) ([]fleet.Freshness, error) {
	now := s.now()
	s.mem.RLock()
	defer s.mem.RUnlock()
	rows := make([]fleet.Freshness, 0, len(s.mem.plans))
	for _, name := range slices.Sorted(maps.Keys(s.mem.plans)) {
		rows = append(rows, s.freshnessOf(s.mem.plans[name], now)...)
	}
	return rows, nil
}

// tellFreshness tells of plans whose freshness has changed by time alone. It is
// called under work.
func (s *Service) tellFreshness(now time.Time) {
	if at := s.toldAt.Add(lookAgain); now.Before(at) && !now.Before(s.toldAt) {
		return
	}
	s.toldAt = now
	for name, e := range s.mem.plans {
		changed := false
		for _, host := range e.hosts {
			for _, repository := range e.plan.Repositories {
				id := trackID{name, host, repository}
				p := s.standpointOf(e, id, now)
				last := p.lastGood()
				state := p.state(last, p.faults(last))
				before, told := e.told[id]
				changed = changed || told && before != state
				e.told[id] = state
			}
		}
		if changed {
			s.publish(name)
		}
	}
}

// Conditions returns what is wrong with the backups of plans now, and needs a
// person.
func (s *Service) Conditions() []fleet.Condition {
	now := s.now()
	s.mem.RLock()
	defer s.mem.RUnlock()
	var found []fleet.Condition
	for _, name := range slices.Sorted(maps.Keys(s.mem.plans)) {
		e := s.mem.plans[name]
		seen := map[string]bool{}
		for _, id := range e.rows() {
			for _, c := range s.conditionsOf(e, id, now) {
				if !seen[c.Key()] { // the check of a repository is told of once
					seen[c.Key()] = true
					found = append(found, c)
				}
			}
		}
		if len(e.hosts) == 0 && !paused(e.plan.Pause, now) {
			found = append(found, noHosts(e))
		}
	}
	return found
}

func noHosts(e *entry) fleet.Condition {
	return fleet.Condition{
		Kind: "no_hosts", Severity: fleet.SeverityWarning, Plan: e.plan.Name, Since: e.plan.ChangedAt, Labels: e.plan.Labels,
		Message: "there is no host that plan " + e.plan.Name + " is for, and so it backs up nothing",
		Hint:    "give a host its labels, change the plan, or remove it",
	}
}

// conditionsOf returns what is wrong with one row. It is called with mem held.
func (s *Service) conditionsOf(e *entry, id trackID, now time.Time) []fleet.Condition {
	p := s.standpointOf(e, id, now)
	last := p.lastGood()
	var found []fleet.Condition
	for _, f := range p.faults(last) {
		found = append(found, s.condition(e, id, f, p.text(f, last)))
	}
	if at := p.track.missed; at != nil && !paused(e.plan.Pause, now) && (last == nil || last.FinishedAt.Before(*at)) {
		text := "a backup by plan " + id.plan + " of " + id.host + " to " + id.repository + " was missed"
		found = append(found, s.condition(e, id, fault{kind: "missed", since: *at}, text))
	}
	return found
}

// hints say what to do about conditions, by their kind.
var hints = map[string]string{
	"overdue":          "borgfleet plan history shows what became of its runs",
	"missed":           "the next run makes up for it; borgfleet plan run does so now",
	"check_old":        "borgfleet repo check checks it now",
	"restore_test_old": "borgfleet plan restore-test does it now",
	"suspicious":       "look at the newest archive; borgfleet plan accept takes it as right",
}

func (s *Service) condition(e *entry, id trackID, f fault, text string) fleet.Condition {
	c := fleet.Condition{
		Kind: f.kind, Severity: fleet.SeverityWarning, Host: id.host, Repository: id.repository, Plan: id.plan,
		Message: text, Hint: hints[f.kind], Since: f.since, Labels: map[string]string{},
	}
	switch f.kind {
	case "overdue":
		c.Severity = fleet.SeverityCritical
	case "suspicious":
		c.Severity, c.Job = fleet.SeverityCritical, s.mem.tracks[id].held.Job
	case "check_old":
		c.Host = ""
	}
	if c.Host != "" {
		maps.Copy(c.Labels, s.mem.hosts[id.host].Labels)
	}
	maps.Copy(c.Labels, e.plan.Labels)
	return c
}

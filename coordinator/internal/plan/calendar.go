package plan

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of a calendar.
const (
	maxCalendar    = 366 * 24 * time.Hour
	maxOccurrences = 20_000
)

// Calendar returns what is to come from a moment on, until another, by time. A run
// whose moment comes before from, and whose jitter after it, is among them. The
// error is a *job.Failure when the times are at fault.
func (s *Service) Calendar(_ context.Context, from, to time.Time) ([]fleet.Occurrence, error) {
	if !from.Before(to) || to.Sub(from) > maxCalendar {
		return nil, job.Invalid("to", "%s is not within a year after from", clock(to)).WithHint("give a later one, for example a day after from")
	}
	now := s.now()
	s.mem.RLock()
	defer s.mem.RUnlock()
	found := []fleet.Occurrence{}
	for _, e := range s.mem.plans {
		found = s.occurrences(found, e, from, to, now)
		if len(found) > maxOccurrences {
			return nil, job.Invalid("to", "more than %d runs until then", maxOccurrences).WithHint("ask for a shorter time")
		}
	}
	slices.SortFunc(found, func(a, b fleet.Occurrence) int {
		return cmp.Or(a.At.Compare(b.At), strings.Compare(a.Plan, b.Plan), strings.Compare(a.Host, b.Host))
	})
	return found, nil
}

// occurrences adds what is to come of one plan.
func (s *Service) occurrences(found []fleet.Occurrence, e *entry, from, to, now time.Time) []fleet.Occurrence {
	if e.table == nil || e.plan.Pause != nil && e.plan.Pause.Until == nil {
		return found
	}
	begin := from.Add(-e.plan.Schedule.Jitter.Duration() - time.Nanosecond)
	if pause := e.plan.Pause; pause != nil && pause.Until.After(begin) {
		begin = *pause.Until
	}
	for due := e.table.Next(begin); !due.IsZero() && due.Before(to) && len(found) <= maxOccurrences; due = e.table.Next(due) {
		for _, host := range e.hosts {
			at := due.Add(e.delay(host))
			if at.Before(from) || !at.Before(to) || at.Before(now) {
				continue
			}
			found = append(found, fleet.Occurrence{Plan: e.plan.Name, Host: host, At: at, Due: due, Seconds: s.expected(e, host)})
		}
	}
	return found
}

// expected is how long the backups of a host usually take.
func (s *Service) expected(e *entry, host string) (seconds float64) {
	for _, repository := range e.plan.Repositories {
		seconds += s.mem.tracks[trackID{e.plan.Name, host, repository}].seconds
	}
	return seconds
}

// coming returns the next moments at which a plan is due.
func (e *entry) coming(now time.Time, count int) []time.Time {
	coming := []time.Time{}
	if e.table == nil || e.plan.Pause != nil && e.plan.Pause.Until == nil {
		return coming
	}
	at := now
	if pause := e.plan.Pause; pause != nil && pause.Until.After(at) {
		at = *pause.Until
	}
	for range count {
		if at = e.table.Next(at); at.IsZero() {
			break
		}
		coming = append(coming, at)
	}
	return coming
}

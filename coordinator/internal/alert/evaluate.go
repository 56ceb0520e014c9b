package alert

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// evaluate compares what holds with what is stored, stores the difference in one
// transaction, and then says it. Unless it is settled nothing is resolved.
func (s *Service) evaluate(ctx context.Context, settled bool) error {
	conditions, err := s.options.Conditions(ctx)
	if err != nil {
		return fmt.Errorf("see what holds: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.options.Now().UTC()
	d := difference{now: now}
	held := merged(conditions)
	for _, key := range slices.Sorted(maps.Keys(held)) {
		s.compare(&d, key, held[key])
	}
	for _, key := range slices.Sorted(maps.Keys(s.open)) {
		if _, holds := held[key]; !holds && settled {
			d.resolve(s.open[key])
		}
	}
	silences := s.expire(&d)
	prune := now.Sub(s.pruned) >= pruneEvery
	if prune {
		d.changes = append(d.changes, store.PruneAlerts(keepResolved))
	}
	if len(d.changes) == 0 {
		return nil
	}
	if err := s.apply(d.changes...); err != nil {
		return fmt.Errorf("store alerts: %w", err)
	}
	s.silences = silences
	if prune {
		s.pruned = now
	}
	s.publish(d.alerts)
	return nil
}

// publish changes memory, and says what has changed. The caller holds mu.
func (s *Service) publish(alerts []fleet.Alert) {
	for _, alert := range alerts {
		if alert.ResolvedAt != nil {
			delete(s.open, alert.Key())
			delete(s.updated, alert.ID)
		} else {
			s.open[alert.Key()] = alert
			s.updated[alert.ID] = s.options.Now()
		}
		s.options.Feed.Publish(feed.Update{
			Type: feed.AlertChanged, Alert: &alert, Host: alert.Host, Repository: alert.Repository, Plan: alert.Plan,
		})
	}
}

// merged returns conditions by key. Of those that are the same one the worst
// counts, and of those the newest.
func merged(conditions []fleet.Condition) map[string]fleet.Condition {
	byKey := make(map[string]fleet.Condition, len(conditions))
	for _, c := range conditions {
		old, found := byKey[c.Key()]
		worse := c.Severity != old.Severity && c.Severity.AtLeast(old.Severity)
		if !found || worse || c.Severity == old.Severity && c.Since.After(old.Since) {
			if found && len(c.Labels) == 0 {
				c.Labels = old.Labels
			}
			byKey[c.Key()] = c
		}
	}
	return byKey
}

// difference is what has to be stored, and then said.
type difference struct {
	now     time.Time
	changes []store.Change
	alerts  []fleet.Alert // as they are afterwards
}

func (d *difference) resolve(alert fleet.Alert) {
	alert.ResolvedAt, alert.Silenced = &d.now, ""
	d.changes = append(d.changes, store.ResolveAlert(alert.ID, d.now))
	d.alerts = append(d.alerts, alert)
}

// compare raises what was not there, and notes what is said otherwise now.
func (s *Service) compare(d *difference, key string, c fleet.Condition) {
	alert, known := s.open[key]
	if !known {
		if c.Since.IsZero() {
			c.Since = d.now
		}
		alert = fleet.Alert{ID: string(job.NewID(d.now)), Condition: c, RaisedAt: d.now, Told: []string{}}
		alert.Silenced = s.silencer(alert.Condition, d.now)
		d.changes, d.alerts = append(d.changes, store.RaiseAlert(alert)), append(d.alerts, alert)
		return
	}
	c.Since = cmp.Or(c.Since, alert.Since)
	changed := differs(alert.Condition, c) || alert.Message != c.Message && d.now.Sub(s.updated[alert.ID]) >= steady
	if changed {
		alert.Condition = c
		d.changes = append(d.changes, store.UpdateAlert(alert.ID, c))
	}
	if silence := s.silencer(c, d.now); silence != alert.Silenced {
		alert.Silenced, changed = silence, true
		d.changes = append(d.changes, store.SetSilenced(alert.ID, silence))
	}
	if changed {
		d.alerts = append(d.alerts, alert)
	}
}

// differs reports whether something other than its sentence has changed, which
// may say how long it has been.
func differs(a, b fleet.Condition) bool {
	return a.Severity != b.Severity || a.Job != b.Job || a.Hint != b.Hint || !maps.Equal(a.Labels, b.Labels)
}

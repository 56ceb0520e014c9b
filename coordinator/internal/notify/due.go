package notify

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// This file decides what is to be told: by what holds, what the rules say, and
// what was put down before. It depends on no event having been seen.

// effective returns the rules that count: those that are stored, or the default
// one. The caller holds mu.
func (s *Service) effective() []fleet.Rule {
	if len(s.rules) > 0 {
		return s.rules
	}
	return []fleet.Rule{{Name: defaultRule, Severity: fleet.SeverityWarning, Targets: slices.Sorted(maps.Keys(s.targets))}}
}

// round is what one look finds that is to be sent.
type round struct {
	now        time.Time
	changes    []store.Change
	deliveries []store.Delivery
	marks      map[string]map[string]store.Mark // by alert, then key of the mark
	runs       int                              // how many of the runs that wait are in it
	passed     int                              // and of those that nobody wants to know of
}

// look returns what is to be sent now. The caller holds mu.
func (s *Service) look(now time.Time) (*round, error) {
	r := &round{now: now, changes: s.over(), marks: map[string]map[string]store.Mark{}, runs: len(s.runs), passed: len(s.passed)}
	alerts := slices.SortedFunc(maps.Values(s.alerts), func(a, b *store.Alert) int { return strings.Compare(a.ID, b.ID) })
	for _, rule := range s.effective() {
		open, err := hoursOf(rule)
		if err != nil {
			s.logger.Error("rule of notification cannot be read", "rule", rule.Name, "err", err)
		}
		if rule.Disabled || err != nil {
			continue
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(rule.Targets))) {
			t, known := s.targets[name]
			if !known || t.record.Disabled {
				continue
			}
			if err := s.planRuns(r, rule, t); err != nil {
				return nil, err
			}
			if !open.open(now) {
				continue
			}
			if err := s.planAlerts(r, rule, t, alerts); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// planAlerts adds one message of all that a rule has to tell a target, once the
// first of it has waited for others.
func (s *Service) planAlerts(r *round, rule fleet.Rule, t *target, alerts []*store.Alert) error {
	var items []Item
	key, ready := store.MarkKey(rule.Name, t.record.Name), false
	for _, alert := range alerts {
		status, since := due(&rule, t.record.Name, alert, r.now)
		if status == "" {
			continue
		}
		items = append(items, Item{Status: status, Alert: alert.Alert})
		ready = ready || !since.Add(groupOf(rule)).After(r.now)
	}
	if !ready {
		return nil
	}
	slices.SortStableFunc(items, byUrgency)
	all := make([]string, len(items))
	for i, item := range items {
		all[i] = item.ID
		mark := store.Mark{At: r.now, Severity: item.Severity, Resolved: item.Status == Resolved}
		r.changes = append(r.changes, store.MarkAlert(item.ID, key, mark))
		if r.marks[item.ID] == nil {
			r.marks[item.ID] = map[string]store.Mark{}
		}
		r.marks[item.ID][key] = mark
	}
	return r.add(rule, t, all, alertMessage(items, s.options.URL))
}

// byUrgency sorts what is new before what still holds, and that before what is
// over; in each the worst first.
func byUrgency(a, b Item) int {
	order := []Status{Raised, Repeated, Resolved}
	if d := slices.Index(order, a.Status) - slices.Index(order, b.Status); d != 0 {
		return d
	}
	return slices.Index(fleet.Severities(), b.Severity) - slices.Index(fleet.Severities(), a.Severity)
}

// due says whether, and since when, a rule has to tell a target of an alert, and
// why. The zero time does not wait for others.
func due(rule *fleet.Rule, target string, alert *store.Alert, now time.Time) (Status, time.Time) {
	mark, marked := alert.Marks[store.MarkKey(rule.Name, target)]
	switch {
	case alert.ResolvedAt != nil:
		if !marked || mark.Resolved || rule.NoResolved {
			return "", time.Time{}
		}
		return Resolved, *alert.ResolvedAt
	case alert.Silenced != "" || alert.Target == target || marked && alert.Severity == mark.Severity && !repeats(rule, mark, now):
		return "", time.Time{}
	case !matches(rule, &alert.Condition):
		return "", time.Time{}
	case !marked:
		return Raised, alert.RaisedAt
	case alert.Severity != mark.Severity && alert.Severity.AtLeast(mark.Severity):
		return Raised, time.Time{}
	case repeats(rule, mark, now):
		return Repeated, time.Time{}
	default:
		return "", time.Time{}
	}
}

// repeats reports whether it is time to tell again of what was told.
func repeats(rule *fleet.Rule, mark store.Mark, now time.Time) bool {
	after := repeatOf(rule)
	return after > 0 && now.Sub(mark.At) >= after
}

// add puts a message down.
func (r *round) add(rule fleet.Rule, t *target, alerts []string, m Message) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message of rule %s: %w", rule.Name, err)
	}
	r.deliveries = append(r.deliveries, store.Delivery{
		Delivery: fleet.Delivery{
			ID: string(job.NewID(r.now)), At: r.now, Target: t.record.Name, Rule: rule.Name, Alerts: alerts, Subject: m.Subject,
		},
		Message: data,
	})
	return nil
}

// outstanding reports whether something may have to be told of an alert. The
// caller holds mu.
func (s *Service) outstanding(alert *store.Alert) bool {
	if alert.ResolvedAt == nil {
		return true
	}
	for _, rule := range s.effective() {
		for _, target := range rule.Targets {
			t, known := s.targets[target]
			if known && !t.record.Disabled && !rule.Disabled {
				if status, _ := due(&rule, target, alert, *alert.ResolvedAt); status != "" {
					return true
				}
			}
		}
	}
	return false
}

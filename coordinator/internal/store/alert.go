package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// Alert is an alert with what must be remembered of who is to be told of it.
type Alert struct {
	fleet.Alert
	// Marks say by rule and target, see [MarkKey], what was last put down to be sent.
	Marks map[string]Mark `json:"marks,omitempty"`
}

// Mark is what was last put down to be sent of an alert by one rule to one target.
type Mark struct {
	At       time.Time      `json:"at"`
	Severity fleet.Severity `json:"severity"` // that the alert had then
	Resolved bool           `json:"resolved"` // it says that the alert is over
}

// MarkKey is the key of a mark.
func MarkKey(rule, target string) string { return rule + "/" + target }

// RaiseAlert stores a new alert, which holds; [ErrExists] if one of the same
// condition does.
func RaiseAlert(a fleet.Alert) Change { return alertRaise{a} }

// UpdateAlert stores what is now known of the condition of an alert that holds.
// One that does not is left as it is.
func UpdateAlert(id string, c fleet.Condition) Change {
	return alertEdit{id, func(a *Alert) {
		if a.ResolvedAt == nil {
			a.Condition = c
		}
	}}
}

// ResolveAlert stores that the condition of an alert is gone.
func ResolveAlert(id string, at time.Time) Change { return alertResolve{id, at} }

// SetSilenced stores which silence keeps an alert quiet; empty: none.
func SetSilenced(id, silence string) Change {
	return alertEdit{id, func(a *Alert) { a.Silenced = silence }}
}

// MarkAlert stores what is put down to be sent of an alert.
func MarkAlert(id, key string, m Mark) Change {
	return alertEdit{id, func(a *Alert) {
		if a.Marks == nil {
			a.Marks = map[string]Mark{}
		}
		a.Marks[key] = m
	}}
}

// NoteTold stores that a target has been told of an alert. One that is not there
// any more is left so.
func NoteTold(id, target string, at time.Time) Change {
	return alertEdit{id, func(a *Alert) {
		if !slices.Contains(a.Told, target) {
			a.Told = append(a.Told, target)
		}
		a.ToldAt = &at
	}}
}

// PruneAlerts drops the oldest of the alerts that do not hold, all but so many.
func PruneAlerts(keep int) Change { return alertPrune{keep} }

type alertRaise struct{ alert fleet.Alert }

func (c alertRaise) apply(tx *transaction) error {
	key := c.alert.Key()
	if tx.has(bucketAlertsOpen, key) {
		return fmt.Errorf("alert of %s %w", key, ErrExists)
	}
	return errors.Join(
		recordPut{bucket: bucketAlerts, key: c.alert.ID, value: Alert{Alert: c.alert}, create: true}.apply(tx),
		tx.putBytes(bucketAlertsOpen, []byte(key), []byte(c.alert.ID)),
	)
}

type alertEdit struct {
	id   string
	edit func(*Alert)
}

func (c alertEdit) apply(tx *transaction) error {
	alert, found, err := get[Alert](tx.tx, bucketAlerts, c.id)
	if err != nil || !found {
		return err
	}
	c.edit(&alert)
	return tx.put(bucketAlerts, c.id, alert)
}

type alertResolve struct {
	id string
	at time.Time
}

func (c alertResolve) apply(tx *transaction) error {
	alert, found, err := get[Alert](tx.tx, bucketAlerts, c.id)
	if err != nil || !found || alert.ResolvedAt != nil {
		return err
	}
	alert.ResolvedAt, alert.Silenced = &c.at, ""
	return errors.Join(tx.put(bucketAlerts, c.id, alert), tx.delete(bucketAlertsOpen, []byte(alert.Key())))
}

type alertPrune struct{ keep int }

func (c alertPrune) apply(tx *transaction) error {
	kept := 0
	for _, key := range slices.Backward(keysWithPrefix(tx.bucket(bucketAlerts), nil)) {
		alert, _, err := get[Alert](tx.tx, bucketAlerts, string(key))
		if err != nil {
			return err
		}
		if alert.ResolvedAt == nil {
			continue
		}
		if kept++; kept > c.keep {
			if err := tx.delete(bucketAlerts, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Alert returns an alert.
func (s *Store) Alert(id string) (Alert, bool, error) { return one[Alert](s, bucketAlerts, id) }

// AllAlerts returns every alert that is remembered, oldest first.
func (s *Store) AllAlerts() ([]Alert, error) { return many[Alert](s, bucketAlerts, "") }

// OpenAlerts returns the alerts that hold, oldest first.
func (s *Store) OpenAlerts() (alerts []Alert, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		alerts, err = openAlerts(tx)
		return err
	})
	return alerts, err
}

func openAlerts(tx *bbolt.Tx) ([]Alert, error) {
	alerts := []Alert{}
	for _, id := range openAlertIDs(tx) {
		alert, found, err := get[Alert](tx, bucketAlerts, id)
		if err != nil || !found {
			return nil, errors.Join(err, fmt.Errorf("alert %s holds, found %v", id, found))
		}
		alerts = append(alerts, alert)
	}
	return alerts, nil
}

// openAlertIDs returns the ids of the alerts that hold, oldest first.
func openAlertIDs(tx *bbolt.Tx) []string {
	var ids []string
	cursor := tx.Bucket([]byte(bucketAlertsOpen)).Cursor()
	for key, id := cursor.First(); key != nil; key, id = cursor.Next() {
		ids = append(ids, string(id))
	}
	slices.Sort(ids)
	return ids
}

// Cursors of pages of alerts begin so, and an id follows.
const (
	cursorOpen     = "open-"
	cursorResolved = "resolved-"
)

// Alerts returns one page of the alerts that a filter chooses: those that hold
// first, then newest first. The error is a *job.Failure when the filter is at fault.
func (s *Store) Alerts(f fleet.AlertFilter) (fleet.AlertPage, error) {
	p := alertPager{filter: f, limit: cmp.Or(f.Limit, job.DefaultPage), page: fleet.AlertPage{Alerts: []fleet.Alert{}}}
	if f.Limit < 0 || f.Limit > job.MaxPage {
		return p.page, job.Invalid("limit", "%d is not between 1 and %d", f.Limit, job.MaxPage)
	}
	belowResolved, inResolved := strings.CutPrefix(f.Cursor, cursorResolved)
	below, inOpen := strings.CutPrefix(f.Cursor, cursorOpen)
	if f.Cursor != "" && !inResolved && !inOpen {
		return p.page, job.Invalid("cursor", "%q did not come from a list", f.Cursor)
	}
	if !inResolved {
		belowResolved = highest
	}
	err := s.db.View(func(tx *bbolt.Tx) error {
		holding := openAlertIDs(tx)
		p.page.Open = len(holding)
		for _, id := range slices.Backward(holding) {
			if inResolved || inOpen && id >= below {
				continue
			}
			alert, _, err := get[Alert](tx, bucketAlerts, id)
			if err != nil || !p.add(alert.Alert, cursorOpen) {
				return err
			}
		}
		return p.addResolved(tx, belowResolved)
	})
	return p.page, err
}

// alertPager fills one page.
type alertPager struct {
	filter fleet.AlertFilter
	limit  int
	page   fleet.AlertPage
}

// add adds an alert if it is chosen, and reports whether there is room for more.
func (p *alertPager) add(alert fleet.Alert, cursor string) bool {
	if !choosesAlert(p.filter, alert) {
		return true
	}
	if n := len(p.page.Alerts); n == p.limit {
		last := p.page.Alerts[n-1]
		if last.ResolvedAt == nil {
			cursor = cursorOpen
		}
		p.page.Cursor = cursor + last.ID
		return false
	}
	p.page.Alerts = append(p.page.Alerts, alert)
	return true
}

// addResolved adds the alerts that do not hold and whose id is below another.
func (p *alertPager) addResolved(tx *bbolt.Tx, below string) error {
	if p.filter.Open {
		return nil
	}
	cursor := tx.Bucket([]byte(bucketAlerts)).Cursor()
	for key, data := seekBelow(cursor, []byte(below)); key != nil; key, data = cursor.Prev() {
		var alert Alert
		if err := json.Unmarshal(data, &alert); err != nil {
			return fmt.Errorf("decode alert %s: %w", key, err)
		}
		if alert.ResolvedAt != nil && !p.add(alert.Alert, cursorResolved) {
			return nil
		}
	}
	return nil
}

func choosesAlert(f fleet.AlertFilter, a fleet.Alert) bool {
	for _, pair := range [][2]string{
		{f.Kind, a.Kind}, {f.Host, a.Host}, {f.Repository, a.Repository}, {f.Plan, a.Plan}, {string(f.Severity), string(a.Severity)},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// PutSilence stores a silence.
func PutSilence(s fleet.Silence) Change {
	return recordPut{bucket: bucketSilences, key: s.ID, value: s}
}

// DeleteSilence removes a silence; [ErrMissing] if there is no such silence.
func DeleteSilence(id string) Change {
	return recordDelete{bucket: bucketSilences, key: id, require: true}
}

// Silences returns every silence, oldest first.
func (s *Store) Silences() ([]fleet.Silence, error) {
	return many[fleet.Silence](s, bucketSilences, "")
}

package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// Target is a target of notifications with what must be remembered of it. Its
// address is kept among the secrets: see [TargetSecret].
type Target struct {
	fleet.Target
	LeftOut int `json:"left_out,omitempty"` // messages that were, since one went well
	// GaveUpAt is when a message to it was last given up; null: none since one went
	// well.
	GaveUpAt *time.Time `json:"gave_up_at,omitempty"`
}

// TargetSecret is where the address of a target is kept, encrypted.
func TargetSecret(name string) string { return "target/" + name }

// TargetKey is where the key of a target's signatures is kept, encrypted.
func TargetKey(name string) string { return "target_key/" + name }

// PutTarget stores a target, new or not.
func PutTarget(t Target) Change { return recordPut{bucket: bucketTargets, key: t.Name, value: t} }

// DeleteTarget removes a target with its address, its key and what is still to be
// sent to it; [ErrMissing] if there is no such target.
func DeleteTarget(name string) Change { return targetDelete{name} }

type targetDelete struct{ name string }

func (c targetDelete) apply(tx *transaction) error {
	if err := (recordDelete{bucket: bucketTargets, key: c.name, require: true}).apply(tx); err != nil {
		return err
	}
	open, err := openDeliveries(tx.tx)
	for _, d := range open {
		if d.Target == c.name {
			d.GivenUp, d.Error = true, "the target was removed"
			err = errors.Join(err, deliveryPut{d}.apply(tx))
		}
	}
	return errors.Join(err,
		tx.delete(bucketSecrets, []byte(TargetSecret(c.name))), tx.delete(bucketSecrets, []byte(TargetKey(c.name))))
}

// Targets returns every target by name.
func (s *Store) Targets() ([]Target, error) { return many[Target](s, bucketTargets, "") }

// PutRule stores a rule of notification, new or not.
func PutRule(r fleet.Rule) Change { return recordPut{bucket: bucketRules, key: r.Name, value: r} }

// DeleteRule removes a rule of notification; [ErrMissing] if there is no such rule.
func DeleteRule(name string) Change {
	return recordDelete{bucket: bucketRules, key: name, require: true}
}

// Rules returns every rule of notification by name.
func (s *Store) Rules() ([]fleet.Rule, error) { return many[fleet.Rule](s, bucketRules, "") }

// Delivery is a message that was sent, or is to be, with what is in it.
type Delivery struct {
	fleet.Delivery
	Message json.RawMessage `json:"message,omitempty"` // kept until it is over
}

// over reports whether nothing will become of a delivery any more.
func (d Delivery) over() bool { return d.SentAt != nil || d.GivenUp }

// PutDelivery stores a delivery, new or not. What is in it is dropped when it is
// over. One that was removed by [PruneDeliveries] meanwhile comes back.
func PutDelivery(d Delivery) Change { return deliveryPut{d} }

type deliveryPut struct{ delivery Delivery }

func (c deliveryPut) apply(tx *transaction) error {
	d := c.delivery
	if d.over() {
		d.Message = nil
		return errors.Join(tx.put(bucketDeliveries, d.ID, d), tx.delete(bucketDeliveriesOpen, []byte(d.ID)))
	}
	return errors.Join(tx.put(bucketDeliveries, d.ID, d), tx.putBytes(bucketDeliveriesOpen, []byte(d.ID), []byte(d.Target)))
}

// PruneDeliveries drops the oldest deliveries that are over, all but so many.
func PruneDeliveries(keep int) Change { return deliveryPrune{keep} }

type deliveryPrune struct{ keep int }

func (c deliveryPrune) apply(tx *transaction) error {
	kept := 0
	for _, key := range slices.Backward(keysWithPrefix(tx.bucket(bucketDeliveries), nil)) {
		if tx.has(bucketDeliveriesOpen, string(key)) {
			continue
		}
		if kept++; kept > c.keep {
			if err := tx.delete(bucketDeliveries, key); err != nil {
				return err
			}
		}
	}
	return nil
}

// OpenDeliveries returns what is still to be sent, oldest first.
func (s *Store) OpenDeliveries() (open []Delivery, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		open, err = openDeliveries(tx)
		return err
	})
	return open, err
}

func openDeliveries(tx *bbolt.Tx) ([]Delivery, error) {
	open := []Delivery{}
	for _, key := range keysWithPrefix(tx.Bucket([]byte(bucketDeliveriesOpen)), nil) {
		d, found, err := get[Delivery](tx, bucketDeliveries, string(key))
		if err != nil || !found {
			return nil, errors.Join(err, fmt.Errorf("delivery %s is to be sent, found %v", key, found))
		}
		open = append(open, d)
	}
	return open, nil
}

// Deliveries returns one page of what was sent, or is to be, to a target, or with
// an empty name to all: newest first, and the cursor of the next page; empty: that
// was the last. The error is a *job.Failure when the limit is at fault.
func (s *Store) Deliveries(target string, limit int, cursor string) (page []fleet.Delivery, next string, err error) {
	page = []fleet.Delivery{}
	if limit < 0 || limit > job.MaxPage {
		return page, "", job.Invalid("limit", "%d is not between 1 and %d", limit, job.MaxPage)
	}
	limit = cmp.Or(limit, job.DefaultPage)
	err = s.db.View(func(tx *bbolt.Tx) error {
		walker := tx.Bucket([]byte(bucketDeliveries)).Cursor()
		for key, data := seekBelow(walker, []byte(cmp.Or(cursor, highest))); key != nil; key, data = walker.Prev() {
			var d Delivery
			if err := json.Unmarshal(data, &d); err != nil {
				return fmt.Errorf("decode delivery %s: %w", key, err)
			}
			switch {
			case target != "" && d.Target != target:
			case len(page) == limit:
				next = page[limit-1].ID
				return nil
			default:
				page = append(page, d.Delivery)
			}
		}
		return nil
	})
	return page, next, err
}

// checkNotifications checks that the indexes of what holds, and of what is to be
// sent, say what the alerts and the deliveries say.
func checkNotifications(tx *bbolt.Tx) error {
	alerts, errAlerts := all[Alert](tx, bucketAlerts, "")
	holding := map[string]string{}
	for _, a := range alerts {
		if a.ResolvedAt == nil {
			holding[a.Key()] = a.ID
		}
	}
	deliveries, errDeliveries := all[Delivery](tx, bucketDeliveries, "")
	waiting := map[string]string{}
	for _, d := range deliveries {
		if !d.over() {
			waiting[d.ID] = d.Target
		}
	}
	return errors.Join(errAlerts, errDeliveries, compare(tx, bucketAlertsOpen, holding), compare(tx, bucketDeliveriesOpen, waiting))
}

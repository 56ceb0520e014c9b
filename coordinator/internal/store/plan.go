package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"go.etcd.io/bbolt"
)

// planRecord is a plan with what is not shown of it.
type planRecord struct {
	fleet.Plan
	Content string    `json:"canary_content,omitempty"`
	Resumed time.Time `json:"resumed_at,omitzero"`
}

func (r planRecord) plan() fleet.Plan {
	r.Plan.Canary, r.Plan.ResumedAt = r.Content, r.Resumed
	return r.Plan
}

// planCursor is how far the schedule of a plan was followed.
type planCursor struct {
	Plan string    `json:"plan"`
	At   time.Time `json:"at"`
}

// CreatePlan stores a new plan, whose schedule is followed from a moment on;
// [ErrExists] if the name is taken.
func CreatePlan(p fleet.Plan, from time.Time) Change {
	return planPut{plan: p, create: true, from: from}
}

// ChangePlan stores a plan that is there; [ErrMissing] if it is not.
func ChangePlan(p fleet.Plan) Change { return planPut{plan: p} }

// SetPlanCursor stores how far the schedule of a plan was followed. A plan that is
// not there is left so.
func SetPlanCursor(plan string, at time.Time) Change { return planCursorSet{plan: plan, at: at} }

// DeletePlan removes a plan with its runs and tracks; its jobs stay. [ErrMissing]
// if there is no such plan.
func DeletePlan(name string) Change { return planDelete{name: name} }

type planPut struct {
	plan   fleet.Plan
	create bool
	from   time.Time
}

func (c planPut) apply(tx *transaction) error {
	record := planRecord{Plan: c.plan, Content: c.plan.Canary, Resumed: c.plan.ResumedAt}
	if err := (recordPut{bucket: bucketPlans, key: c.plan.Name, value: record, create: c.create, change: !c.create}).apply(tx); err != nil {
		return err
	}
	if !c.create {
		return nil
	}
	return planCursorSet{plan: c.plan.Name, at: c.from}.apply(tx)
}

type planCursorSet struct {
	plan string
	at   time.Time
}

func (c planCursorSet) apply(tx *transaction) error {
	if !tx.has(bucketPlans, c.plan) {
		return nil
	}
	return tx.put(bucketPlanCursors, c.plan, planCursor{Plan: c.plan, At: c.at})
}

type planDelete struct{ name string }

func (c planDelete) apply(tx *transaction) error {
	if err := (recordRequire{bucketPlans, c.name}).apply(tx); err != nil {
		return err
	}
	prefix := []byte(pairKey(c.name, ""))
	for _, key := range keysWithPrefix(tx.bucket(bucketPlanRunsByPlan), prefix) {
		id := key[len(prefix):]
		if err := errors.Join(tx.delete(bucketPlanRuns, id), tx.delete(bucketPlanRunsOpen, id), tx.delete(bucketPlanRunsUntold, id)); err != nil {
			return err
		}
	}
	return errors.Join(
		tx.deletePrefix(bucketPlanRunsByPlan, prefix), tx.deletePrefix(bucketTracks, prefix),
		tx.delete(bucketPlanCursors, []byte(c.name)), tx.delete(bucketPlans, []byte(c.name)),
	)
}

// Plan returns a plan.
func (s *Store) Plan(name string) (fleet.Plan, bool, error) {
	record, ok, err := one[planRecord](s, bucketPlans, name)
	return record.plan(), ok, err
}

// Plans returns every plan by name.
func (s *Store) Plans() ([]fleet.Plan, error) {
	records, err := many[planRecord](s, bucketPlans, "")
	plans := make([]fleet.Plan, len(records))
	for i, record := range records {
		plans[i] = record.plan()
	}
	return plans, err
}

// PlanCursors returns how far the schedule of each plan was followed.
func (s *Store) PlanCursors() (map[string]time.Time, error) {
	cursors := map[string]time.Time{}
	records, err := many[planCursor](s, bucketPlanCursors, "")
	for _, record := range records {
		cursors[record.Plan] = record.At
	}
	return cursors, err
}

// checkPlans checks that plans, their cursors and their runs name each other.
func checkPlans(tx *bbolt.Tx) error {
	byPlan, open := map[string]string{}, map[string]string{}
	runs, err := all[PlanRun](tx, bucketPlanRuns, "")
	faults := []error{err}
	for _, run := range runs {
		mark, err := run.mark()
		faults = append(faults, err)
		byPlan[pairKey(run.Plan, run.ID)] = string(mark)
		if run.FinishedAt == nil {
			open[run.ID] = run.Plan
		}
		if tx.Bucket([]byte(bucketPlans)).Get([]byte(run.Plan)) == nil {
			faults = append(faults, fmt.Errorf("run %s is of plan %s, which is not there", run.ID, run.Plan))
		}
	}
	err = tx.Bucket([]byte(bucketPlans)).ForEach(func(key, _ []byte) error {
		if tx.Bucket([]byte(bucketPlanCursors)).Get(key) == nil {
			faults = append(faults, fmt.Errorf("plan %s has no cursor", key))
		}
		return nil
	})
	return errors.Join(append(faults, err, compare(tx, bucketPlanRunsByPlan, byPlan), compare(tx, bucketPlanRunsOpen, open))...)
}

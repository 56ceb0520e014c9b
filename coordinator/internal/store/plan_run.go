package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// MaxPlanRuns is how many runs of each plan are kept.
const MaxPlanRuns = 200

// PlanRun is a run of a plan with what is not shown of it.
type PlanRun struct {
	fleet.Run
	Key       string `json:"key,omitempty"`       // idempotency key with which it was asked for
	Cancelled string `json:"cancelled,omitempty"` // who asked to end it; empty: nobody
}

// mark is the run in short, as the index by plan has it.
func (r PlanRun) mark() ([]byte, error) {
	mark := fleet.RunMark{ID: r.ID, State: r.State, Due: r.Due}
	if r.FinishedAt != nil {
		mark.Seconds = r.FinishedAt.Sub(r.StartedAt).Seconds()
	}
	return json.Marshal(mark)
}

// PutPlanRun stores a run, new or not. [ErrMissing] if its plan is not there. With
// the end of a run the oldest ones beyond [MaxPlanRuns] go, but none that is open.
func PutPlanRun(r PlanRun) Change { return planRunPut{run: r} }

type planRunPut struct{ run PlanRun }

func (c planRunPut) apply(tx *transaction) error {
	if err := (recordRequire{bucketPlans, c.run.Plan}).apply(tx); err != nil {
		return err
	}
	mark, err := c.run.mark()
	if err != nil {
		return fmt.Errorf("encode run %s: %w", c.run.ID, err)
	}
	err = errors.Join(
		tx.put(bucketPlanRuns, c.run.ID, c.run),
		tx.putBytes(bucketPlanRunsByPlan, []byte(pairKey(c.run.Plan, c.run.ID)), mark),
	)
	if err != nil {
		return err
	}
	if c.run.FinishedAt == nil {
		return tx.putBytes(bucketPlanRunsOpen, []byte(c.run.ID), []byte(c.run.Plan))
	}
	return errors.Join(tx.delete(bucketPlanRunsOpen, []byte(c.run.ID)), tx.trimRuns(c.run.Plan))
}

// trimRuns removes the oldest runs of a plan that are over, beyond those that are
// kept.
func (t *transaction) trimRuns(plan string) error {
	prefix := []byte(pairKey(plan, ""))
	keys := keysWithPrefix(t.bucket(bucketPlanRunsByPlan), prefix)
	for _, key := range keys[:max(0, len(keys)-MaxPlanRuns)] {
		id := key[len(prefix):]
		if t.bucket(bucketPlanRunsOpen).Get(id) != nil {
			continue
		}
		if err := errors.Join(t.delete(bucketPlanRuns, id), t.delete(bucketPlanRunsByPlan, key), t.delete(bucketPlanRunsUntold, id)); err != nil {
			return err
		}
	}
	return nil
}

// OweRun notes that somebody is to be told of the end of a run that is stored.
func OweRun(id string) Change { return runOwe{id} }

type runOwe struct{ id string }

func (c runOwe) apply(tx *transaction) error {
	return tx.putBytes(bucketPlanRunsUntold, []byte(c.id), []byte{})
}

// RunsTold notes that nobody is to be told of the ends of runs any more.
func RunsTold(ids []string) Change { return runsTold{ids} }

type runsTold struct{ ids []string }

func (c runsTold) apply(tx *transaction) error {
	for _, id := range c.ids {
		if err := tx.delete(bucketPlanRunsUntold, []byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// UntoldRuns returns the runs of whose ends somebody is to be told, oldest first.
func (s *Store) UntoldRuns() ([]PlanRun, error) { return s.runsIn(bucketPlanRunsUntold) }

// PlanRun returns a run.
func (s *Store) PlanRun(id string) (PlanRun, bool, error) {
	return one[PlanRun](s, bucketPlanRuns, id)
}

// OpenPlanRuns returns the runs that are not over, oldest first.
func (s *Store) OpenPlanRuns() ([]PlanRun, error) { return s.runsIn(bucketPlanRunsOpen) }

// runsIn returns the runs that an index names.
func (s *Store) runsIn(index string) (runs []PlanRun, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, id := range keysWithPrefix(tx.Bucket([]byte(index)), nil) {
			run, ok, err := get[PlanRun](tx, bucketPlanRuns, string(id))
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("run %s is in an index and %w", id, ErrMissing)
			}
			runs = append(runs, run)
		}
		return nil
	})
	return runs, err
}

// RunMarks returns the last runs of a plan in short, oldest first.
func (s *Store) RunMarks(plan string, limit int) (marks []fleet.RunMark, err error) {
	marks = []fleet.RunMark{}
	prefix := []byte(pairKey(plan, ""))
	err = s.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket([]byte(bucketPlanRunsByPlan)).Cursor()
		key, value := seekBelow(cursor, append(bytes.Clone(prefix), highest...))
		for ; bytes.HasPrefix(key, prefix) && len(marks) < limit; key, value = cursor.Prev() {
			var mark fleet.RunMark
			if err := json.Unmarshal(value, &mark); err != nil {
				return fmt.Errorf("decode run %s in short: %w", key[len(prefix):], err)
			}
			marks = append(marks, mark)
		}
		return nil
	})
	for i, j := 0, len(marks)-1; i < j; i, j = i+1, j-1 {
		marks[i], marks[j] = marks[j], marks[i]
	}
	return marks, err
}

// PlanRuns returns one page of the runs that the filter chooses, newest first. The
// error is a *job.Failure when the filter is at fault.
func (s *Store) PlanRuns(f fleet.RunFilter) (fleet.RunPage, error) {
	if f.Limit < 0 || f.Limit > job.MaxPage {
		return fleet.RunPage{}, job.Invalid("limit", "%d is not between 1 and %d", f.Limit, job.MaxPage)
	}
	if f.Cursor != "" {
		if _, err := job.ParseID(f.Cursor); err != nil {
			return fleet.RunPage{}, job.Invalid("cursor", "%q did not come from a list", f.Cursor)
		}
	}
	page := fleet.RunPage{Runs: []fleet.Run{}}
	err := s.db.View(func(tx *bbolt.Tx) error { return pageOfRuns(tx, f, &page) })
	return page, err
}

func pageOfRuns(tx *bbolt.Tx, f fleet.RunFilter, page *fleet.RunPage) error {
	bucket, prefix := bucketPlanRuns, []byte(nil)
	if f.Plan != "" {
		bucket, prefix = bucketPlanRunsByPlan, []byte(pairKey(f.Plan, ""))
	}
	lowest, limit := lowestID(f.Since), cmp.Or(f.Limit, job.DefaultPage)
	cursor := tx.Bucket([]byte(bucket)).Cursor()
	key, _ := seekBelow(cursor, append(bytes.Clone(prefix), cmp.Or(f.Cursor, highest)...))
	for ; key != nil && bytes.HasPrefix(key, prefix); key, _ = cursor.Prev() {
		id := string(key[len(prefix):])
		if id < lowest {
			return nil
		}
		run, ok, err := get[PlanRun](tx, bucketPlanRuns, id)
		if err != nil || !ok {
			return errors.Join(err, fmt.Errorf("run %s is in an index, found %v", id, ok))
		}
		if f.State != "" && run.State != f.State {
			continue
		}
		if len(page.Runs) == limit {
			page.Cursor = page.Runs[limit-1].ID
			return nil
		}
		page.Runs = append(page.Runs, run.Run)
	}
	return nil
}

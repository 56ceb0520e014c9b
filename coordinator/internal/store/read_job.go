package store

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// Job returns a job.
func (s *Store) Job(id job.ID) (job.Job, bool, error) {
	return one[job.Job](s, bucketJobs, string(id))
}

// JobByIdempotency returns the job that a key stands for.
func (s *Store) JobByIdempotency(key string) (job.ID, bool, error) {
	record, ok, err := one[idempotencyRecord](s, bucketIdempotency, key)
	return record.Job, ok, err
}

// OpenJobs returns the jobs in the given states, oldest first; without states,
// all that are not terminal.
func (s *Store) OpenJobs(states ...job.State) (jobs []job.Job, err error) {
	if len(states) == 0 {
		states = openStates()
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, state := range states {
			for id := range matching(tx, job.Filter{State: state}) {
				if jobs, err = appendJob(tx, jobs, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	slices.SortFunc(jobs, func(a, b job.Job) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return jobs, err
}

// appendJob reads a job that an index names.
func appendJob(tx *bbolt.Tx, jobs []job.Job, id job.ID) ([]job.Job, error) {
	j, ok, err := get[job.Job](tx, bucketJobs, string(id))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("job %s is in an index and %w", id, ErrMissing)
	}
	return append(jobs, j), nil
}

// Jobs returns one page of the jobs that the filter chooses, newest first. The
// error is a *job.Failure when the filter is at fault.
func (s *Store) Jobs(f job.Filter) (job.Page, error) {
	if err := f.Validate(); err != nil {
		return job.Page{}, err
	}
	limit := f.Limit
	if limit == 0 {
		limit = job.DefaultPage
	}
	page := job.Page{Jobs: []job.Job{}}
	err := s.db.View(func(tx *bbolt.Tx) (err error) {
		for id := range matching(tx, f) {
			if len(page.Jobs) == limit {
				page.Cursor = string(page.Jobs[limit-1].ID)
				return nil
			}
			if page.Jobs, err = appendJob(tx, page.Jobs, id); err != nil {
				return err
			}
		}
		return nil
	})
	return page, err
}

// Counts returns the number of jobs by state and kind, without those that are
// 0.
func (s *Store) Counts() ([]JobCount, error) {
	counts := []JobCount{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketJobCounts)).ForEach(func(key, value []byte) error {
			state, kind, _ := strings.Cut(string(key), "\x00")
			counts = append(counts, JobCount{State: job.State(state), Kind: job.Kind(kind), Count: int(number(value))})
			return nil
		})
	})
	return counts, err
}

// Recent returns the jobs that finished last, newest first.
func (s *Store) Recent(limit int) (jobs []job.Job, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket([]byte(bucketJobsFinished)).Cursor()
		for key, _ := cursor.Last(); key != nil && len(jobs) < limit; key, _ = cursor.Prev() {
			if jobs, err = appendJob(tx, jobs, job.ID(key[timeLength:])); err != nil {
				return err
			}
		}
		return nil
	})
	return jobs, err
}

// timeLength is the length of what timeBytes returns.
const timeLength = 8

// FinishedSince returns how many jobs finished at or after a moment, by state.
func (s *Store) FinishedSince(since time.Time) (map[job.State]int, error) {
	counts := map[job.State]int{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket([]byte(bucketJobsFinished)).Cursor()
		for key, state := cursor.Seek(timeBytes(since)); key != nil; key, state = cursor.Next() {
			counts[job.State(state)]++
		}
		return nil
	})
	return counts, err
}

// pruneBatch bounds how many jobs one transaction removes, so that other
// writers get their turn.
const pruneBatch = 500

// Prune removes finished jobs that finished before the given moment, and then
// the oldest finished ones until at most max are left; 0 means no bound, as
// does the zero time. It returns what it removed, also beside an error.
func (s *Store) Prune(before time.Time, maximum int) (removed []job.ID, err error) {
	for {
		batch, err := s.prunable(before, maximum)
		if err != nil || len(batch) == 0 {
			return removed, err
		}
		changes := make([]Change, len(batch))
		for i, id := range batch {
			changes[i] = DeleteJob(id)
		}
		if _, err := s.Apply(changes...); err != nil {
			return removed, fmt.Errorf("prune jobs: %w", err)
		}
		removed = append(removed, batch...)
	}
}

// prunable returns the next jobs to remove, oldest first.
func (s *Store) prunable(before time.Time, maximum int) (batch []job.ID, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		excess := 0
		if maximum > 0 {
			excess = finishedCount(tx) - maximum
		}
		cursor := tx.Bucket([]byte(bucketJobsFinished)).Cursor()
		for key, _ := cursor.First(); key != nil && len(batch) < pruneBatch; key, _ = cursor.Next() {
			old := !before.IsZero() && bytes.Compare(key[:timeLength], timeBytes(before)) < 0
			if !old && len(batch) >= excess {
				return nil
			}
			batch = append(batch, job.ID(key[timeLength:]))
		}
		return nil
	})
	return batch, err
}

// finishedCount is the number of terminal jobs.
func finishedCount(tx *bbolt.Tx) (total int) {
	cursor := tx.Bucket([]byte(bucketJobCounts)).Cursor()
	for key, value := cursor.First(); key != nil; key, value = cursor.Next() {
		state, _, _ := strings.Cut(string(key), "\x00")
		if job.State(state).Terminal() {
			total += int(number(value))
		}
	}
	return total
}

package store

import (
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
	sortByID(jobs)
	return jobs, err
}

// ActiveJobs returns the jobs that are sent or running, oldest first, of the
// host (when given) and the repository (when given).
func (s *Store) ActiveJobs(host, repository string) (jobs []job.Job, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, state := range []job.State{job.Sent, job.Running} {
			for id := range matchingAt(tx, job.Filter{State: state, Host: host, Repository: repository}) {
				if jobs, err = appendJob(tx, jobs, id); err != nil {
					return err
				}
			}
		}
		return nil
	})
	sortByID(jobs)
	return jobs, err
}

func sortByID(jobs []job.Job) {
	slices.SortFunc(jobs, func(a, b job.Job) int { return strings.Compare(string(a.ID), string(b.ID)) })
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

// CountActive returns how many jobs are sent or running, of the host (when
// given) and the repository (when given).
func (s *Store) CountActive(host, repository string) (count int, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, state := range []job.State{job.Sent, job.Running} {
			for range matchingAt(tx, job.Filter{State: state, Host: host, Repository: repository}) {
				count++
			}
		}
		return nil
	})
	return count, err
}

package store

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

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

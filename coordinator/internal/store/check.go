package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Check proves that the file's pages are sound and that every index says what
// the jobs say. It reads everything: seconds for a million jobs. The error
// joins all faults.
func (s *Store) Check() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		var faults []error
		for err := range tx.Check() {
			faults = append(faults, err)
		}
		if len(faults) > 0 {
			return errors.Join(faults...) // an unsound file cannot be walked
		}
		return checkIndexes(tx)
	})
}

// checkIndexes builds what the indexes should hold and compares.
func checkIndexes(tx *bbolt.Tx) error {
	index, ended, counts := map[string]string{}, map[string]string{}, map[string]string{}
	totals := map[string]uint64{}
	var faults []error
	err := tx.Bucket([]byte(bucketJobs)).ForEach(func(key, _ []byte) error {
		f, _, err := get[facets](tx, bucketJobs, string(key))
		if err != nil || string(f.ID) != string(key) {
			faults = append(faults, fmt.Errorf("job %q is stored as %q: %w", key, f.ID, errors.Join(err, f.check())))
			return nil
		}
		for _, entry := range f.indexKeys() {
			index[entry] = ""
		}
		if f.State.Terminal() {
			ended[string(f.finishedKey())] = string(f.State)
		}
		totals[pairKey(string(f.State), string(f.Kind))]++
		return nil
	})
	for key, total := range totals {
		counts[key] = string(numberBytes(total))
	}
	faults = append(faults, err,
		compare(tx, bucketJobIndex, index), compare(tx, bucketJobsFinished, ended),
		compare(tx, bucketJobCounts, counts), checkIdempotency(tx), checkAsides(tx), checkArchiveIndex(tx), checkNotifications(tx), checkPlans(tx))
	return errors.Join(faults...)
}

// compare checks that a bucket holds exactly what is wanted.
func compare(tx *bbolt.Tx, bucket string, want map[string]string) error {
	var faults []error
	err := tx.Bucket([]byte(bucket)).ForEach(func(key, value []byte) error {
		wanted, ok := want[string(key)]
		if !ok {
			faults = append(faults, fmt.Errorf("%s has %q, which belongs to nothing", bucket, key))
		} else if wanted != string(value) {
			faults = append(faults, fmt.Errorf("%s has %q for %q, not %q", bucket, value, key, wanted))
		}
		delete(want, string(key))
		return nil
	})
	for key := range want {
		faults = append(faults, fmt.Errorf("%s lacks %q", bucket, key))
	}
	return errors.Join(append(faults, err)...)
}

// checkIdempotency checks that keys and jobs name each other.
func checkIdempotency(tx *bbolt.Tx) error {
	want := map[string]string{}
	err := tx.Bucket([]byte(bucketIdempotency)).ForEach(func(key, _ []byte) error {
		record, _, err := get[idempotencyRecord](tx, bucketIdempotency, string(key))
		want[pairKey(string(record.Job), string(key))] = ""
		return err
	})
	return errors.Join(err, compare(tx, bucketIdempotencyByJob, want))
}

// checkAsides checks that what is kept beside a job has one, and that of a job that
// is over no passphrase is kept.
func checkAsides(tx *bbolt.Tx) error {
	var faults []error
	err := tx.Bucket([]byte(bucketAsides)).ForEach(func(key, _ []byte) error {
		aside, _, err := get[Aside](tx, bucketAsides, string(key))
		f, found, broken := get[facets](tx, bucketJobs, string(key))
		if err != nil || broken != nil || !found || aside.Passphrase != nil && f.State.Terminal() {
			faults = append(faults, fmt.Errorf("beside job %q, found %v, is what does not belong there: %w", key, found, errors.Join(err, broken)))
		}
		return nil
	})
	return errors.Join(append(faults, err)...)
}

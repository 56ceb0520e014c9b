package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"go.etcd.io/bbolt"
)

// get reads one JSON value.
func get[T any](tx *bbolt.Tx, bucket, key string) (value T, ok bool, err error) {
	data := tx.Bucket([]byte(bucket)).Get([]byte(key))
	if data == nil {
		return value, false, nil
	}
	if err := json.Unmarshal(data, &value); err != nil {
		return value, false, fmt.Errorf("decode %s: %w", object(bucket, key), err)
	}
	return value, true, nil
}

// all reads every JSON value of a bucket whose key begins with prefix, in the
// order of their keys.
func all[T any](tx *bbolt.Tx, bucket, prefix string) ([]T, error) {
	values := []T{}
	cursor := tx.Bucket([]byte(bucket)).Cursor()
	for key, data := cursor.Seek([]byte(prefix)); key != nil && bytes.HasPrefix(key, []byte(prefix)); key, data = cursor.Next() {
		var value T
		if err := json.Unmarshal(data, &value); err != nil {
			return nil, fmt.Errorf("decode %s: %w", object(bucket, string(key)), err)
		}
		values = append(values, value)
	}
	return values, nil
}

// keysWithPrefix returns copies of the keys that begin with prefix.
func keysWithPrefix(bucket *bbolt.Bucket, prefix []byte) [][]byte {
	var keys [][]byte
	cursor := bucket.Cursor()
	for key, _ := cursor.Seek(prefix); key != nil && bytes.HasPrefix(key, prefix); key, _ = cursor.Next() {
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

// one is get in a transaction of its own.
func one[T any](s *Store, bucket, key string) (value T, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		value, ok, err = get[T](tx, bucket, key)
		return err
	})
	return value, ok, err
}

// many is all in a transaction of its own.
func many[T any](s *Store, bucket, prefix string) (values []T, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		values, err = all[T](tx, bucket, prefix)
		return err
	})
	return values, err
}

// meta reads one number.
func (s *Store) meta(key string) (value uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		value = readMeta(tx, key)
		return nil
	})
	return value, err
}

// Sequence is the number of the last transaction.
func (s *Store) Sequence() (uint64, error) { return s.meta(metaSequence) }

// StreamPosition is the number up to which the events stream is stored; see
// [SetStreamPosition].
func (s *Store) StreamPosition() (uint64, error) { return s.meta(metaStream) }

// Host returns a host.
func (s *Store) Host(name string) (fleet.Host, bool, error) {
	return one[fleet.Host](s, bucketHosts, name)
}

// Hosts returns every host by name.
func (s *Store) Hosts() ([]fleet.Host, error) { return many[fleet.Host](s, bucketHosts, "") }

// Repository returns a repository.
func (s *Store) Repository(name string) (fleet.Repository, bool, error) {
	return one[fleet.Repository](s, bucketRepositories, name)
}

// Repositories returns every repository by name.
func (s *Store) Repositories() ([]fleet.Repository, error) {
	return many[fleet.Repository](s, bucketRepositories, "")
}

// RepositoryRecord returns what is known about a repository; the zero value if
// nothing is.
func (s *Store) RepositoryRecord(name string) (RepositoryRecord, error) {
	record, _, err := one[RepositoryRecord](s, bucketRepositoryRecords, name)
	return record, err
}

// BackupSummary returns the newest good backup of a host to a repository.
func (s *Store) BackupSummary(host, repository string) (fleet.BackupSummary, bool, error) {
	return one[fleet.BackupSummary](s, bucketBackups, pairKey(repository, host))
}

// BackupsOfHost returns a host's newest good backup to each repository.
func (s *Store) BackupsOfHost(host string) ([]fleet.BackupSummary, error) {
	return many[fleet.BackupSummary](s, bucketBackupsByHost, pairKey(host, ""))
}

// BackupsOfRepository returns the newest good backup of each host to a
// repository.
func (s *Store) BackupsOfRepository(repository string) ([]fleet.BackupSummary, error) {
	return many[fleet.BackupSummary](s, bucketBackups, pairKey(repository, ""))
}

// Runs returns the outcomes of a host's last backups, oldest first, at most
// [MaxRuns].
func (s *Store) Runs(host string) ([]job.State, error) {
	runs, _, err := one[[]job.State](s, bucketRuns, host)
	return runs, err
}

// Secret returns an encrypted secret.
func (s *Store) Secret(name string) (ciphertext []byte, ok bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		ciphertext = bytes.Clone(tx.Bucket([]byte(bucketSecrets)).Get([]byte(name)))
		return nil
	})
	return ciphertext, ciphertext != nil, err
}

// HasSecrets reports whether any secret is stored.
func (s *Store) HasSecrets() (has bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		key, _ := tx.Bucket([]byte(bucketSecrets)).Cursor().First()
		has = key != nil
		return nil
	})
	return has, err
}

// Baseline returns what the next backup under this key is measured against.
func (s *Store) Baseline(key string) (job.Baseline, bool, error) {
	return one[job.Baseline](s, bucketBaselines, key)
}

// AttemptStates returns the state of every attempt that is remembered, by job
// id.
func (s *Store) AttemptStates() ([]AttemptState, error) {
	return many[AttemptState](s, bucketAttempts, "")
}

// AttemptState returns the state of one attempt.
func (s *Store) AttemptState(id job.ID, attempt int) (AttemptState, bool, error) {
	return one[AttemptState](s, bucketAttempts, id.AttemptID(attempt))
}

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// transaction is what changes work on.
type transaction struct{ tx *bbolt.Tx }

func (t *transaction) bucket(name string) *bbolt.Bucket { return t.tx.Bucket([]byte(name)) }

// Apply makes all changes in one transaction, or none of them, and returns the
// transaction's number, which grows by one each time. When it returns without
// an error, the changes are on disk. It runs on the caller's goroutine, and
// concurrent calls take turns. Errors are those of the changes, wrapped, after
// which nothing has changed, or [ErrAmbiguous].
func (s *Store) Apply(changes ...Change) (uint64, error) {
	tx, err := s.db.Begin(true)
	if err != nil {
		return 0, fmt.Errorf("begin transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit this does nothing
	work := &transaction{tx: tx}
	for _, change := range changes {
		if err := change.apply(work); err != nil {
			return 0, err
		}
	}
	sequence := readMeta(tx, metaSequence) + 1
	if err := writeMeta(tx, metaSequence, sequence); err != nil {
		return 0, err
	}
	err = tx.Commit()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrAmbiguous, err)
		sequence = 0
	}
	s.commit.Store(&err)
	return sequence, err
}

// put stores a value as JSON; bytes are stored as they are.
func (t *transaction) put(bucket, key string, value any) error {
	data, raw := value.([]byte)
	if !raw {
		var err error
		if data, err = json.Marshal(value); err != nil {
			return fmt.Errorf("encode %s of %s: %w", key, bucket, err)
		}
	}
	return t.putBytes(bucket, []byte(key), data)
}

func (t *transaction) putBytes(bucket string, key, value []byte) error {
	if err := t.bucket(bucket).Put(key, value); err != nil {
		return fmt.Errorf("put %q in %s: %w", key, bucket, err)
	}
	return nil
}

func (t *transaction) delete(bucket string, key []byte) error {
	if err := t.bucket(bucket).Delete(key); err != nil {
		return fmt.Errorf("delete %q from %s: %w", key, bucket, err)
	}
	return nil
}

func (t *transaction) has(bucket, key string) bool {
	return t.bucket(bucket).Get([]byte(key)) != nil
}

// deletePrefix removes every key that begins with prefix.
func (t *transaction) deletePrefix(bucket string, prefix []byte) error {
	for _, key := range keysWithPrefix(t.bucket(bucket), prefix) {
		if err := t.delete(bucket, key); err != nil {
			return err
		}
	}
	return nil
}

// object names what a bucket holds, for errors. Hashes of secrets are left out.
func object(bucket, key string) string {
	names := map[string]string{
		bucketJobs: "job", bucketHosts: "host", bucketRepositories: "repository",
		bucketIdempotency: "idempotency key", bucketSecrets: "secret", bucketUsers: "user", bucketPlans: "plan",
		bucketAlerts: "alert", bucketSilences: "silence", bucketTargets: "target", bucketRules: "rule", bucketDeliveries: "delivery",
	}
	hashed := map[string]string{
		bucketLinks: "link", bucketAPITokens: "API token", bucketSessions: "session", bucketEnrolmentTokens: "enrolment token",
	}
	if name, ok := hashed[bucket]; ok {
		return name
	}
	if name, ok := names[bucket]; ok {
		return name + " " + key
	}
	return bucket + " " + key
}

// recordPut stores a record. Neither created nor changed, it may be there or
// not.
type recordPut struct {
	bucket, key    string
	value          any
	create, change bool // it must not be there; it must be there
}

func (c recordPut) apply(tx *transaction) error {
	if c.key == "" {
		return fmt.Errorf("put in %s: %w", c.bucket, errNoKey)
	}
	if c.create && tx.has(c.bucket, c.key) {
		return fmt.Errorf("%s %w", object(c.bucket, c.key), ErrExists)
	}
	if c.change && !tx.has(c.bucket, c.key) {
		return fmt.Errorf("%s %w", object(c.bucket, c.key), ErrMissing)
	}
	return tx.put(c.bucket, c.key, c.value)
}

var errNoKey = errors.New("the key is empty")

type recordDelete struct {
	bucket, key string
	require     bool // it must be there
}

func (c recordDelete) apply(tx *transaction) error {
	if c.require && !tx.has(c.bucket, c.key) {
		return fmt.Errorf("%s %w", object(c.bucket, c.key), ErrMissing)
	}
	return tx.delete(c.bucket, []byte(c.key))
}

// tokenDelete removes the token with an id from a bucket whose keys are hashes.
// There are few of them, and reading them all is nothing beside the sync.
type tokenDelete struct{ bucket, id string }

func (c tokenDelete) apply(tx *transaction) error {
	for _, hash := range keysWithPrefix(tx.bucket(c.bucket), nil) {
		token, _, err := get[struct{ ID string }](tx.tx, c.bucket, string(hash))
		if err != nil {
			return err
		}
		if token.ID == c.id {
			return tx.delete(c.bucket, hash)
		}
	}
	return fmt.Errorf("%s %s %w", object(c.bucket, ""), c.id, ErrMissing)
}

// tokenSpend marks an enrolment token as used.
type tokenSpend struct {
	hash, publicKey string
	at              time.Time
}

func (c tokenSpend) apply(tx *transaction) error {
	token, ok, err := get[EnrolmentToken](tx.tx, bucketEnrolmentTokens, c.hash)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%s %w", object(bucketEnrolmentTokens, c.hash), ErrMissing)
	case token.SpentAt != nil:
		return fmt.Errorf("enrolment token %s, spent already, %w", token.ID, ErrChanged)
	}
	token.SpentAt, token.SpentBy = &c.at, c.publicKey
	return errors.Join(tx.deleteTokens(token.Host), tx.put(bucketEnrolmentTokens, c.hash, token))
}

// deleteTokens removes every enrolment token of a host: who holds an earlier
// one, used or not, must not get the identity of whoever came later.
func (tx *transaction) deleteTokens(host string) error {
	for _, key := range keysWithPrefix(tx.bucket(bucketEnrolmentTokens), nil) {
		token, _, err := get[EnrolmentToken](tx.tx, bucketEnrolmentTokens, string(key))
		if err == nil && token.Host == host {
			err = tx.delete(bucketEnrolmentTokens, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type recordRequire struct{ bucket, key string }

func (c recordRequire) apply(tx *transaction) error {
	if !tx.has(c.bucket, c.key) {
		return fmt.Errorf("%s %w", object(c.bucket, c.key), ErrMissing)
	}
	return nil
}

type hostDelete struct{ name string }

func (c hostDelete) apply(tx *transaction) error {
	if err := (recordRequire{bucketHosts, c.name}).apply(tx); err != nil {
		return err
	}
	for _, key := range keysWithPrefix(tx.bucket(bucketSealed), nil) {
		if _, host, _ := strings.Cut(string(key), "\x00"); host == c.name {
			if err := tx.delete(bucketSealed, key); err != nil {
				return err
			}
		}
	}
	return errors.Join(
		tx.deleteTokens(c.name), tx.dismiss(c.name), tx.deleteTracks(c.name, ""),
		tx.delete(bucketHosts, []byte(c.name)), tx.delete(bucketRuns, []byte(c.name)),
		tx.delete(bucketManifest, []byte("host/"+c.name)),
	)
}

type repositoryDelete struct{ name string }

func (c repositoryDelete) apply(tx *transaction) error {
	if err := (recordRequire{bucketRepositories, c.name}).apply(tx); err != nil {
		return err
	}
	backups := []byte(pairKey(c.name, ""))
	for _, key := range keysWithPrefix(tx.bucket(bucketBackups), backups) {
		host := string(key[len(backups):])
		if err := tx.delete(bucketBackupsByHost, []byte(pairKey(host, c.name))); err != nil {
			return err
		}
	}
	return errors.Join(
		tx.deleteTracks("", c.name),
		tx.delete(bucketRepositories, []byte(c.name)),
		tx.delete(bucketRepositoryRecords, []byte(c.name)),
		tx.delete(bucketManifest, []byte("repository/"+c.name)),
		tx.deletePrefix(bucketBackups, backups),
		tx.deletePrefix(bucketSealed, []byte(pairKey(c.name, ""))),
		tx.deletePrefix(bucketArchives, []byte(pairKey(c.name, ""))),
		tx.deletePrefix(bucketArchivesByTime, []byte(pairKey(c.name, ""))),
	)
}

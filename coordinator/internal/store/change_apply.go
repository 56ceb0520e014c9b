package store

import (
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

type idempotencyPut struct {
	key    string
	record idempotencyRecord
}

func (c idempotencyPut) apply(tx *transaction) error {
	old, ok, err := get[idempotencyRecord](tx.tx, bucketIdempotency, c.key)
	if err != nil {
		return err
	}
	if ok && old.Job != c.record.Job {
		return fmt.Errorf("%s %w", object(bucketIdempotency, c.key), ErrExists)
	}
	if err := (recordPut{bucket: bucketIdempotency, key: c.key, value: c.record}).apply(tx); err != nil {
		return err
	}
	return tx.putBytes(bucketIdempotencyByJob, []byte(pairKey(string(c.record.Job), c.key)), nil)
}

type factsSet struct {
	name    string
	facts   fleet.Facts
	sealKey string
}

func (c factsSet) apply(tx *transaction) error {
	host, ok, err := get[fleet.Host](tx.tx, bucketHosts, c.name)
	if err != nil || !ok {
		return err
	}
	host.Facts, host.SealKey = &c.facts, c.sealKey
	return tx.put(bucketHosts, c.name, host)
}

type backupPut struct{ summary fleet.BackupSummary }

func (c backupPut) apply(tx *transaction) error {
	host, repository := c.summary.Host, c.summary.Repository
	if err := tx.put(bucketBackups, pairKey(repository, host), c.summary); err != nil {
		return err
	}
	return tx.put(bucketBackupsByHost, pairKey(host, repository), c.summary)
}

type runAppend struct {
	host    string
	outcome job.State
}

func (c runAppend) apply(tx *transaction) error {
	runs, _, err := get[[]job.State](tx.tx, bucketRuns, c.host)
	if err != nil {
		return err
	}
	runs = append(runs, c.outcome)
	runs = runs[max(0, len(runs)-MaxRuns):]
	return recordPut{bucket: bucketRuns, key: c.host, value: runs}.apply(tx)
}

type positionSet struct{ sequence uint64 }

func (c positionSet) apply(tx *transaction) error {
	if c.sequence <= readMeta(tx.tx, metaStream) {
		return nil
	}
	return writeMeta(tx.tx, metaStream, c.sequence)
}

package store

import (
	"fmt"
	"slices"

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

type repositoryPut struct{ repository fleet.Repository }

func (c repositoryPut) apply(tx *transaction) error {
	known, ok, err := get[fleet.Repository](tx.tx, bucketRepositories, c.repository.Name)
	if err != nil {
		return err
	}
	if ok && known.Depot != nil && c.repository.Depot != nil {
		depot := *c.repository.Depot
		depot.Frozen = known.Depot.Frozen
		c.repository.Depot = &depot
	}
	return recordPut{bucket: bucketRepositories, key: c.repository.Name, value: c.repository}.apply(tx)
}

type frozenSet struct {
	name   string
	frozen *fleet.Frozen
}

func (c frozenSet) apply(tx *transaction) error {
	repository, ok, err := get[fleet.Repository](tx.tx, bucketRepositories, c.name)
	if err != nil || !ok || repository.Depot == nil {
		return err
	}
	repository.Depot.Frozen = c.frozen
	return tx.put(bucketRepositories, c.name, repository)
}

// dismiss takes a host out of the depot's allow-lists: another one of its name is
// another host.
func (t *transaction) dismiss(host string) error {
	repositories, err := all[fleet.Repository](t.tx, bucketRepositories, "")
	if err != nil {
		return err
	}
	for _, repository := range repositories {
		depot := repository.Depot
		if depot == nil || !slices.Contains(depot.Hosts, host) {
			continue
		}
		depot.Hosts = slices.DeleteFunc(depot.Hosts, func(name string) bool { return name == host })
		if err := t.put(bucketRepositories, repository.Name, repository); err != nil {
			return err
		}
	}
	return nil
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

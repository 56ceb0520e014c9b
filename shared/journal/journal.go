// Package journal is the agent's durable memory: which attempts it was given,
// what it answered, which events the coordinator has not stored yet, and which
// attempts are over. Every change is on disk (fsync) when its method returns,
// and increments the journal's revision.
//
// The journal keeps a tombstone of a finished attempt until the coordinator
// says to forget it, and after that its outcome for a month, so that an order
// which travels twice, or is sent again by a coordinator that was restored from
// an older copy, is never run twice.
//
// Damage is found when the journal is opened: every page is looked at before
// bbolt follows it, and every record has a checksum.
package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
)

const (
	schema      = 2
	lockTimeout = 500 * time.Millisecond
)

var (
	bucketMeta     = []byte("meta")
	bucketAttempts = []byte("attempts") // attempt key -> attempt.Record
	bucketOrders   = []byte("orders")   // attempt key -> bus.Order; gone when finished
	bucketEvents   = []byte("events")   // attempt key + sequence number -> bus.Event
	bucketOutcomes = []byte("outcomes") // attempt key -> outcome
	bucketAges     = []byte("ages")     // number -> key of an outcome, in the order of forgetting

	keySchema   = []byte("schema")
	keyID       = []byte("id")
	keyRevision = []byte("revision")
)

// Journal is an open journal file. It is safe for concurrent use.
type Journal struct {
	db     *bolt.DB
	id     string
	now    func() time.Time
	limit  uint64 // of outcomes
	logger hclog.Logger
}

// Options are what [Open] needs.
type Options struct {
	Path   string
	Logger hclog.Logger
	Now    func() time.Time // nil: time.Now; decides when outcomes may go
}

// Open opens the journal, which it makes (mode 0600) when there is none. A
// damaged one is set aside (see [Damaged]) and a new one made. It fails with a
// *job.Failure when another agent has it open, when it may not be read or
// written, and when a newer version has written it: none of that is damage.
func Open(o Options) (*Journal, error) {
	j := &Journal{now: o.Now, logger: o.Logger.Named("journal"), limit: maxOutcomes}
	if j.now == nil {
		j.now = time.Now
	}
	err := j.open(o.Path)
	if isDamage(err) { // there is a new one now
		err = j.open(o.Path)
	}
	if err != nil {
		return nil, openFailure(o.Path, err)
	}
	return j, nil
}

// open opens the file. One whose content turns out to be damaged is set aside
// before its lock is let go.
func (j *Journal) open(path string) error {
	var file *os.File
	options := bolt.Options{
		Timeout: lockTimeout, FreelistType: bolt.FreelistMapType,
		OpenFile: func(path string, flag int, mode os.FileMode) (_ *os.File, err error) {
			file, err = j.file(path, flag, mode)
			return file, err
		},
	}
	j.db = nil
	err := guarded(func() (err error) {
		if j.db, err = bolt.Open(path, 0o600, &options); err != nil {
			return err
		}
		return j.prepare()
	})
	if err == nil {
		return nil
	}
	if file != nil && isDamage(err) {
		if err := j.setAside(path, err); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, errPanic):
		return errors.Join(err, file.Close()) // closing the database might wait for ever
	case j.db != nil:
		return errors.Join(err, j.db.Close())
	default:
		return err // bbolt has closed the file
	}
}

// prepare makes a new journal, or reads every record of an old one, so that
// damage is found now and not in the middle of a job. One of the present schema
// is not written to.
func (j *Journal) prepare() error {
	from := uint64(0)
	err := j.db.View(func(tx *bolt.Tx) (err error) {
		if from, err = j.identity(tx); err == nil && from == schema {
			err = verify(tx)
		}
		return err
	})
	if err != nil || from == schema {
		return err
	}
	return j.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketAttempts, bucketOrders, bucketEvents, bucketOutcomes, bucketAges} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if from == 0 {
			return j.begin(tx.Bucket(bucketMeta))
		}
		if err := j.migrate(tx, from); err != nil {
			return err
		}
		return verify(tx)
	})
}

// identity reads which journal this is, and returns its schema, or 0 when it is
// a new one.
func (j *Journal) identity(tx *bolt.Tx) (uint64, error) {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || meta.Get(keySchema) == nil {
		return 0, nil
	}
	raw := meta.Get(keySchema)
	if len(raw) != 8 || len(meta.Get(keyID)) == 0 || len(meta.Get(keyRevision)) != 8 {
		return 0, damaged("its identity is incomplete")
	}
	j.id = string(meta.Get(keyID))
	found := binary.BigEndian.Uint64(raw)
	if found > schema {
		return 0, errNewer
	}
	if found == 0 {
		return 0, damaged("it has no schema")
	}
	return found, nil
}

// begin gives a new journal its identity.
func (j *Journal) begin(meta *bolt.Bucket) error {
	j.id = rand.Text()
	j.logger.Info("made a new journal", "id", j.id)
	return errors.Join(
		meta.Put(keySchema, number(schema)),
		meta.Put(keyID, []byte(j.id)),
		meta.Put(keyRevision, number(0)))
}

// verify reads every record of a journal of the present schema.
func verify(tx *bolt.Tx) error {
	for _, bucket := range []struct {
		name     []byte
		keyBytes int
		check    func(k, v []byte) error
	}{
		{bucketAttempts, attemptKeyBytes, check[attempt.Record]},
		{bucketOrders, attemptKeyBytes, check[bus.Order]},
		{bucketEvents, eventKeyBytes, check[bus.Event]},
		{bucketOutcomes, attemptKeyBytes, func(k, v []byte) error { _, err := intact(k, v); return err }}, // there may be many
		{bucketAges, 8, func(_, v []byte) error { _, err := parseAttemptKey(v); return err }},
	} {
		b := tx.Bucket(bucket.name)
		if b == nil {
			return damaged("bucket %s is missing", bucket.name)
		}
		err := b.ForEach(func(k, v []byte) error {
			if len(k) != bucket.keyBytes {
				return damaged("key %q has %d bytes instead of %d", k, len(k), bucket.keyBytes)
			}
			if err := bucket.check(k, v); err != nil {
				return fmt.Errorf("%w: %w", errDamage, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, err := records(tx)
	if err != nil {
		err = fmt.Errorf("%w: %w", errDamage, err)
	}
	return err
}

// Close closes the file. No method may be called afterwards.
func (j *Journal) Close() error { return j.db.Close() }

// change is one transaction and the stamp that it leads to.
type change struct {
	tx    *bolt.Tx
	stamp bus.Stamp
}

// update runs f in a transaction that increments the revision, and returns the
// new stamp once it is on disk.
func (j *Journal) update(f func(change) error) (bus.Stamp, error) {
	var stamp bus.Stamp
	err := j.db.Update(func(tx *bolt.Tx) error {
		stamp = j.stamp(tx)
		stamp.Revision++
		if err := tx.Bucket(bucketMeta).Put(keyRevision, number(stamp.Revision)); err != nil {
			return err
		}
		return f(change{tx: tx, stamp: stamp})
	})
	return stamp, err
}

func (j *Journal) stamp(tx *bolt.Tx) bus.Stamp {
	return bus.Stamp{Journal: j.id, Revision: binary.BigEndian.Uint64(tx.Bucket(bucketMeta).Get(keyRevision))}
}

// Snapshot returns everything that the journal knows, at one moment.
func (j *Journal) Snapshot() (attempt.Snapshot, error) {
	var snapshot attempt.Snapshot
	err := j.db.View(func(tx *bolt.Tx) (err error) {
		snapshot.Stamp = j.stamp(tx)
		snapshot.Records, err = records(tx)
		for _, record := range snapshot.Records {
			snapshot.Depth += record.LastSeq - record.Stored
		}
		return err
	})
	if err != nil {
		return attempt.Snapshot{}, fmt.Errorf("read journal: %w", err)
	}
	return snapshot, nil
}

// Unfinished returns the open attempts with their orders, oldest job first.
func (j *Journal) Unfinished() ([]attempt.Record, error) {
	var open []attempt.Record
	err := j.db.View(func(tx *bolt.Tx) error {
		all, err := records(tx)
		if err != nil {
			return err
		}
		for _, record := range all {
			if record.Finished {
				continue
			}
			if record.Order, err = order(tx, record.Key); err != nil {
				return err
			}
			open = append(open, record)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read open attempts: %w", err)
	}
	return open, nil
}

// Events returns at most limit events of an attempt that are not known to be
// stored and come after the given number, in order.
func (j *Journal) Events(key attempt.Key, after, limit int) ([]bus.Event, error) {
	var events []bus.Event
	err := j.db.View(func(tx *bolt.Tx) error {
		cursor := tx.Bucket(bucketEvents).Cursor()
		for k, v := cursor.Seek(eventKey(key, after+1)); belongs(k, key) && len(events) < limit; k, v = cursor.Next() {
			event, err := decode[bus.Event](k, v)
			if err != nil {
				return err
			}
			events = append(events, event)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read events of %s: %w", key, err)
	}
	return events, nil
}

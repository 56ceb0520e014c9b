// Package journal is the agent's durable memory: which attempts it was given,
// what it answered, which events the coordinator has not stored yet, and which
// attempts are over. Every change is on disk (fsync) when its method returns,
// and increments the journal's revision.
//
// The journal keeps a tombstone of a finished attempt until the coordinator
// says to forget it, and after that a fence until the attempt's order has
// expired, so that an order which travels twice is never run twice.
package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/borgfleet/borgfleet/agent/internal/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	schema      = 1
	lockTimeout = 500 * time.Millisecond
)

var (
	bucketMeta     = []byte("meta")
	bucketAttempts = []byte("attempts") // attempt key -> attempt.Record
	bucketOrders   = []byte("orders")   // attempt key -> bus.Order; gone when finished
	bucketEvents   = []byte("events")   // attempt key + sequence number -> bus.Event
	bucketFences   = []byte("fences")   // attempt key -> fence

	keySchema   = []byte("schema")
	keyID       = []byte("id")
	keyRevision = []byte("revision")
)

// Journal is an open journal file. It is safe for concurrent use.
type Journal struct {
	db     *bolt.DB
	id     string
	now    func() time.Time
	logger hclog.Logger
}

// Options are what [Open] needs.
type Options struct {
	Path   string
	Logger hclog.Logger
	Now    func() time.Time // nil: time.Now; decides when fences may go
}

// Open opens the journal, which it makes (mode 0600) when there is none. It
// fails with a *job.Failure when another agent has it open or when the file is
// damaged.
func Open(o Options) (*Journal, error) {
	j := &Journal{now: o.Now, logger: o.Logger.Named("journal")}
	if j.now == nil {
		j.now = time.Now
	}
	if err := guarded(func() error { return j.open(o.Path) }); err != nil {
		if j.db != nil {
			err = errors.Join(err, j.db.Close())
		}
		return nil, openFailure(o.Path, err)
	}
	return j, nil
}

func (j *Journal) open(path string) (err error) {
	if j.db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType}); err != nil {
		return err
	}
	return j.prepare()
}

// guarded runs f. Damage that bbolt meets with a panic, or the system with a
// fault in the memory map of a file that was cut short, becomes an error.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w: %v", errDamage, fault)
		}
	}()
	return f()
}

// openFailure turns what bbolt says into what a person can act on.
func openFailure(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return job.Fail(job.Conflict, "journal %s is already in use by another agent", path).
			WithHint("stop the other borgfleet-agent, or give this one its own --data directory")
	case errors.Is(err, os.ErrPermission):
		return job.Fail(job.PermissionDenied, "open journal: %s", err).
			WithHint("run the agent as the user that owns its data directory")
	case errors.Is(err, errNewer):
		return job.Fail(job.Unavailable, "journal %s: %s", path, err).
			WithHint("run the newer borgfleet-agent again")
	case isDamage(err):
		return job.Fail(job.IntegrityError, "journal %s is damaged: %s", path, err).
			WithHint("move it away and start again: what was running here is then told as interrupted, and tried again")
	default:
		return fmt.Errorf("open journal %s: %w", path, err)
	}
}

// Kinds of unusable content.
var (
	errNewer  = errors.New("written by a newer version of borgfleet-agent")
	errDamage = errors.New("its content makes no sense")
)

// isDamage reports whether err says that the file's content is not a journal's,
// rather than that the file could not be reached.
func isDamage(err error) bool {
	return errors.Is(err, errDamage) || errors.Is(err, berrors.ErrInvalid) ||
		errors.Is(err, berrors.ErrVersionMismatch) || errors.Is(err, berrors.ErrChecksum)
}

// prepare makes the buckets and the identity of a new journal, and reads every
// record of an old one, so that damage is found now and not in the middle of a job.
func (j *Journal) prepare() error {
	err := j.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketAttempts, bucketOrders, bucketEvents, bucketFences} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return j.identify(tx.Bucket(bucketMeta))
	})
	if err != nil {
		return err
	}
	if err := j.db.View(verify); err != nil {
		return fmt.Errorf("%w: %w", errDamage, err)
	}
	return nil
}

func (j *Journal) identify(meta *bolt.Bucket) error {
	if raw := meta.Get(keySchema); raw != nil {
		if len(raw) != 8 || len(meta.Get(keyID)) == 0 || len(meta.Get(keyRevision)) != 8 {
			return fmt.Errorf("%w: its identity is incomplete", errDamage)
		}
		if binary.BigEndian.Uint64(raw) > schema {
			return errNewer
		}
		j.id = string(meta.Get(keyID))
		return nil
	}
	j.id = rand.Text()
	j.logger.Info("made a new journal", "id", j.id)
	return errors.Join(
		meta.Put(keySchema, number(schema)),
		meta.Put(keyID, []byte(j.id)),
		meta.Put(keyRevision, number(0)))
}

func verify(tx *bolt.Tx) error {
	if _, err := records(tx); err != nil {
		return err
	}
	if err := tx.Bucket(bucketOrders).ForEach(func(k, v []byte) error { return check[bus.Order](k, v, attemptKeyBytes) }); err != nil {
		return err
	}
	if err := tx.Bucket(bucketEvents).ForEach(func(k, v []byte) error { return check[bus.Event](k, v, eventKeyBytes) }); err != nil {
		return err
	}
	return tx.Bucket(bucketFences).ForEach(func(k, v []byte) error { return check[fence](k, v, attemptKeyBytes) })
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

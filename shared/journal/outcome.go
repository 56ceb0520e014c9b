package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// outcome outlives a tombstone: it answers an order for an attempt that is over.
type outcome struct {
	Failure *job.Failure `json:"failure,omitempty"` // the answer to its order: why it was refused
	Over    *job.Event   `json:"over,omitempty"`    // null: a version that did not keep it has forgotten it
	At      time.Time    `json:"at"`                // when it was forgotten
}

// How long and how many outcomes are remembered, and how many are dropped in one
// change at most.
const (
	outcomeAge  = 30 * 24 * time.Hour
	maxOutcomes = 20_000
	pruneBatch  = 64
)

func outcomeOf(tx *bolt.Tx, key attempt.Key) (o outcome, known bool, err error) {
	k := attemptKey(key)
	raw := tx.Bucket(bucketOutcomes).Get(k)
	if raw == nil {
		return o, false, nil
	}
	o, err = decode[outcome](k, raw)
	return o, true, err
}

// remember keeps an outcome. The bucket of ages numbers them without a gap, as
// they are only ever dropped from its beginning.
func (c change) remember(k []byte, o outcome) error {
	ages := c.tx.Bucket(bucketAges)
	n, err := ages.NextSequence()
	if err != nil {
		return err
	}
	if err := ages.Put(number(n), k); err != nil {
		return err
	}
	return put(c.tx.Bucket(bucketOutcomes), k, o)
}

// prune drops the oldest outcomes that are too old or too many. It looks at no
// others.
func (c change) prune(now time.Time, limit uint64) error {
	ages, outcomes := c.tx.Bucket(bucketAges), c.tx.Bucket(bucketOutcomes)
	for range pruneBatch {
		cursor := ages.Cursor()
		n, k := cursor.First()
		if len(n) != 8 {
			return nil
		}
		k = bytes.Clone(k)
		o, err := outcome{}, error(nil)
		if raw := outcomes.Get(k); raw != nil {
			o, err = decode[outcome](k, raw)
		}
		if err != nil {
			return err
		}
		count := ages.Sequence() - binary.BigEndian.Uint64(n) + 1
		if count <= limit && now.Sub(o.At) <= outcomeAge {
			return nil
		}
		if err := cursor.Delete(); err != nil {
			return err
		}
		if err := outcomes.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// Bounds of what is remembered of warnings.
const (
	briefWarnings     = 10
	briefWarningBytes = 300
)

// brief returns a finished event without its long parts.
func brief(e job.Event) *job.Event {
	e.Lines = nil
	if e.Result == nil {
		return &e
	}
	result := *e.Result
	result.ArchivesOmitted += len(result.Archives)
	result.KeptOmitted += len(result.Kept)
	result.PrunedOmitted += len(result.Pruned)
	result.DeletedOmitted += len(result.Deleted)
	result.DamagedOmitted += len(result.Damaged)
	result.Archives, result.Kept, result.KeptBy, result.Pruned, result.KeyExport = nil, nil, nil, nil, ""
	result.Deleted, result.Damaged = nil, nil
	if result.Diff != nil {
		diff := *result.Diff
		diff.Omitted += int64(len(diff.Changes))
		diff.Changes = nil
		result.Diff = &diff
	}
	warnings := result.Warnings[:min(len(result.Warnings), briefWarnings)]
	result.WarningsOmitted += len(result.Warnings) - len(warnings)
	result.Warnings = make([]string, len(warnings))
	for i, text := range warnings {
		result.Warnings[i] = string(bytes.ToValidUTF8([]byte(text[:min(len(text), briefWarningBytes)]), nil))
	}
	e.Result = &result
	return &e
}

// Bounds of a spec, as JSON, in an event, which has to fit a message.
const (
	maxAcceptedSpec = bus.MaxMessageBytes - 64<<10
	maxFinishedSpec = 16 << 10
)

// origin says what an attempt is of, while its order is there; nil: it never came.
func (c change) origin(key attempt.Key, of job.EventType) (*bus.Origin, error) {
	if c.tx.Bucket(bucketOrders).Get(attemptKey(key)) == nil {
		return nil, nil
	}
	o, err := order(c.tx, key)
	if err != nil {
		return nil, err
	}
	origin := &bus.Origin{
		Kind: o.Kind, Repository: o.Repository.Name, Spec: o.Spec, Archive: o.Archive, SentAt: o.IssuedAt,
	}
	room := maxAcceptedSpec
	if of == job.EventFinished {
		room = maxFinishedSpec
	}
	encoded, err := json.Marshal(o.Spec) // may be longer than it came
	if err != nil || len(encoded) > room {
		origin.Spec = nil
	}
	return origin, nil
}

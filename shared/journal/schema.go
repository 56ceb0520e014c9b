package journal

import (
	"bytes"
	"encoding/json"

	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// migrate brings a journal of an older schema to the present one.
func (j *Journal) migrate(tx *bolt.Tx, from uint64) error {
	c := change{tx: tx, stamp: j.stamp(tx)}
	if err := c.toSchema2(j); err != nil {
		return err
	}
	j.logger.Info("brought the journal to a new schema", "from", from, "to", schema)
	return tx.Bucket(bucketMeta).Put(keySchema, number(schema))
}

// pair is a key and its value, as copies.
type pair struct{ k, v []byte }

func pairs(bucket *bolt.Bucket) (all []pair) {
	_ = bucket.ForEach(func(k, v []byte) error { // which fails only if the function does
		all = append(all, pair{bytes.Clone(k), bytes.Clone(v)})
		return nil
	})
	return all
}

var bucketFences = []byte("fences") // schema 1: attempt key -> what answers an order until it has expired

// toSchema2 gives every record a checksum, makes outcomes of fences, and lets a
// finished attempt's record hold its last event.
func (c change) toSchema2(j *Journal) error {
	for _, name := range [][]byte{bucketAttempts, bucketOrders, bucketEvents} {
		bucket := c.tx.Bucket(name)
		for _, p := range pairs(bucket) {
			if err := seal(bucket, p.k, p.v); err != nil {
				return err
			}
		}
	}
	all, err := records(c.tx)
	if err != nil {
		return damaged("%s", err)
	}
	for _, r := range all {
		if err == nil && r.Finished {
			err = c.keepEnd(r)
		}
	}
	fences := c.tx.Bucket(bucketFences)
	if err != nil || fences == nil {
		return err
	}
	for _, p := range pairs(fences) {
		var fence struct {
			Failure *job.Failure `json:"failure"`
		}
		if err := json.Unmarshal(p.v, &fence); err != nil {
			return damaged("decode a fence: %s", err)
		}
		if err := c.remember(p.k, outcome{Failure: fence.Failure, At: j.now().UTC()}); err != nil {
			return err
		}
	}
	return c.tx.DeleteBucket(bucketFences)
}

// keepEnd puts the last event of a finished attempt into its record, unless it
// has left the journal already.
func (c change) keepEnd(r attempt.Record) error {
	k := eventKey(r.Key, r.LastSeq)
	raw := c.tx.Bucket(bucketEvents).Get(k)
	if raw == nil {
		return nil
	}
	last, err := decode[bus.Event](k, raw)
	if err != nil {
		return damaged("%s", err)
	}
	r.Over = brief(last.Event)
	return c.store(r)
}

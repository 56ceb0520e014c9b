package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Keys are the job's id, then numbers in big-endian order, so that they sort by
// job, attempt and sequence.
const (
	jobIDBytes      = 26
	attemptKeyBytes = jobIDBytes + 4
	eventKeyBytes   = attemptKeyBytes + 4
)

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func attemptKey(key attempt.Key) []byte {
	return binary.BigEndian.AppendUint32([]byte(key.Job), uint32(key.Number))
}

func eventKey(key attempt.Key, seq int) []byte {
	return binary.BigEndian.AppendUint32(attemptKey(key), uint32(seq))
}

// belongs reports whether k is the key of an event of the attempt.
func belongs(k []byte, key attempt.Key) bool { return bytes.HasPrefix(k, attemptKey(key)) }

func parseAttemptKey(k []byte) (attempt.Key, error) {
	if len(k) < attemptKeyBytes {
		return attempt.Key{}, fmt.Errorf("key %q is too short", k)
	}
	key := attempt.Key{
		Job:    job.ID(k[:jobIDBytes]),
		Number: int(binary.BigEndian.Uint32(k[jobIDBytes:attemptKeyBytes])),
	}
	return key, key.Check()
}

// checksumBytes stand before each record: a CRC-32C of its key and its JSON, so
// that no record that was altered passes for another.
const checksumBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(k, raw []byte) uint32 {
	return crc32.Update(crc32.Checksum(k, castagnoli), castagnoli, raw)
}

// intact returns the JSON of a record.
func intact(k, v []byte) ([]byte, error) {
	if len(v) < checksumBytes || binary.BigEndian.Uint32(v) != checksum(k, v[checksumBytes:]) {
		return nil, fmt.Errorf("record %q does not match its checksum", k)
	}
	return v[checksumBytes:], nil
}

func decode[T any](k, v []byte) (T, error) {
	var value T
	raw, err := intact(k, v)
	if err != nil {
		return value, err
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return value, fmt.Errorf("decode record %q: %w", k, err)
	}
	return value, nil
}

// check reports a record that does not decode.
func check[T any](k, v []byte) error {
	_, err := decode[T](k, v)
	return err
}

func put(b *bolt.Bucket, k []byte, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode record %q: %w", k, err)
	}
	return seal(b, k, raw)
}

// seal stores a record's JSON with its checksum.
func seal(b *bolt.Bucket, k, raw []byte) error {
	return b.Put(k, append(binary.BigEndian.AppendUint32(make([]byte, 0, checksumBytes+len(raw)), checksum(k, raw)), raw...))
}

// record returns what is known of an attempt, and whether anything is.
func record(tx *bolt.Tx, key attempt.Key) (attempt.Record, bool, error) {
	k := attemptKey(key)
	raw := tx.Bucket(bucketAttempts).Get(k)
	if raw == nil {
		return attempt.Record{}, false, nil
	}
	r, err := decode[attempt.Record](k, raw)
	r.Key = key
	return r, true, err
}

func records(tx *bolt.Tx) ([]attempt.Record, error) {
	var all []attempt.Record
	err := tx.Bucket(bucketAttempts).ForEach(func(k, v []byte) error {
		key, err := parseAttemptKey(k)
		if err != nil {
			return err
		}
		r, err := decode[attempt.Record](k, v)
		r.Key = key
		all = append(all, r)
		return err
	})
	return all, err
}

func order(tx *bolt.Tx, key attempt.Key) (*bus.Order, error) {
	k := attemptKey(key)
	raw := tx.Bucket(bucketOrders).Get(k)
	if raw == nil {
		return nil, fmt.Errorf("order of open attempt %s is missing", key)
	}
	o, err := decode[bus.Order](k, raw)
	return &o, err
}

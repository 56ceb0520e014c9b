package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"go.etcd.io/bbolt"
)

const (
	auditPage  = 100  // entries, when the filter does not say
	auditChunk = 1000 // entries read in one transaction
)

type auditAppend struct{ entry fleet.AuditEntry }

func (c auditAppend) apply(tx *transaction) error {
	bucket := tx.bucket(bucketAudit)
	var before fleet.AuditEntry
	if key, value := bucket.Cursor().Last(); key != nil {
		// Not to be read means tampered with. That is for VerifyAudit to say, and
		// no reason to stop the backups.
		_ = json.Unmarshal(value, &before)
	}
	next, err := bucket.NextSequence()
	if err != nil {
		return fmt.Errorf("number audit entry: %w", err)
	}
	if c.entry, err = asStored(c.entry); err != nil {
		return err
	}
	c.entry.Number = next
	if c.entry.Hash, err = auditHash(before.Hash, c.entry); err != nil {
		return err
	}
	return tx.put(bucketAudit, string(numberBytes(next)), c.entry)
}

// asStored returns the entry as reading it will give it, which is what has to
// be hashed: bytes that are no text do not survive being stored.
func asStored(entry fleet.AuditEntry) (stored fleet.AuditEntry, err error) {
	text, err := json.Marshal(entry)
	if err != nil {
		return stored, fmt.Errorf("encode audit entry: %w", err)
	}
	if err := json.Unmarshal(text, &stored); err != nil {
		return stored, fmt.Errorf("decode audit entry: %w", err)
	}
	return stored, nil
}

// auditHash returns the hex SHA-256 of the hash before (empty for the first
// entry), a line end, and the entry as JSON with an empty hash. A field that is
// added to entries later must be left out of the JSON when it is empty, so that
// the entries before it keep their hashes.
func auditHash(before string, entry fleet.AuditEntry) (string, error) {
	entry.Hash = ""
	text, err := json.Marshal(entry)
	if err != nil {
		return "", fmt.Errorf("encode audit entry: %w", err)
	}
	sum := sha256.Sum256(append([]byte(before+"\n"), text...))
	return hex.EncodeToString(sum[:]), nil
}

// chainAudit gives a hash to the entries that were made before there was a
// chain.
func chainAudit(tx *bbolt.Tx) error {
	work, before := &transaction{tx: tx}, ""
	for _, key := range keysWithPrefix(work.bucket(bucketAudit), nil) {
		entry, _, err := get[fleet.AuditEntry](tx, bucketAudit, string(key))
		if err != nil {
			return err
		}
		if entry.Hash, err = auditHash(before, entry); err != nil {
			return err
		}
		if err := work.put(bucketAudit, string(key), entry); err != nil {
			return err
		}
		before = entry.Hash
	}
	return nil
}

// Audit returns one page of the entries that the filter chooses, newest first.
func (s *Store) Audit(f fleet.AuditFilter) (fleet.AuditPage, error) {
	limit := f.Limit
	if limit <= 0 {
		limit = auditPage
	}
	page := fleet.AuditPage{Entries: []fleet.AuditEntry{}}
	for at := string(numberBytes(cmp.Or(f.Before, math.MaxUint64))); ; {
		chunk, next, err := s.auditBelow(at)
		if err != nil || len(chunk) == 0 {
			return page, err
		}
		for _, entry := range chunk {
			if !auditMatches(f, entry) {
				continue
			}
			if len(page.Entries) == limit {
				page.Before = page.Entries[limit-1].Number
				return page, nil
			}
			page.Entries = append(page.Entries, entry)
		}
		at = next
	}
}

func auditMatches(f fleet.AuditFilter, entry fleet.AuditEntry) bool {
	action := f.Action == "" || f.Action == entry.Action ||
		strings.HasSuffix(f.Action, ".") && strings.HasPrefix(entry.Action, f.Action)
	return action && (f.By == "" || f.By == entry.By) && (f.Object == "" || f.Object == entry.Object)
}

// auditBelow returns the newest entries below a key, newest first, and the key
// of the last one.
func (s *Store) auditBelow(at string) (entries []fleet.AuditEntry, last string, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		list := idList{cursor: tx.Bucket([]byte(bucketAudit)).Cursor()}
		for len(entries) < auditChunk {
			key, ok := list.below(at)
			if !ok {
				return nil
			}
			entry, _, err := get[fleet.AuditEntry](tx, bucketAudit, key)
			if err != nil {
				return err
			}
			entries, at = append(entries, entry), key
		}
		return nil
	})
	return entries, at, err
}

// VerifyAudit reads the whole audit, as far as it goes when the check begins,
// and follows its chain. It finds entries that were edited, removed or
// inserted, also at the beginning and at the end. The error is nil when the
// chain is broken: the proof says so. A long audit takes a while, and ctx ends
// the check.
//
// Whoever can write the database file can also make the whole chain anew, and
// then it is intact again. What such a person cannot change is a head that was
// noted elsewhere: that is why the proof returns the newest hash. As long as a
// noted head is found as the hash of its entry, everything up to it is what it
// was.
func (s *Store) VerifyAudit(ctx context.Context) (fleet.AuditProof, error) {
	var end uint64
	err := s.db.View(func(tx *bbolt.Tx) error {
		end = tx.Bucket([]byte(bucketAudit)).Sequence()
		return nil
	})
	walk := auditWalk{}
	for key := []byte(nil); err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		var chunk []rawEntry
		if chunk, err = s.auditAbove(key, end); err != nil || len(chunk) == 0 {
			break
		}
		for _, raw := range chunk {
			walk.visit(raw)
		}
		key = chunk[len(chunk)-1].key
	}
	if err != nil {
		return fleet.AuditProof{}, fmt.Errorf("verify the audit: %w", err)
	}
	return walk.proof(end), nil
}

// rawEntry is an audit entry as it is stored.
type rawEntry struct{ key, value []byte }

// auditAbove returns the next entries above a key, the oldest first, without
// those that [AppendAudit] has numbered since the number was end.
func (s *Store) auditAbove(after []byte, end uint64) (entries []rawEntry, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(bucketAudit))
		cursor := bucket.Cursor()
		for key, value := cursor.Seek(after); key != nil && len(entries) < auditChunk; key, value = cursor.Next() {
			later := number(key) > end && number(key) <= bucket.Sequence()
			if bytes.Equal(key, after) || later {
				continue
			}
			entries = append(entries, rawEntry{bytes.Clone(key), bytes.Clone(value)})
		}
		return nil
	})
	return entries, err
}

// auditWalk follows the chain from entry to entry.
type auditWalk struct {
	entries, last uint64 // how many there are; number of the newest
	head          string // hash of the newest, as it is stored
	brokenAt      uint64
	message       string // empty: intact
}

func (w *auditWalk) visit(raw rawEntry) {
	at := number(raw.key)
	var entry fleet.AuditEntry
	err := json.Unmarshal(raw.value, &entry)
	want := entry
	want.Hash, _ = auditHash(w.head, entry) // what was decoded can be encoded
	written, _ := json.Marshal(want)
	switch {
	case w.message != "": // the first fault is enough
	case at != w.last+1 && at > w.last:
		w.broken(at, "audit entry %d follows on entry %d: what was between them is gone", at, w.last)
	case at != w.last+1, err != nil, entry.Number != at:
		w.broken(max(at, w.last+1), "audit entry %d is not one that was written here", max(at, w.last+1))
	case !bytes.Equal(written, raw.value):
		w.broken(at, "audit entry %d was changed, or the one before it was exchanged", at)
	}
	w.entries, w.last, w.head = w.entries+1, max(at, w.last), entry.Hash
}

func (w *auditWalk) broken(at uint64, format string, values ...any) {
	w.brokenAt, w.message = at, fmt.Sprintf(format, values...)
}

// proof ends the walk. The bucket counts the numbers that it has given, so that
// entries that lack at the end are missed, too.
func (w *auditWalk) proof(end uint64) fleet.AuditProof {
	if w.message == "" && w.last != end {
		w.broken(w.last+1, "the audit ends with entry %d, but there were %d", w.last, end)
	}
	proof := fleet.AuditProof{Entries: w.entries, Head: w.head, Intact: w.message == "", BrokenAt: w.brokenAt, Message: w.message}
	if proof.Intact {
		proof.Message = fmt.Sprintf("all %d entries follow from the ones before", w.entries)
	}
	return proof
}

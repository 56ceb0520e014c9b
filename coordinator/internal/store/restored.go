package store

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Restored says that this database is an older copy that was put back: hosts
// may have worked, and jobs may have been asked for, after it was taken.
type Restored struct {
	SnapshotAt time.Time `json:"snapshot_at"` // what came later is not in the copy
	RestoredAt time.Time `json:"restored_at"`
}

type restoredPut struct{ marker Restored }

// MarkRestored records that the database was restored. A database that was
// restored before is marked anew. What works once or until it is ended, and may
// have been used or ended after the copy was taken, is dropped: sessions, links
// for passwords, and enrolment tokens that nobody has spent.
func MarkRestored(r Restored) Change { return restoredPut{marker: r} }

func (c restoredPut) apply(tx *transaction) error {
	for _, bucket := range []string{bucketSessions, bucketLinks} {
		if err := tx.deletePrefix(bucket, nil); err != nil {
			return err
		}
	}
	tokens, err := all[EnrolmentToken](tx.tx, bucketEnrolmentTokens, "")
	if err != nil {
		return err
	}
	for _, token := range tokens {
		if token.SpentAt != nil {
			continue // its host may ask again for what it was given
		}
		if err := tx.delete(bucketEnrolmentTokens, []byte(token.Hash)); err != nil {
			return err
		}
	}
	return tx.put(bucketMeta, metaRestored, c.marker)
}

// Restored returns the newest restoration of this database, if there was one.
func (s *Store) Restored() (marker Restored, found bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket([]byte(bucketMeta)).Get([]byte(metaRestored))
		if found = data != nil; !found {
			return nil
		}
		if err := json.Unmarshal(data, &marker); err != nil {
			return fmt.Errorf("decode when the database was restored: %w", err)
		}
		return nil
	})
	return marker, found && err == nil, err
}

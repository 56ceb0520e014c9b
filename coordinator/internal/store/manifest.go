package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// ManifestNote is what a manifest said of an object that is kept nowhere else:
// from which files its secrets came.
type ManifestNote struct {
	// Of is what tells the object from another one of its name: the note is about
	// nothing else.
	Of    string            `json:"of"`
	Files map[string]string `json:"files"` // by field
}

// PutManifestNote stores the note of an object, such as host/web1.
func PutManifestNote(object string, note ManifestNote) Change {
	return recordPut{bucket: bucketManifest, key: object, value: note}
}

// DeleteManifestNote removes the note of an object, if it is there.
func DeleteManifestNote(object string) Change {
	return recordDelete{bucket: bucketManifest, key: object}
}

// ManifestNotes returns all notes by object.
func (s *Store) ManifestNotes() (map[string]ManifestNote, error) {
	notes := map[string]ManifestNote{}
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketManifest)).ForEach(func(key, data []byte) error {
			var note ManifestNote
			if err := json.Unmarshal(data, &note); err != nil {
				return fmt.Errorf("decode %s: %w", object(bucketManifest, string(key)), err)
			}
			notes[string(key)] = note
			return nil
		})
	})
	return notes, err
}

package state

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Manifest says what a copy is.
type Manifest struct {
	Format     int       `json:"format"`
	Version    string    `json:"version"` // of the borgfleet that made it
	Schema     int       `json:"schema"`  // of its database
	SnapshotAt time.Time `json:"snapshot_at"`
	Outside    []string  `json:"outside"` // what it takes besides, to set the coordinator up elsewhere
	Files      []File    `json:"files"`
}

// File is one file of a copy.
type File struct {
	Name   string `json:"name"` // below the data directory, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// maxManifest bounds what is read: a million logs make a hundred megabytes.
const maxManifest = 256 << 20

// readManifest decodes a manifest, and refuses one of a newer version.
func readManifest(from io.Reader) (m Manifest, err error) {
	if err := json.NewDecoder(io.LimitReader(from, maxManifest)).Decode(&m); err != nil {
		return m, fmt.Errorf("read %s: %w", manifestFile, err)
	}
	if m.Format > format || m.Schema > store.SchemaVersion() {
		return m, job.Fail(job.Conflict, "the copy was made by a newer borgfleet, %s", m.Version).
			WithHint("restore it with that version, or a newer one; nothing was changed")
	}
	if m.Format != format {
		return m, fmt.Errorf("%s has the unknown format %d", manifestFile, m.Format)
	}
	return m, nil
}

// allowed reports whether a copy may hold a file of this name.
func allowed(name string) bool {
	return fs.ValidPath(name) && slices.ContainsFunc(patterns(), func(pattern string) bool {
		matched, _ := path.Match(pattern, name) // the patterns are sound
		return matched
	})
}

// check compares what was unpacked with what the manifest says.
func (m Manifest) check(found map[string]File) error {
	if len(found) != len(m.Files) {
		return damaged("it has %d files, and its manifest %d", len(found), len(m.Files))
	}
	for _, file := range m.Files {
		if found[file.Name] != file {
			return damaged("%s is not what it was", file.Name)
		}
	}
	if _, has := found[DatabaseFile]; !has {
		return damaged("it has no database")
	}
	return nil
}

func damaged(text string, args ...any) *job.Failure {
	return job.Fail(job.IntegrityError, "the copy is damaged: %s", fmt.Sprintf(text, args...)).
		WithHint("take another copy; nothing was changed")
}

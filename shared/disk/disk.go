// Package disk makes sure of what lies on a disk.
package disk

import (
	"errors"
	"fmt"
	"os"
)

// SyncDir brings the names in a directory to the disk: a file that was made,
// renamed or removed there may come back as it was after a power cut otherwise,
// even if its content was synced.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

package disk_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/shared/disk"
)

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := disk.SyncDir(dir); err != nil {
		t.Errorf("a directory: %v", err)
	}
	if err := disk.SyncDir(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

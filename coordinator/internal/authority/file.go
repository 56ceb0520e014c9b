package authority

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/google/renameio/v2"
)

// maxFile bounds what is read: a key with a long chain has some 20 kB.
const maxFile = 1 << 20

// makeDir makes the directory for keys, and takes it away from others.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for certificates: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("restrict directory for certificates: %w", err)
	}
	return disk.SyncDir(filepath.Dir(dir))
}

// readPrivate reads a file with a key. A file that others can read is a
// *job.Failure.
func readPrivate(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err // it names the file
	}
	defer file.Close() // read only: nothing to lose
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, job.Fail(job.NotAllowed, "the key file %s is open to others (mode %04o)", path, mode).
			WithHint("run chmod 600 %s; if others may have read it, replace the key", path)
	}
	return io.ReadAll(io.LimitReader(file, maxFile))
}

// writePrivate writes a file with a key: whole, on disk and under its name, or
// not at all.
func writePrivate(path string, data []byte) error {
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		if fault, ok := errors.AsType[*fs.PathError](err); ok {
			err = fault.Err // without the name that it had meanwhile
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	return disk.SyncDir(filepath.Dir(path))
}

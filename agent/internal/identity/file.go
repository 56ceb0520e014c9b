package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/borgfleet/borgfleet/shared/disk"
	"github.com/borgfleet/borgfleet/shared/job"
)

// WriteFile writes a file so that it is there whole or not at all, with the
// owner of the one that it replaces, or else of its directory: root changes
// keys also for an agent that runs as another user.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	file, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return denied("write "+path, err)
	}
	defer file.Cleanup() // when it did not replace
	if _, err := file.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if owner, ok := ownerOf(path); ok && os.Geteuid() == 0 {
		if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("give %s its owner: %w", path, err)
		}
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return denied("write "+path, err)
	}
	return disk.SyncDir(filepath.Dir(path))
}

func ownerOf(path string) (*syscall.Stat_t, bool) {
	info, err := os.Stat(path)
	if err != nil {
		if info, err = os.Stat(filepath.Dir(path)); err != nil {
			return nil, false
		}
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return owner, ok
}

// makeDir makes a directory that only its owner may enter.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return denied("make directory "+dir, err)
	}
	return nil
}

// denied says what to do when a file may not be written.
func denied(doing string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return job.Fail(job.PermissionDenied, "%s: %s", doing, cause(err)).
			WithHint("run this as root, or name a --config and a --data directory that you may write")
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// cause is an error without the path, which has been said.
func cause(err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		return inner.Err
	}
	return err
}

// lock keeps others from changing the identity at the same time, until the
// returned function is called.
func lock(data string) (func(), error) {
	if err := makeDir(data); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(data, "identity.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, denied("open the identity's lock", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, job.Fail(job.Conflict, "this host's identity is being changed by another command").
			WithHint("wait until it is done; it takes seconds")
	}
	return func() { _ = file.Close() }, nil
}

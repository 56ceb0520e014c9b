package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Kinds of unusable content.
var (
	errNewer  = errors.New("written by a newer version of borgfleet-agent")
	errDamage = errors.New("its content makes no sense")
)

const (
	damagedSuffix = ".damaged-"
	maxDamaged    = 3
	lockPoll      = 20 * time.Millisecond
)

// Damaged returns the files of damaged journals that were set aside in place of
// the journal at path, oldest first.
func Damaged(path string) []string {
	files, err := filepath.Glob(path + damagedSuffix + "*")
	if err != nil { // the path holds a pattern's characters, malformed
		return nil
	}
	slices.Sort(files) // their names end with a time
	return files
}

// guarded runs f. Damage that bbolt meets with a panic, or the system with a
// fault in the memory map of a file that was cut short, becomes an error.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%w: %w: %v", errDamage, errPanic, fault)
		}
	}()
	return f()
}

// errPanic says that bbolt cannot even be closed any more.
var errPanic = errors.New("bbolt cannot go through it")

// isDamage reports whether err says that the file's content is not a journal's,
// rather than that the file could not be reached, or is not for this version.
func isDamage(err error) bool {
	return errors.Is(err, errDamage) || errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum)
}

// file opens and locks the journal's file for bbolt, which then has the lock
// already. A file that bbolt could not go through is set aside before, while
// the lock is held: another agent that waits for it finds the new one.
func (j *Journal) file(path string, flag int, mode os.FileMode) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, flag, mode)
		if err != nil {
			return nil, err
		}
		present := false
		if err = lock(file); err == nil {
			present, err = isAt(file, path)
		}
		if err == nil && present {
			err = checkPages(file)
		}
		if isDamage(err) {
			present, err = false, j.setAside(path, err)
		}
		if err == nil && present {
			return file, nil
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
	}
}

// lock takes the lock that bbolt will ask for.
func lock(file *os.File) error {
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockPoll) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return berrors.ErrTimeout
		}
	}
}

// isAt reports whether a file is still what its path leads to.
func isAt(file *os.File, path string) (bool, error) {
	own, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(own, there), err
}

// setAside moves a damaged journal out of the way, and removes the oldest of too
// many. The journal's lock must be held.
func (j *Journal) setAside(path string, why error) error {
	aside := path + damagedSuffix + j.now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("set a damaged journal aside: %w", err)
	}
	j.logger.Error("the journal is damaged and was set aside; a new one is begun, what ran here is ended and tried again",
		"file", aside, "err", why)
	files := Damaged(path)
	for _, old := range files[:max(0, len(files)-maxDamaged)] {
		if err := os.Remove(old); err != nil {
			j.logger.Warn("remove an old damaged journal", "err", err)
		}
	}
	return nil
}

// openFailure turns what bbolt says into what a person can act on.
func openFailure(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return job.Fail(job.Conflict, "journal %s is already in use by another agent", path).
			WithHint("stop the other borgfleet-agent, or give this one its own --data directory")
	case errors.Is(err, os.ErrPermission):
		return job.Fail(job.PermissionDenied, "open journal: %s", err).
			WithHint("run the agent as the user that owns its data directory")
	case errors.Is(err, syscall.EROFS):
		return job.Fail(job.Unavailable, "open journal: %s", err).
			WithHint("make the file system of the agent's data directory writable again, and look in the kernel's log for why it is not")
	case errors.Is(err, syscall.ENOSPC):
		return job.Fail(job.DiskFull, "open journal: %s", err).WithHint("free some space under %s", filepath.Dir(path))
	case errors.Is(err, errNewer), errors.Is(err, berrors.ErrVersionMismatch):
		return job.Fail(job.Unavailable, "journal %s: %s", path, errNewer).
			WithHint("run the newer borgfleet-agent again")
	default:
		return fmt.Errorf("open journal %s: %w", path, err)
	}
}

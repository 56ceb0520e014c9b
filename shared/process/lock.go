package process

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// The lock of a job directory is an open file description lock on its
// command.json: a starter takes it and hands its descriptor to the supervisor,
// so that there is no moment in between, and anybody can ask whether it is held
// without taking it.

var errLocked = errors.New("locked by another process")

// lock takes the directory's lock, or returns errLocked.
func (d directory) lock() (*os.File, error) {
	file, err := os.OpenFile(d.file(commandFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		return file, nil
	}
	file.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, errLocked
	}
	return nil, err
}

// locked reports whether a starter or a supervisor holds the lock.
func (d directory) locked() (bool, error) {
	file, err := os.Open(d.file(commandFile))
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close() // read only: nothing to lose
	query := unix.Flock_t{Type: unix.F_RDLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &query); err != nil {
		return false, err
	}
	return query.Type != unix.F_UNLCK, nil
}

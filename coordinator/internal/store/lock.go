package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Lock keeps every coordinator away from a database file, as an open store does,
// without reading what is in it: that may be damaged, or of another version. A
// file that is not there is made, empty, which [Open] takes for none. Closing
// gives the lock back, also when the file has another name by then. A
// *job.Failure says that a coordinator has it.
func Lock(path string) (io.Closer, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, openFailure(path, err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) // the lock that bbolt takes
	if err == nil {
		return file, nil
	}
	_ = file.Close() // nothing was written
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, openFailure(path, bolterrors.ErrTimeout)
	}
	return nil, fmt.Errorf("lock store %s: %w", path, err)
}

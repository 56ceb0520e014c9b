package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Reasons for which a change is refused. After one of these nothing has
// changed.
var (
	ErrExists   = errors.New("already exists")
	ErrMissing  = errors.New("does not exist")
	ErrChanged  = errors.New("has changed meanwhile")
	ErrTerminal = errors.New("is over and cannot change")
	ErrIllegal  = errors.New("the state table has no such step")
	ErrOpenJobs = errors.New("has jobs that are not over")
)

// ErrAmbiguous is returned when the disk failed during a commit: the changes
// may or may not be stored. Read again before going on.
var ErrAmbiguous = errors.New("commit failed and may or may not have been stored")

const (
	fileMode    = 0o600
	lockTimeout = time.Second // the lock of a coordinator that was just killed is gone at once
	initialMap  = 256 << 20   // address space only: growing the map waits for readers
)

// Store is the open database. Its methods are safe for concurrent use; writes
// take turns.
type Store struct {
	db     *bbolt.DB
	logger hclog.Logger
	commit atomic.Pointer[error] // how the last commit went
}

// Open opens the database file, makes it when it is not there, and migrates it
// to this version's schema. The directory must exist. Faults that an operator
// can mend are a *job.Failure.
func Open(path string, logger hclog.Logger) (*Store, error) {
	logger = logger.Named("store")
	if err := prepare(path, logger); err != nil {
		return nil, err
	}
	s := &Store{logger: logger}
	if err := guarded(func() error { return s.open(path) }); err != nil {
		if s.db != nil {
			_ = s.db.Close() // nothing was written
		}
		return nil, openFailure(path, err)
	}
	return s, nil
}

func (s *Store) open(path string) (err error) {
	s.db, err = bbolt.Open(path, fileMode, &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, InitialMmapSize: initialMap,
	})
	if err != nil {
		return err
	}
	from, to, err := migrate(s.db, migrations())
	if err != nil {
		return err
	}
	if from != to {
		s.logger.Info("database migrated", "path", path, "from", from, "to", to)
	}
	return s.db.View(walkAll)
}

// prepare looks at the file, if there is one, and takes it away from others who
// can read it.
func prepare(path string, logger hclog.Logger) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return openFailure(path, err)
	}
	if !info.Mode().IsRegular() {
		return job.Fail(job.Unavailable, "%s is not a database file", path).WithHint("move it out of the way")
	}
	if size := info.Size(); size > 0 && size < 2*int64(os.Getpagesize()) { // not even both meta pages
		return openFailure(path, fmt.Errorf("%w: it has only %d bytes", errDamage, size))
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	logger.Warn("database was open to others, mode is now 0600", "path", path)
	if err := os.Chmod(path, fileMode); err != nil {
		return fmt.Errorf("restrict store %s: %w", path, err)
	}
	return nil
}

// openFailure turns the faults that an operator meets into clear sentences.
func openFailure(path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return job.Fail(job.Conflict, "the data directory %s is already in use by another coordinator", dir).
			WithHint("stop that one, or give this one another directory with --data")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return job.Fail(job.NotAllowed, "the data directory %s cannot be written: %s", dir, err).
			WithHint("it must belong to the user that runs the coordinator")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return job.Fail(job.Unavailable, "the data directory %s does not exist", dir).WithHint("create it, or give another one with --data")
	case isDamage(err):
		return job.Fail(job.Unavailable, "%s is damaged or is not a borgfleet database: %s", path, err).
			WithHint("restore it from a snapshot; nothing was changed")
	default:
		return fmt.Errorf("open store %s: %w", path, err)
	}
}

// Close waits for transactions to end and closes the file.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// Healthy returns the error of the last commit, nil if it went well.
func (s *Store) Healthy() error {
	if last := s.commit.Load(); last != nil {
		return *last
	}
	return nil
}

// Size is the size of the database in bytes.
func (s *Store) Size() (size int64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	return size, err
}

// Snapshot writes a consistent copy of the database, which is itself a database
// file, and returns its length in bytes. Other work goes on meanwhile, but a
// slow writer makes the file grow: give it a local file.
func (s *Store) Snapshot(to io.Writer) (written int64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		written, err = tx.WriteTo(to)
		return err
	})
	if err != nil {
		return written, fmt.Errorf("write snapshot: %w", err)
	}
	return written, nil
}

package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options are what a Local needs.
type Options struct {
	// Root holds the job directories. It is made, 0700, when it is missing.
	Root string
	// Supervisor is the command that runs [Supervise]; the job directory is
	// appended to it. The program is given by its path.
	Supervisor []string
	// Standby keeps, for a minute after each start, a supervisor ready for the
	// next one, which then takes about a millisecond instead of five. Call
	// Close in the end.
	Standby bool
	// ReaderPatience is how long a command with Pipe waits for its reader before
	// its start fails; 0: a minute.
	ReaderPatience time.Duration
	Logger         hclog.Logger
}

// Local runs programs on this machine. It remembers no run: everything is in
// the job directories, and any number of Locals, in this process or another,
// may work on one root. It is safe for concurrent use.
type Local struct {
	root           string
	supervisor     []string
	standby        bool
	readerPatience time.Duration
	reserve        reserve
	logger         hclog.Logger
}

// NewLocal returns an executor over job directories in o.Root.
func NewLocal(o Options) *Local {
	root, err := filepath.Abs(o.Root)
	if err != nil { // there is no working directory to be relative to
		root = o.Root
	}
	if o.ReaderPatience <= 0 {
		o.ReaderPatience = readerPatience
	}
	return &Local{
		root: root, supervisor: o.Supervisor, standby: o.Standby, readerPatience: o.ReaderPatience,
		logger: o.Logger.Named("process"),
	}
}

// Close ends a supervisor that stands by. Runs are not touched.
func (l *Local) Close() { l.reserve.close() }

// phase is where a run stands.
type phase int

const (
	unstarted  phase = iota // nothing was ever started, and nothing is about to be
	supervised              // a starter or a supervisor lives
	orphaned                // the supervisor is gone; the program runs
	lost                    // both are gone, and nobody saw how it ended
	ended
)

func (p phase) over() bool { return p == lost || p == ended }

// look finds out where a run stands. ending is set when it has ended.
func (d directory) look() (phase, ending, error) {
	if end, found, err := d.ending(); err != nil || found {
		return ended, end, err
	}
	held, err := d.locked()
	if err != nil {
		return unstarted, ending{}, fmt.Errorf("ask for the lock of %s: %w", d, err)
	}
	if held {
		return supervised, ending{}, nil
	}
	// The supervisor writes the exit before it lets the lock go, so look again.
	if end, found, err := d.ending(); err != nil || found {
		return ended, end, err
	}
	if !d.begun() {
		return unstarted, ending{}, nil
	}
	who, err := d.identity()
	if err != nil {
		return unstarted, ending{}, err
	}
	alive, err := who.alive()
	if alive {
		return orphaned, ending{}, err
	}
	return lost, ending{}, err
}

// Signal sends a signal to the program's process group. It does nothing when
// the program is gone, and returns [ErrNotStarted] for an unknown ID.
func (l *Local) Signal(_ context.Context, id string, s Signal) error {
	dir, err := l.directory(id)
	if err != nil {
		return err
	}
	number := map[Signal]syscall.Signal{Interrupt: syscall.SIGINT, Terminate: syscall.SIGTERM, Kill: syscall.SIGKILL}[s]
	if number == 0 {
		return fmt.Errorf("signal %q is not one of interrupt, terminate, kill", s)
	}
	if !dir.there() {
		return ErrNotStarted
	}
	who, err := dir.identity()
	if err != nil {
		return err
	}
	if alive, err := who.alive(); err != nil || !alive {
		return err
	}
	l.logger.Debug("signal", "run", id, "pid", who.PID, "signal", string(s))
	if err := syscall.Kill(-who.PID, number); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to process group %d: %w", s, who.PID, err)
	}
	return nil
}

// Age returns how long the program has been running, by the kernel's own clock,
// which nobody sets; a time in which the machine slept counts. running is false
// before the start, after the end, and for an unknown ID.
func (l *Local) Age(_ context.Context, id string) (age time.Duration, running bool, err error) {
	dir, err := l.directory(id)
	if err != nil || !dir.there() {
		return 0, false, err
	}
	who, err := dir.identity()
	if err != nil {
		return 0, false, err
	}
	if running, err = who.alive(); err != nil || !running {
		return 0, false, err
	}
	age, err = who.age()
	return age, err == nil, err
}

// Over reports whether a run has ended, is lost, or never began: nothing of it
// lives then, or is about to.
func (l *Local) Over(_ context.Context, id string) (bool, error) {
	dir, err := l.directory(id)
	if err != nil {
		return false, err
	}
	at, _, err := dir.look()
	return at == unstarted || at.over(), err
}

// Argv returns the program of a run, and its arguments. They are empty when the
// run is not known, or its directory is damaged.
func (l *Local) Argv(_ context.Context, id string) ([]string, error) {
	dir, err := l.directory(id)
	if err != nil {
		return nil, err
	}
	var order plan
	if found, err := dir.read(commandFile, &order); err != nil || !found {
		return nil, err
	}
	return order.Argv, nil
}

// Remove deletes the directory of a run that is over or was never started;
// for any other it returns [ErrRunning]. An unknown ID is no error.
func (l *Local) Remove(_ context.Context, id string) error {
	dir, err := l.directory(id)
	if err != nil {
		return err
	}
	if !dir.there() {
		return nil
	}
	at, _, err := dir.look()
	if err != nil {
		return err
	}
	if at == supervised || at == orphaned {
		return fmt.Errorf("remove %s: %w", id, ErrRunning)
	}
	// A directory that is half deleted must not look as if nothing had been
	// started in it.
	doomed := filepath.Join(l.root, removedPrefix+id)
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove job directory: %w", err)
	}
	if err := os.Rename(string(dir), doomed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove job directory: %w", err)
	}
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove job directory: %w", err)
	}
	return nil
}

// List returns the IDs that have a directory, sorted.
func (l *Local) List(_ context.Context) ([]string, error) {
	entries, err := os.ReadDir(l.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list job directories: %w", err)
	}
	ids := make([]string, 0, len(entries))
	for _, entry := range entries {
		if entry.IsDir() && validID(entry.Name()) {
			ids = append(ids, entry.Name())
		}
	}
	return ids, nil
}

// Clean removes the directories of runs that are over since olderThan or
// longer, or were left unstarted as long ago, and that keep does not want.
func (l *Local) Clean(ctx context.Context, olderThan time.Duration, keep func(id string) bool) error {
	ids, err := l.List(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, id := range ids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if keep(id) || time.Since(l.changed(id)) < olderThan {
			continue
		}
		if err := l.Remove(ctx, id); err != nil && !errors.Is(err, ErrRunning) {
			faults = append(faults, err)
		}
	}
	return errors.Join(append(faults, l.sweep())...)
}

// changed is when anything last happened in a directory.
func (l *Local) changed(id string) time.Time {
	var latest time.Time
	for _, name := range []string{"", stdoutFile, stderrFile, exitFile} {
		if info, err := os.Stat(filepath.Join(l.root, id, name)); err == nil && info.ModTime().After(latest) {
			latest = info.ModTime()
		}
	}
	return latest
}

// sweep deletes what an interrupted Remove, or a killed starter, has left.
func (l *Local) sweep() error {
	entries, err := os.ReadDir(l.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list job directories: %w", err)
	}
	var faults []error
	for _, entry := range entries {
		path := filepath.Join(l.root, entry.Name())
		if strings.HasPrefix(entry.Name(), standbyPrefix) {
			if held, err := directory(path).locked(); held || err != nil {
				continue
			}
		} else if !strings.HasPrefix(entry.Name(), removedPrefix) {
			continue
		}
		faults = append(faults, os.RemoveAll(path))
	}
	return errors.Join(faults...)
}

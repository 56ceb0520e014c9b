package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// RestoreOptions says what is restored, and where.
type RestoreOptions struct {
	Copy       io.Reader
	Identities []age.Identity   // for one that is encrypted
	Dir        string           // the data directory; made when it is not there
	Now        func() time.Time // nil: time.Now
	Logger     hclog.Logger
}

// Restoration is a copy that was found to be whole, and lies ready beside the
// present state. Close it in any case.
type Restoration struct {
	Manifest Manifest
	Replaces bool   // there is a state, which is moved aside
	Aside    string // where to

	dir, staging string
	sameBus      bool // the keys of the bus are those that lie there
	steps        []step
	unlock       func()
}

// Open unpacks a copy and checks all of it. No coordinator may run on the
// directory, and none can until the restoration is closed. Faults that an
// operator can mend are a *job.Failure; after one nothing has changed.
func Open(options RestoreOptions) (*Restoration, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	unlock, err := lock(options.Dir)
	if err != nil {
		return nil, err
	}
	r := &Restoration{dir: options.Dir, unlock: unlock}
	if err := r.prepare(options); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// lock takes a data directory, which it makes when it is not there, for its
// owner alone. What it made and nobody used goes with unlock.
func lock(dir string) (unlock func(), err error) {
	_, missing := os.Stat(dir)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, job.Fail(job.NotAllowed, "the data directory %s cannot be made: %s", dir, err).WithHint("give another one with --data")
	}
	if err := checkOwner(dir); err != nil {
		return nil, err
	}
	database := filepath.Join(dir, DatabaseFile)
	held, err := store.Lock(database)
	if err != nil {
		return nil, err
	}
	return func() {
		if info, err := os.Stat(database); err == nil && info.Size() == 0 {
			_ = os.Remove(database) // the lock made it
		}
		_ = held.Close() // nothing was written
		if missing != nil {
			_ = os.Remove(dir) // unless there is something in it now
		}
	}, nil
}

// checkOwner refuses to leave files that the coordinator's user cannot read.
func checkOwner(dir string) error {
	var info unix.Stat_t
	if err := unix.Stat(dir, &info); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if owner := int(info.Uid); owner != os.Geteuid() {
		return job.Fail(job.NotAllowed, "the data directory %s belongs to another user", dir).
			WithHint("run this as that user: sudo -u '#%d' borgfleet state restore …", owner)
	}
	return nil
}

// checkOneDisk refuses what could not be moved in one step.
func checkOneDisk(dir string) error {
	var whole unix.Stat_t
	if err := unix.Stat(dir, &whole); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	for _, name := range []string{BusDir, TLSDir, LogsDir} {
		var part unix.Stat_t
		err := unix.Lstat(filepath.Join(dir, name), &part)
		if err == nil && (part.Dev != whole.Dev || part.Mode&unix.S_IFMT != unix.S_IFDIR) {
			return job.Fail(job.Conflict, "%s in %s is no directory, or lies on another disk", name, dir).
				WithHint("restore into an empty directory on one disk, and move parts elsewhere afterwards")
		}
	}
	return nil
}

func (r *Restoration) prepare(options RestoreOptions) (err error) {
	if err := Whole(r.dir); err != nil {
		return err
	}
	if err := errors.Join(checkOneDisk(r.dir), removeStale(r.dir)); err != nil {
		return err
	}
	if r.staging, err = os.MkdirTemp(r.dir, stagingPrefix); err != nil {
		return fmt.Errorf("make room for the copy: %w", err)
	}
	if r.Manifest, err = unpack(options.Copy, options.Identities, r.staging); err != nil {
		return err
	}
	now := options.Now().UTC()
	r.Aside = filepath.Join(r.dir, asidePrefix+now.Format("20060102T150405Z"))
	if err := r.mark(now, options.Logger); err != nil {
		return err
	}
	if err := r.prepareBus(); err != nil {
		return err
	}
	r.steps, err = r.plan()
	unix.Sync() // the logs, too, before the first step is taken
	return err
}

// removeStale removes what restorations left that ended before their first
// step.
func removeStale(dir string) error {
	stale, err := filepath.Glob(filepath.Join(dir, stagingPrefix+"*"))
	for _, path := range stale {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("remove what an earlier restoration left: %w", err)
	}
	return nil
}

// mark checks the copied database, brings it to this version's schema, and says
// in it that it was restored.
func (r *Restoration) mark(now time.Time, logger hclog.Logger) error {
	opened, err := store.Open(filepath.Join(r.staging, DatabaseFile), logger)
	if err != nil {
		return fmt.Errorf("open the copied database: %w", err)
	}
	err = opened.Check()
	if err == nil {
		_, err = opened.Apply(
			store.MarkRestored(store.Restored{SnapshotAt: r.Manifest.SnapshotAt, RestoredAt: now}),
			store.AppendAudit(fleet.AuditEntry{
				At: now, By: fleet.Local, Action: "state.restore", Object: "state", Outcome: "done",
				Detail: fmt.Sprintf("copy of %s, made by borgfleet %s", r.Manifest.SnapshotAt.Format(time.RFC3339), r.Manifest.Version),
			}))
	}
	if err := errors.Join(err, opened.Close()); err != nil {
		return fmt.Errorf("check the copied database: %w", err)
	}
	return nil
}

// Close gives the directory back, and removes what was unpacked and not used.
// What Apply has begun stays, for [Finish].
func (r *Restoration) Close() error {
	defer r.unlock()
	if r.staging == "" || Whole(r.dir) != nil {
		return nil
	}
	if err := os.RemoveAll(r.staging); err != nil {
		return fmt.Errorf("remove what was unpacked: %w", err)
	}
	return nil
}

// Apply puts the copy in the place of the present state. When it is cut short,
// also by ctx, [Finish] goes on.
func (r *Restoration) Apply(ctx context.Context) error {
	p := pending{SnapshotAt: r.Manifest.SnapshotAt, Staging: filepath.Base(r.staging), Aside: filepath.Base(r.Aside), Steps: r.steps}
	if err := p.write(r.dir); err != nil {
		return err
	}
	return p.apply(ctx, r.dir)
}

// Finish ends a restoration that was cut short, if there is one, and returns the
// time of the copy that is restored then.
func Finish(ctx context.Context, dir string) (snapshotAt time.Time, found bool, err error) {
	p, found, err := readPending(dir)
	if err != nil || !found {
		return time.Time{}, false, err
	}
	unlock, err := lock(dir)
	if err != nil {
		return time.Time{}, true, err
	}
	defer unlock()
	return p.SnapshotAt, true, p.apply(ctx, dir)
}

// Whole returns a *job.Failure when a restoration was cut short, so that the
// directory holds parts of two states.
func Whole(dir string) error {
	p, found, err := readPending(dir)
	if err != nil || !found {
		return err
	}
	return job.Fail(job.Conflict, "the data directory %s is half restored, from a copy of %s", dir, p.SnapshotAt.Format(time.RFC3339)).
		WithHint("run borgfleet state restore again, on this directory: it goes on where it was cut short")
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

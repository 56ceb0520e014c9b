package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/borgfleet/borgfleet/shared/disk"
)

const (
	pendingFile   = "restore.json" // what is being done; there while the directory holds parts of two states
	stagingPrefix = ".restore-"
	asidePrefix   = "before-restore-"
)

// step puts one part of the copy in its place.
type step struct {
	Name string `json:"name"` // below the data directory, with slashes
	New  bool   `json:"new"`  // the copy has it; else the old one only goes
	Keep bool   `json:"keep"` // where there is one, it stays, and that of the copy goes: a log
}

// pending is a restoration that has begun to change the directory.
type pending struct {
	SnapshotAt time.Time `json:"snapshot_at"`
	Staging    string    `json:"staging"` // directory with what is not in its place yet
	Aside      string    `json:"aside"`   // directory with what was there before
	Steps      []step    `json:"steps"`
}

// plan finds what has to be moved. The database comes last: a coordinator that
// finds the new one finds everything that belongs to it.
func (r *Restoration) plan() ([]step, error) {
	parts, keys := []string{KeyFile, TLSDir, revocationPattern, DepotKeyFile, HostIDFile}, []string{busKeysDir, BusDir + "/*.nk"}
	copied, err := glob(r.staging, slices.Concat(parts, keys, []string{borgKeyPattern})...)
	if err != nil {
		return nil, err
	}
	if !r.sameBus {
		parts = slices.Concat(parts, keys, []string{streamDir})
	}
	present, err := glob(r.dir, parts...)
	if err != nil {
		return nil, err
	}
	logs, err := glob(r.staging, logPatterns()...)
	if err != nil {
		return nil, err
	}
	database, err := os.Stat(filepath.Join(r.dir, DatabaseFile))
	if err != nil {
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	r.Replaces = len(present) > 0 || database.Size() > 0
	return steps(copied, present, logs), nil
}

func steps(copied, present, logs []string) []step {
	all := []step{}
	for _, name := range present {
		if !slices.Contains(copied, name) {
			all = append(all, step{Name: name})
		}
	}
	for _, name := range copied {
		all = append(all, step{Name: name, New: true})
	}
	for _, name := range logs {
		all = append(all, step{Name: name, New: true, Keep: true})
	}
	return append(all, step{Name: DatabaseFile, New: true})
}

func readPending(dir string) (p pending, found bool, err error) {
	data, err := os.ReadFile(filepath.Join(dir, pendingFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // whoever may not look finds that out elsewhere
		return p, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err == nil && (p.Staging != filepath.Base(p.Staging) || p.Aside != filepath.Base(p.Aside)) {
		err = errors.New("it names other directories")
	}
	if err != nil {
		return p, false, fmt.Errorf("read what a restoration was doing: %w", err)
	}
	return p, true, nil
}

func (p pending) write(dir string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode what is to be done: %w", err)
	}
	path := filepath.Join(dir, pendingFile)
	if err := renameio.WriteFile(path, data, fileMode, renameio.WithTempDir(dir), renameio.WithStaticPermissions(fileMode)); err != nil {
		return fmt.Errorf("write down what is to be done: %w", err)
	}
	return disk.SyncDir(dir)
}

// apply takes every step that is not taken yet.
func (p pending) apply(ctx context.Context, dir string) error {
	for _, s := range p.Steps {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the restoration was cut short (run it again to go on): %w", err)
		}
		if err := p.take(s, dir); err != nil {
			return fmt.Errorf("put %s in its place (run the restoration again to go on): %w", s.Name, err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, p.Staging)); err != nil {
		return fmt.Errorf("remove what was unpacked: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, pendingFile)); err != nil {
		return fmt.Errorf("end the restoration: %w", err)
	}
	return disk.SyncDir(dir)
}

// take takes one step, or what is left of it: as long as the new part lies with
// the copy, what is in its place is the old one.
func (p pending) take(s step, dir string) error {
	live, fresh, old := filepath.Join(dir, s.Name), filepath.Join(dir, p.Staging, s.Name), filepath.Join(dir, p.Aside, s.Name)
	waits, err := exists(fresh)
	if err != nil || s.New && !waits {
		return err
	}
	if s.Keep {
		if has, err := hasLog(live); err != nil || has {
			return err
		}
	} else if err := moveAside(live, old, s.Name == DatabaseFile); err != nil {
		return err
	}
	if !s.New {
		return nil
	}
	return move(fresh, live)
}

// hasLog reports whether there is a log of the same job.
func hasLog(path string) (bool, error) {
	stem := strings.TrimSuffix(strings.TrimSuffix(path, packedLog), plainLog)
	plain, err := exists(stem + plainLog)
	packed, err2 := exists(stem + packedLog)
	return plain || packed, errors.Join(err, err2)
}

// moveAside gives what is at path another name, if there is something. It keeps
// its own, too, when the new one shall replace it in one step, so that there is
// never no database, which a coordinator would take for a new beginning.
func moveAside(path, aside string, replaced bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !replaced {
		return move(path, aside)
	}
	if has, err := exists(aside); err != nil || has || info.Size() == 0 { // the lock made an empty one
		return err
	}
	if err := makeParent(aside); err != nil {
		return err
	}
	if err := os.Link(path, aside); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(aside))
}

// move gives a file or directory another name, on disk when it returns.
func move(from, to string) error {
	if err := makeParent(to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(disk.SyncDir(filepath.Dir(to)), disk.SyncDir(filepath.Dir(from)))
}

// makeParent makes the directories above path.
func makeParent(path string) error {
	dir := filepath.Dir(path)
	if has, err := exists(dir); err != nil || has {
		return err
	}
	if err := makeParent(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, dirMode); err != nil {
		return err
	}
	return disk.SyncDir(filepath.Dir(dir))
}

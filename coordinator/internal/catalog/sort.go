package catalog

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of one sort.
const (
	arenaBytes = 12 << 20 // entries in memory before they are spilled
	maxRuns    = 32       // of one level, before they become one of the next
	// minFree is how much space a sort leaves on the disk, which the database is
	// on, too.
	minFree = 256 << 20
)

// sorter sorts records with bounded memory: what does not fit goes to files in
// its directory, as sorted runs, which are merged in the end.
type sorter struct {
	dir   string
	arena int // bytes
	free  uint64

	held  []byte // the records that are in memory
	spans []span // where they are
	runs  []run  // oldest first
	made  int    // runs so far, for names
}

// span is where the parts of a record end in the arena, and where it begins.
type span struct{ at, dir, name, rest uint32 }

// run is a file of sorted records. Runs of a higher level are older.
type run struct {
	path  string
	level int
}

func newSorter(dir string, arena int) *sorter { return &sorter{dir: dir, arena: arena, free: minFree} }

// add takes a copy of an entry.
func (s *sorter) add(file fleet.File, madeUp bool) error {
	dir, name := split(file.Path)
	at := len(s.held)
	s.held = append(append(s.held, dir...), name...)
	rest := len(s.held)
	s.held = encodeRest(s.held, file, madeUp)
	s.spans = append(s.spans, span{uint32(at), uint32(at + len(dir)), uint32(rest), uint32(len(s.held))})
	if len(s.held)+len(s.spans)*16 < s.arena {
		return nil
	}
	return s.spill()
}

func (s *sorter) record(p span) record {
	return record{dir: s.held[p.at:p.dir], name: s.held[p.dir:p.name], rest: s.held[p.name:p.rest]}
}

// order sorts what is in memory; equal ones stay in the order in which they came.
func (s *sorter) order() {
	slices.SortFunc(s.spans, func(a, b span) int {
		if c := s.record(a).compare(s.record(b)); c != 0 {
			return c
		}
		return int(int64(a.at) - int64(b.at))
	})
}

// spill writes what is in memory as a run.
func (s *sorter) spill() error {
	if err := s.checkSpace(); err != nil {
		return err
	}
	s.order()
	if err := s.write(&held{sorter: s}, 0); err != nil {
		return err
	}
	s.held, s.spans = s.held[:0], s.spans[:0]
	for level := 0; s.crowded(level); level++ {
		if err := s.compact(level); err != nil {
			return err
		}
	}
	return nil
}

// checkSpace refuses to fill the disk.
func (s *sorter) checkSpace() error {
	var stat unix.Statfs_t
	if err := unix.Statfs(s.dir, &stat); err != nil {
		return fmt.Errorf("space in %s: %w", s.dir, err)
	}
	if free := stat.Bavail * uint64(stat.Bsize); free < s.free {
		return job.Fail(job.DiskFull, "the coordinator's disk has only %s left", human.Bytes(int64(free))).
			WithHint("make space in its data directory, then list the archive again")
	}
	return nil
}

// carefulBytes is how much is written between two looks for space: a merge may
// write as much as the disk has.
const carefulBytes = 16 << 20

// careful is a writer that looks for space.
type careful struct {
	to    io.Writer
	space func() error
	since int // bytes since the last look
}

func newCareful(to io.Writer, space func() error) *careful { return &careful{to: to, space: space} }

// Write implements io.Writer.
func (c *careful) Write(p []byte) (int, error) {
	if c.since += len(p); c.since >= carefulBytes {
		c.since = 0
		if err := c.space(); err != nil {
			return 0, err
		}
	}
	return c.to.Write(p)
}

// crowded reports whether there are too many runs of a level.
func (s *sorter) crowded(level int) bool { return len(s.ofLevel(level)) >= maxRuns }

// ofLevel returns the runs of a level, which are the newest ones when nothing of
// a lower level is there.
func (s *sorter) ofLevel(level int) []run {
	first := slices.IndexFunc(s.runs, func(r run) bool { return r.level <= level })
	if first < 0 {
		return nil
	}
	return s.runs[first:]
}

// compact makes one run of the next level of all those of a level.
func (s *sorter) compact(level int) error {
	old := slices.Clone(s.ofLevel(level))
	sources, closeAll, err := openRuns(old)
	if err != nil {
		return err
	}
	defer closeAll()
	s.runs = s.runs[:len(s.runs)-len(old)]
	if err := s.write(newMerge(sources), level+1); err != nil {
		return err
	}
	for _, r := range old {
		if err := os.Remove(r.path); err != nil {
			return fmt.Errorf("remove spilled run: %w", err)
		}
	}
	return nil
}

// write writes a source as a run.
func (s *sorter) write(from source, level int) error {
	s.made++
	path := filepath.Join(s.dir, "run-"+strconv.Itoa(s.made))
	if err := writeRun(path, from, s.checkSpace); err != nil {
		return fmt.Errorf("spill %s: %w", path, err)
	}
	s.runs = append(s.runs, run{path, level})
	return nil
}

// sorted returns all records in order, each path once. Nothing may be added
// afterwards.
func (s *sorter) sorted() (sorted source, closeAll func(), err error) {
	s.order()
	sources, closeAll, err := openRuns(s.runs)
	if err != nil {
		return nil, nil, err
	}
	return &unique{from: newMerge(append(sources, &held{sorter: s}))}, closeAll, nil
}

// source hands out records. What it returns is good until the next call.
type source interface {
	// next returns io.EOF after the last record.
	next() (record, error)
}

// better reports whether of two records of one path, a before b in the archive,
// the later one counts. It does, as it does for borg extract, except that what
// was made up never does, nor what borg prints of a file that was named twice: a
// hard link to itself.
func better(a, b record) bool {
	switch {
	case a.flags()&flagMadeUp != 0:
		return true
	case b.flags()&(flagMadeUp|flagSelf) != 0:
		return false
	default:
		return true
	}
}

// unique leaves one record of each path.
type unique struct {
	from    source
	ahead   record // what was read beyond the last one that was handed out
	err     error  // why there is nothing ahead
	started bool
	best    record // copy
}

func (u *unique) next() (record, error) {
	if !u.started {
		u.started = true
		u.ahead, u.err = u.from.next()
	}
	if u.err != nil {
		return record{}, u.err
	}
	u.best = u.best.copyOf(u.ahead)
	for {
		u.ahead, u.err = u.from.next()
		if u.err != nil || u.best.compare(u.ahead) != 0 {
			return u.best, nil
		}
		if better(u.best, u.ahead) {
			u.best = u.best.copyOf(u.ahead)
		}
	}
}

// copyOf returns a copy that uses r's buffers.
func (r record) copyOf(from record) record {
	return record{append(r.dir[:0], from.dir...), append(r.name[:0], from.name...), append(r.rest[:0], from.rest...)}
}

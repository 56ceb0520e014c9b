package catalog

import (
	"io"
	"strconv"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// SetArena makes sorts spill after so many bytes.
func (c *Catalog) SetArena(bytes int) { c.arena = bytes }

// Path is where the listing of an archive lies.
func (c *Catalog) Path(repository, archive string) string { return c.path(repository, archive) }

// UnderWay returns how many streams are not over.
func (c *Catalog) UnderWay() int { return len(c.underWay()) }

// Matches reports whether a search finds a path.
func Matches(text, path string) (bool, error) {
	p, err := newPattern(text)
	if err != nil {
		return false, err
	}
	dir, name := split(path)
	names := append(fold(nil, []byte(name)), 0)
	found := false
	visit := func(int) bool { found = true; return false }
	if !p.inPath {
		p.inNames(names, visit)
		return found, nil
	}
	s := &search{sought: p}
	s.group(group{dir: []byte(dir), entries: 1}, [][]byte{names[:len(names)-1]}, visit)
	return found, nil
}

// ParseLine reads a line of borg's.
var ParseLine = parseLine

// Inspect reads all of a file, as if it were a listing.
func Inspect(path string) (entries int, err error) {
	l, err := inspect(path)
	if err != nil {
		return 0, err
	}
	codec, err := newCodec()
	if err != nil {
		return 0, err
	}
	r, err := l.open(codec, newIndexCache())
	if err != nil {
		return 0, err
	}
	defer r.close()
	for i := range r.blocks {
		files, _, err := r.page(r.blocks[i].dir, r.blocks[i].name, 1<<30)
		if err != nil {
			return 0, err
		}
		if _, err := r.rest(&r.blocks[i]); err != nil {
			return 0, err
		}
		entries += len(files)
	}
	return entries, nil
}

// Sorting returns how many streams are sorted.
func (c *Catalog) Sorting() int { return len(c.slots) }

// DecodeAll decodes the parts of a listing.
func DecodeAll(names, dirs, rest, index []byte, entries int) {
	_, _ = decodeNames(names, entries)
	_, _ = decodeDirs(dirs, entries)
	_, _ = decodeRest(rest, entries)
	_, _ = decodeIndex(index, 1<<20)
}

// WriteBlocks writes a listing whose blocks begin with long names.
func WriteBlocks(path, name string, blocks int) error {
	_, err := writeListing(path, &repeated{name: name, left: blocks * 33}, summary{}, func() error { return nil })
	return err
}

// repeated are records of one long directory each.
type repeated struct {
	name string
	left int
}

func (r *repeated) next() (record, error) {
	if r.left--; r.left < 0 {
		return record{}, io.EOF
	}
	file := fleet.File{Type: fleet.RegularFile, Mode: "-rw-r--r--"}
	dir := strconv.AppendInt([]byte(r.name), int64(1<<30-r.left), 10)
	return record{dir: dir, name: []byte("x"), rest: encodeRest(nil, file, false)}, nil
}

// CacheIndexes returns how many bytes of names are cached of some listings.
func CacheIndexes(listings, blocks, length int) (kept int) {
	cache := newIndexCache()
	for range listings {
		index := make([]block, blocks)
		for i := range index {
			index[i].dir = strings.Repeat("d", length)
		}
		_, _ = cache.get(&listing{}, func() ([]block, error) { return index, nil })
	}
	for _, element := range cache.known {
		for _, b := range element.Value.(cachedIndex).blocks {
			kept += len(b.dir)
		}
	}
	return kept
}

// NewCareful returns a writer that looks for space.
var NewCareful = newCareful

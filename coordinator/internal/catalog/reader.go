package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// listing is a file that was found whole. It never changes: a newer one of the
// same archive is another listing.
type listing struct {
	summary
	path    string
	trailer trailer
}

// errReplaced says that a listing's file is another one's now, or gone.
var errReplaced = errors.New("listing was replaced or removed")

// inspect looks at a file's two ends. It does not read the blocks, whose
// checksums are looked at whenever they are read.
func inspect(path string) (*listing, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // read only
	end, err := readEnds(file)
	if err != nil {
		return nil, err
	}
	said, err := readPart(file, end.index+int64(end.indexSize), int(end.summarySize), end.summarySum)
	if err != nil {
		return nil, err
	}
	about, err := decodeSummary(said)
	if err != nil {
		return nil, err
	}
	return &listing{about, path, end}, nil
}

// readEnds reads header and trailer.
func readEnds(file *os.File) (trailer, error) {
	info, err := file.Stat()
	if err != nil {
		return trailer{}, err
	}
	if info.Size() < int64(headerBytes+trailerBytes) {
		return trailer{}, fmt.Errorf("%w: %d bytes", errDamaged, info.Size())
	}
	begin, end := make([]byte, headerBytes), make([]byte, trailerBytes)
	if err := readAt(file, begin, 0); err != nil {
		return trailer{}, err
	}
	if !bytes.Equal(begin, header()) {
		return trailer{}, fmt.Errorf("%w: it begins with %q", errDamaged, begin)
	}
	if err := readAt(file, end, info.Size()-int64(trailerBytes)); err != nil {
		return trailer{}, err
	}
	return decodeTrailer(end, info.Size())
}

func readAt(file *os.File, into []byte, at int64) error {
	_, err := file.ReadAt(into, at)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends too early", errDamaged)
	}
	return err
}

// readPart reads bytes that have a checksum.
func readPart(file *os.File, at int64, size int, sum uint32) ([]byte, error) {
	data := make([]byte, size)
	if err := readAt(file, data, at); err != nil {
		return nil, err
	}
	if checksum(data) != sum {
		return nil, fmt.Errorf("%w: %d bytes at %d have another checksum", errDamaged, size, at)
	}
	return data, nil
}

// reader reads an open listing. It belongs to one goroutine.
type reader struct {
	file   *os.File
	codec  codec
	blocks []block // in order
	packed []byte
	raw    [sections][]byte
}

// open opens a listing. The error is errReplaced if it is not there any more.
func (l *listing) open(c codec, indexes *indexCache) (*reader, error) {
	file, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errReplaced
	}
	if err != nil {
		return nil, fmt.Errorf("open listing: %w", err)
	}
	r := &reader{file: file, codec: c}
	if err := r.prepare(l, indexes); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *reader) close() { _ = r.file.Close() } // read only

func (r *reader) prepare(l *listing, indexes *indexCache) error {
	end, err := readEnds(r.file)
	if err != nil {
		return err
	}
	if end != l.trailer {
		return errReplaced
	}
	r.blocks, err = indexes.get(l, func() ([]block, error) { return r.readIndex(end) })
	return err
}

func (r *reader) readIndex(end trailer) ([]block, error) {
	packed, err := readPart(r.file, end.index, int(end.indexSize), end.indexSum)
	if err != nil {
		return nil, err
	}
	if len(packed) < 4 || binary.BigEndian.Uint32(packed) > maxIndex {
		return nil, fmt.Errorf("%w: index of %d bytes", errDamaged, len(packed))
	}
	raw, err := r.codec.unpack(packed[4:], nil, int(binary.BigEndian.Uint32(packed)))
	if err != nil {
		return nil, err
	}
	return decodeIndex(raw, end.index)
}

// section reads a part of a block. It is good until the same part of another
// block is read.
func (r *reader) section(b *block, part int) ([]byte, error) {
	where := b.sections[part]
	if cap(r.packed) < int(where.size) {
		r.packed = make([]byte, where.size)
	}
	packed := r.packed[:where.size]
	if err := readAt(r.file, packed, where.at); err != nil {
		return nil, err
	}
	if checksum(packed) != where.sum {
		return nil, fmt.Errorf("%w: block at %d has another checksum", errDamaged, where.at)
	}
	raw, err := r.codec.unpack(packed, r.raw[part], int(where.raw))
	if err != nil {
		return nil, err
	}
	r.raw[part] = raw
	return raw, nil
}

// names returns the names of a block.
func (r *reader) names(b *block) ([][]byte, error) {
	raw, err := r.section(b, namesSection)
	if err != nil {
		return nil, err
	}
	return inBlock(decodeNames(raw, b.entries))
}

// dirs returns the directories of a block.
func (r *reader) dirs(b *block) ([]group, error) {
	raw, err := r.section(b, dirsSection)
	if err != nil {
		return nil, err
	}
	return inBlock(decodeDirs(raw, b.entries))
}

// rest returns the entries of a block, without names and paths.
func (r *reader) rest(b *block) ([]fleet.File, error) {
	raw, err := r.section(b, restSection)
	if err != nil {
		return nil, err
	}
	return inBlock(decodeRest(raw, b.entries))
}

func inBlock[T any](value T, err error) (T, error) {
	if err != nil {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return value, err
}

// first returns the number of the block in which a key is, if it is anywhere.
func (r *reader) first(dir, name string) int {
	after := sort.Search(len(r.blocks), func(i int) bool {
		b := &r.blocks[i]
		return b.dir > dir || (b.dir == dir && b.name > name)
	})
	return max(0, after-1)
}

// page returns up to limit entries of a directory, by name, from one on, and
// whether there are more.
func (r *reader) page(dir, from string, limit int) (files []fleet.File, more bool, err error) {
	for i := r.first(dir, from); i < len(r.blocks) && r.blocks[i].dir <= dir; i++ {
		b := &r.blocks[i]
		groups, err := r.dirs(b)
		if err != nil {
			return nil, false, err
		}
		at := slices.IndexFunc(groups, func(g group) bool { return string(g.dir) == dir })
		if at < 0 {
			continue
		}
		names, err := r.names(b)
		if err != nil {
			return nil, false, err
		}
		end := groups[at].from + groups[at].entries
		begin := groups[at].from + sort.Search(groups[at].entries, func(k int) bool { return string(names[groups[at].from+k]) >= from })
		if begin == end {
			continue
		}
		all, err := r.rest(b)
		if err != nil {
			return nil, false, err
		}
		for k := begin; k < end; k++ {
			if len(files) == limit {
				return files, true, nil
			}
			files = append(files, named(all[k], dir, string(names[k])))
		}
	}
	return files, false, nil
}

func named(file fleet.File, dir, name string) fleet.File {
	file.Path, file.Name = join(dir, name), name
	return file
}

// entry returns the entry of a path; found is false if there is none.
func (r *reader) entry(path string) (file fleet.File, found bool, err error) {
	dir, name := split(path)
	files, _, err := r.page(dir, name, 1)
	if err != nil || len(files) == 0 || files[0].Name != name {
		return fleet.File{}, false, err
	}
	return files[0], true, nil
}

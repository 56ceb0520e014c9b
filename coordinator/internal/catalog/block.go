package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Bounds of a block. It is what one page of a directory has to decompress; names
// of more entries compress better.
const (
	blockEntries = 4096
	blockBytes   = 512 << 10 // of all sections; one entry more may fit
	maxSection   = blockBytes + 8*maxPath
)

// The sections of a block, each compressed by itself.
const (
	namesSection = iota // the names, each followed by a NUL byte
	dirsSection         // the directories, each with the number of its entries here
	restSection         // everything else, by column
	sections
)

// blockMaker collects the entries of a block.
type blockMaker struct {
	first   record // copy
	entries int
	names   []byte
	dirs    []byte // those that are over
	dir     []byte // the present one
	inDir   int    // its entries

	owners  map[string]int // places, by encodeOwner
	texts   []byte         // of the owners, in order
	flags   []byte
	owner   []byte
	sizes   []byte
	times   []byte // differences
	targets []byte
	time    int64 // of the last entry
}

// add takes an entry.
func (b *blockMaker) add(r record) error {
	c := cut{left: r.rest}
	flags, owner := c.byte(), c.text()
	size, micro := c.uvarint(), c.varint()
	var target []byte
	if flags&flagTarget != 0 {
		target = c.text()
	}
	if err := c.end(); err != nil {
		return err
	}
	if b.entries == 0 {
		b.first, b.dir = b.first.copyOf(r), append(b.dir[:0], r.dir...)
		b.owners = map[string]int{}
	}
	if !bytes.Equal(b.dir, r.dir) {
		b.endDir()
		b.dir = append(b.dir[:0], r.dir...)
	}
	b.entries++
	b.inDir++
	b.names = append(append(b.names, r.name...), 0)
	place, known := b.owners[string(owner)]
	if !known {
		place = len(b.owners)
		b.owners[string(owner)] = place
		b.texts = appendText(b.texts, owner)
	}
	b.flags = append(b.flags, flags)
	b.owner = binary.AppendUvarint(b.owner, uint64(place))
	b.sizes = binary.AppendUvarint(b.sizes, size)
	b.times = binary.AppendVarint(b.times, micro-b.time)
	b.time = micro
	if flags&flagTarget != 0 {
		b.targets = appendText(b.targets, target)
	}
	return nil
}

func (b *blockMaker) endDir() {
	b.dirs = binary.AppendUvarint(appendText(b.dirs, b.dir), uint64(b.inDir))
	b.inDir = 0
}

// full reports whether it is time for another block.
func (b *blockMaker) full() bool {
	size := len(b.names) + len(b.dirs) + len(b.dir) + len(b.texts) + len(b.targets) + len(b.times) + len(b.sizes)
	return b.entries >= blockEntries || size >= blockBytes
}

// finish returns the sections, and begins a new block. They are good until the
// next entry.
func (b *blockMaker) finish() [sections][]byte {
	b.endDir()
	rest := binary.AppendUvarint(nil, uint64(len(b.owners)))
	for _, column := range [][]byte{b.texts, b.flags, b.owner, b.sizes, b.times, b.targets} {
		rest = append(rest, column...)
	}
	done := [sections][]byte{namesSection: b.names, dirsSection: b.dirs, restSection: rest}
	*b = blockMaker{
		first: b.first, names: b.names[:0], dirs: b.dirs[:0], dir: b.dir[:0], texts: b.texts[:0], flags: b.flags[:0],
		owner: b.owner[:0], sizes: b.sizes[:0], times: b.times[:0], targets: b.targets[:0],
	}
	return done
}

var errBlock = errors.New("block does not fit itself")

// group is a directory in a block.
type group struct {
	dir     []byte
	from    int // its first entry
	entries int
}

// decodeDirs returns the directories of a block.
func decodeDirs(raw []byte, entries int) ([]group, error) {
	c := cut{left: raw}
	var groups []group
	from := 0
	for len(c.left) > 0 && c.err == nil {
		g := group{dir: c.text(), from: from}
		n := c.uvarint()
		if n == 0 || n > uint64(entries-from) {
			return nil, errBlock
		}
		g.entries = int(n)
		from += g.entries
		groups = append(groups, g)
	}
	if from != entries {
		return nil, errBlock
	}
	return groups, c.end()
}

// decodeNames returns the names of a block.
func decodeNames(raw []byte, entries int) ([][]byte, error) {
	if bytes.Count(raw, []byte{0}) != entries || (len(raw) > 0 && raw[len(raw)-1] != 0) {
		return nil, errBlock
	}
	names := make([][]byte, 0, entries)
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, 0)
		names = append(names, raw[:end])
		raw = raw[end+1:]
	}
	return names, nil
}

// decodeRest returns the entries of a block, without names and paths.
func decodeRest(raw []byte, entries int) ([]fleet.File, error) {
	c := cut{left: raw}
	owners := make([]fleet.File, c.count())
	for i := range owners {
		var err error
		if owners[i], err = decodeOwner(c.text()); err != nil {
			return nil, err
		}
	}
	flags := c.bytes(uint64(entries))
	if c.err != nil {
		return nil, c.err
	}
	files := make([]fleet.File, entries)
	for i := range files {
		place := c.uvarint()
		if place >= uint64(len(owners)) || flags[i]&^knownFlags != 0 {
			return nil, errBlock
		}
		files[i] = owners[place]
		files[i].Damaged = flags[i]&flagDamaged != 0
	}
	for i := range files {
		files[i].Size = int64(c.uvarint())
	}
	micro := int64(0)
	for i := range files {
		micro += c.varint()
		files[i].MTime = fromMicro(micro)
	}
	for i := range files {
		if flags[i]&flagTarget != 0 {
			files[i].Target = string(c.text())
		}
	}
	return files, c.end()
}

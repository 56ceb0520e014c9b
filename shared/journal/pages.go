package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The layout of a bbolt file, version 2 (go.etcd.io/bbolt/internal/common). It
// is written in the machine's own byte order.
const (
	fileMagic   = 0xED0CDAED
	fileVersion = 2

	pageHeaderBytes = 16 // id, flags, count, overflow
	elementBytes    = 16 // of a branch or a leaf
	bucketBytes     = 16 // root page, sequence
	metaBytes       = 64 // with its checksum, the last eight

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketLeaf   = 0x01 // flag of an element
	noFreelist   = ^uint64(0)
	manyFree     = 0xFFFF // the count of a freelist that holds its count itself

	minPageBytes = 1 << 10
	maxPageBytes = 16 << 20
)

var order64, order32, order16 = binary.NativeEndian.Uint64, binary.NativeEndian.Uint32, binary.NativeEndian.Uint16

// pages is a walk over all pages that the newest state of a file reaches. bbolt
// takes a page's word for what it is, and may panic, or run in a circle, on one
// that lies; therefore this comes before bbolt sees the file.
type pages struct {
	file *os.File
	size int64  // of a page
	end  uint64 // the first page that was never used
	seen []bool
}

// meta is what the walk needs of a meta page.
type meta struct {
	pageBytes, root, freelist, end uint64
}

// checkPages returns an error with [errDamage] unless bbolt can go through the
// file. Any other error is one of reading.
func checkPages(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 { // empty: bbolt begins a new one
		return err
	}
	newest, err := newestMeta(file, info.Size())
	if err != nil {
		return err
	}
	if newest.end > uint64(info.Size())/newest.pageBytes {
		return damaged("it is cut short: %d pages of %d bytes do not fit in %d bytes", newest.end, newest.pageBytes, info.Size())
	}
	p := &pages{file: file, size: int64(newest.pageBytes), end: newest.end, seen: make([]bool, newest.end)}
	if newest.end < 2 {
		return damaged("it has no room for its meta pages")
	}
	p.seen[0], p.seen[1] = true, true
	if err := p.tree(newest.root, nil, nil); err != nil {
		return err
	}
	return p.free(newest.freelist)
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errDamage}, args...)...)
}

// newestMeta returns the valid meta page with the higher transaction number.
func newestMeta(file *os.File, size int64) (meta, error) {
	var newest meta
	var transaction uint64
	found, newer := false, false
	try := func(at int64) error {
		data := make([]byte, pageHeaderBytes+metaBytes)
		if _, err := file.ReadAt(data, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		m := data[pageHeaderBytes:]
		sum := fnv.New64a()
		sum.Write(m[:metaBytes-8])
		switch {
		case order32(m) != fileMagic:
			return nil
		case order32(m[4:]) > fileVersion:
			newer = true
			return nil
		case sum.Sum64() != order64(m[56:]):
			return nil
		}
		if id := order64(m[48:]); !found || id > transaction {
			found, transaction = true, id
			newest = meta{pageBytes: uint64(order32(m[8:])), root: order64(m[16:]), freelist: order64(m[32:]), end: order64(m[40:])}
		}
		return nil
	}
	for at := int64(0); at < size && at <= maxPageBytes; at = max(2*at, minPageBytes) { // the second is where the first page ends
		if err := try(at); err != nil {
			return meta{}, err
		}
	}
	switch {
	case found && newest.pageBytes >= minPageBytes && newest.pageBytes <= maxPageBytes:
		return newest, nil
	case newer:
		return meta{}, errNewer
	default:
		return meta{}, damaged("it has no valid meta page")
	}
}

// read returns a page with what it flows over into, and marks all that as seen.
func (p *pages) read(id uint64, flags ...uint16) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, damaged("page %d is outside of the file", id)
	}
	header := make([]byte, pageHeaderBytes)
	if _, err := p.file.ReadAt(header, int64(id)*p.size); err != nil {
		return nil, err
	}
	over := uint64(order32(header[12:]))
	if order64(header) != id || over >= p.end-id {
		return nil, damaged("page %d is not what it should be", id)
	}
	known := false
	for _, flag := range flags {
		known = known || order16(header[8:]) == flag
	}
	if !known {
		return nil, damaged("page %d is of an unexpected kind", id)
	}
	for i := id; i <= id+over; i++ {
		if p.seen[i] {
			return nil, damaged("page %d is used twice", i)
		}
		p.seen[i] = true
	}
	data := make([]byte, int64(over+1)*p.size)
	_, err := p.file.ReadAt(data, int64(id)*p.size)
	return data, err
}

// tree goes through a page and all below it, whose keys are to lie in the range
// from least up to below; nil: no bound.
func (p *pages) tree(id uint64, least, below []byte) error {
	data, err := p.read(id, branchPage, leafPage)
	if err != nil {
		return err
	}
	if order16(data[8:]) == leafPage {
		return p.leaf(data, least, below)
	}
	count := int(order16(data[10:]))
	if count == 0 {
		return damaged("branch page %d is empty", id)
	}
	keys, children := make([][]byte, count), make([]uint64, count)
	for i := range count {
		at := pageHeaderBytes + i*elementBytes
		if at+elementBytes > len(data) {
			return damaged("branch page %d has too many elements", id)
		}
		element := data[at:]
		if keys[i], err = part(element, uint64(order32(element)), uint64(order32(element[4:]))); err != nil {
			return err
		}
		children[i] = order64(element[8:])
	}
	if err := ascending(keys, least, below); err != nil {
		return err
	}
	for i, child := range children {
		next := below
		if i+1 < count {
			next = keys[i+1]
		}
		if err := p.tree(child, keys[i], next); err != nil {
			return err
		}
	}
	return nil
}

// leaf goes through a leaf page, and through the buckets in it.
func (p *pages) leaf(data, least, below []byte) error {
	count := int(order16(data[10:]))
	keys := make([][]byte, count)
	for i := range count {
		at := pageHeaderBytes + i*elementBytes
		if at+elementBytes > len(data) {
			return damaged("a leaf page has too many elements")
		}
		element := data[at:]
		offset, keyBytes, valueBytes := uint64(order32(element[4:])), uint64(order32(element[8:])), uint64(order32(element[12:]))
		var value []byte
		var err error
		if keys[i], err = part(element, offset, keyBytes); err == nil {
			value, err = part(element, offset+keyBytes, valueBytes)
		}
		if err == nil && order32(element) == bucketLeaf {
			err = p.bucket(value)
		}
		if err != nil {
			return err
		}
	}
	return ascending(keys, least, below)
}

// bucket goes through a bucket, which has a tree of its own, or one page within.
func (p *pages) bucket(value []byte) error {
	if len(value) < bucketBytes {
		return damaged("a bucket is cut short")
	}
	if root := order64(value); root != 0 {
		return p.tree(root, nil, nil)
	}
	inline := value[bucketBytes:]
	if len(inline) < pageHeaderBytes || order16(inline[8:]) != leafPage {
		return damaged("a bucket's own page is not a leaf")
	}
	return p.leaf(inline, nil, nil)
}

// free goes through the list of free pages, none of which may be in use.
func (p *pages) free(id uint64) error {
	if id == noFreelist {
		return nil
	}
	data, err := p.read(id, freelistPage)
	if err != nil {
		return err
	}
	list, count := data[pageHeaderBytes:], uint64(order16(data[10:]))
	if count == manyFree {
		count, list = order64(list), list[8:]
	}
	if count > uint64(len(list))/8 {
		return damaged("the list of free pages is cut short")
	}
	for i := range count {
		one := order64(list[8*i:])
		if one < 2 || one >= p.end || p.seen[one] {
			return damaged("page %d is said to be free, and is not", one)
		}
		p.seen[one] = true
	}
	return nil
}

// part returns a piece of an element's data.
func part(element []byte, offset, length uint64) ([]byte, error) {
	if offset+length > uint64(len(element)) {
		return nil, damaged("an element lies outside of its page")
	}
	return element[offset : offset+length], nil
}

func ascending(keys [][]byte, least, below []byte) error {
	for i, key := range keys {
		switch {
		case i == 0 && bytes.Compare(key, least) < 0,
			i > 0 && bytes.Compare(keys[i-1], key) >= 0,
			below != nil && bytes.Compare(key, below) >= 0:
			return damaged("its keys are not in order")
		}
	}
	return nil
}

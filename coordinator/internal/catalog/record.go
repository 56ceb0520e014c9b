package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// record is an entry on its way through the sort. Its parts are often slices of
// a buffer that is used again.
type record struct {
	dir, name []byte
	rest      []byte // see encodeRest
}

// compare orders by directory, then name.
func (r record) compare(other record) int {
	if c := bytes.Compare(r.dir, other.dir); c != 0 {
		return c
	}
	return bytes.Compare(r.name, other.name)
}

// Flags of an entry.
const (
	flagDamaged = 1 << iota
	flagTarget  // it has a target
	flagMadeUp  // a directory that borg did not list
	flagSelf    // a hard link to its own path
	knownFlags  = 1<<iota - 1
)

func (r record) flags() byte { return r.rest[0] }

// unknownMode is what ls shows of a directory that it cannot look at.
const unknownMode = "d?????????"

// encodeRest appends all of a file but its path: flags, what it has in common
// with many (with its length before), size, time, target.
func encodeRest(to []byte, file fleet.File, madeUp bool) []byte {
	var flags byte
	if file.Damaged {
		flags |= flagDamaged
	}
	if file.Target != "" {
		flags |= flagTarget
	}
	if madeUp {
		flags |= flagMadeUp
	}
	if file.Type == fleet.HardLink && file.Target == file.Path {
		flags |= flagSelf
	}
	to = append(to, flags)
	to = appendText(to, encodeOwner(file))
	to = binary.AppendUvarint(to, uint64(file.Size))
	to = binary.AppendVarint(to, file.MTime.UnixMicro())
	if flags&flagTarget != 0 {
		to = appendText(to, file.Target)
	}
	return to
}

// encodeOwner is the part that many files of an archive have in common.
func encodeOwner(file fleet.File) []byte {
	owner := make([]byte, 0, 40)
	owner = appendText(owner, string(file.Type))
	owner = appendText(owner, file.Mode)
	owner = binary.AppendVarint(owner, int64(file.UID))
	owner = binary.AppendVarint(owner, int64(file.GID))
	owner = appendText(owner, file.User)
	return appendText(owner, file.Group)
}

func decodeOwner(owner []byte) (file fleet.File, err error) {
	c := cut{left: owner}
	file.Type = fleet.FileType(c.text())
	file.Mode = string(c.text())
	file.UID, file.GID = int(c.varint()), int(c.varint())
	file.User, file.Group = string(c.text()), string(c.text())
	return file, c.end()
}

func fromMicro(micro int64) time.Time { return time.UnixMicro(micro).UTC() }

func appendText[Text ~string | ~[]byte](to []byte, text Text) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

var errShort = errors.New("data does not fit its own lengths")

// cut takes values from the beginning of a buffer. After a fault it returns only
// zero values, and err says so.
type cut struct {
	left []byte
	err  error
}

func (c *cut) uvarint() uint64 {
	value, n := binary.Uvarint(c.left)
	return value & c.advance(n)
}

func (c *cut) varint() int64 {
	value, n := binary.Varint(c.left)
	return value & int64(c.advance(n))
}

// advance returns a mask of all ones, or zero after a fault.
func (c *cut) advance(n int) uint64 {
	if c.err != nil || n <= 0 {
		c.err = errShort
		return 0
	}
	c.left = c.left[n:]
	return ^uint64(0)
}

func (c *cut) bytes(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.left)) {
		c.err = errShort
		return nil
	}
	taken := c.left[:n:n]
	c.left = c.left[n:]
	return taken
}

// text takes what has its length before it.
func (c *cut) text() []byte { return c.bytes(c.uvarint()) }

func (c *cut) byte() byte {
	if b := c.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// count takes a number of things that take at least one byte each.
func (c *cut) count() int {
	n := c.uvarint()
	if n > uint64(len(c.left)) {
		c.err = errShort
		return 0
	}
	return int(n)
}

// end says whether all was taken, and nothing beyond.
func (c *cut) end() error {
	if c.err == nil && len(c.left) > 0 {
		c.err = errShort
	}
	return c.err
}

package catalog

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A listing is a file of
//
//	header    magic, version
//	blocks    their sections, one after the other
//	index     where the sections are, and the first key of each block; its size
//	          uncompressed comes first
//	summary   what the listing is of, as JSON
//	trailer   where index and summary are; of fixed length
//
// Index and sections are compressed, and have a CRC-32C over what lies on disk.
const (
	magic         = "bf-files"
	formatVersion = 1
	headerBytes   = len(magic) + 4
	trailerBytes  = 8 + 5*4 + len(magic)
	maxSummary    = 64 << 10
	maxIndex      = 64 << 20 // packed or not: a hundred million entries have 3 MB
)

var checksums = crc32.MakeTable(crc32.Castagnoli)

func checksum(data []byte) uint32 { return crc32.Checksum(data, checksums) }

// errDamaged is why a file is no listing. It never comes from a disk that could
// not be read.
var errDamaged = errors.New("damaged listing")

func header() []byte { return binary.BigEndian.AppendUint32([]byte(magic), formatVersion) }

// summary says what a listing is of.
type summary struct {
	Repository string    `json:"repository"`
	Archive    string    `json:"archive"`
	ID         string    `json:"id,omitempty"`    // borg's id of the archive; empty: it was not known
	Start      time.Time `json:"start,omitzero"`  // of the archive; zero: not known
	ListedAt   time.Time `json:"listed_at"`       // when borg began to list it
	Entries    int64     `json:"entries"`         // made up directories included
	BadLines   int64     `json:"bad_lines"`       // that were left out, as they could not be read
	Raw        int64     `json:"raw_bytes"`       // that borg printed
	Job        string    `json:"job,omitempty"`   // that listed it
	Damaged    int64     `json:"damaged_entries"` // that borg said are damaged
}

// trailer is the end of a listing.
type trailer struct {
	index       int64 // offset
	indexSize   uint32
	indexSum    uint32
	summarySize uint32 // it follows the index
	summarySum  uint32
}

func (t trailer) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(t.index))
	for _, value := range []uint32{t.indexSize, t.indexSum, t.summarySize, t.summarySum} {
		b = binary.BigEndian.AppendUint32(b, value)
	}
	b = binary.BigEndian.AppendUint32(b, checksum(b))
	return append(b, magic...)
}

// decodeTrailer reads the end of a file of a size.
func decodeTrailer(b []byte, size int64) (trailer, error) {
	if len(b) != trailerBytes || !bytes.HasSuffix(b, []byte(magic)) {
		return trailer{}, fmt.Errorf("%w: no end", errDamaged)
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	if u32(24) != checksum(b[:24]) {
		return trailer{}, fmt.Errorf("%w: the end has another checksum", errDamaged)
	}
	t := trailer{int64(binary.BigEndian.Uint64(b)), u32(8), u32(12), u32(16), u32(20)}
	whole := t.index >= int64(headerBytes) && t.summarySize <= maxSummary && t.indexSize <= maxIndex &&
		t.index <= size && t.index+int64(t.indexSize)+int64(t.summarySize)+int64(trailerBytes) == size
	if !whole {
		return trailer{}, fmt.Errorf("%w: the end does not fit %d bytes", errDamaged, size)
	}
	return t, nil
}

func (s summary) encode() ([]byte, error) {
	data, err := json.Marshal(s)
	if err == nil && len(data) > maxSummary {
		err = fmt.Errorf("summary of %d bytes", len(data))
	}
	return data, err
}

func decodeSummary(data []byte) (s summary, err error) {
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%w: summary: %w", errDamaged, err)
	}
	return s, nil
}

// block says where a block is, and what it begins with.
type block struct {
	dir, name string // of its first entry
	entries   int
	sections  [sections]section
}

// bytes is about how much memory it takes, and no less than its part of the index.
func (b *block) bytes() int { return len(b.dir) + len(b.name) + 100 }

// section is a compressed part of a block.
type section struct {
	at   int64
	size uint32
	raw  uint32 // uncompressed
	sum  uint32
}

// encodeIndex returns the index, not compressed. Sections follow each other, so
// that only their sizes are in it.
func encodeIndex(blocks []block) []byte {
	b := binary.AppendUvarint(nil, uint64(len(blocks)))
	for _, each := range blocks {
		b = appendText(appendText(b, each.dir), each.name)
		b = binary.AppendUvarint(b, uint64(each.entries))
		for _, part := range each.sections {
			b = binary.AppendUvarint(b, uint64(part.size))
			b = binary.AppendUvarint(b, uint64(part.raw))
			b = binary.BigEndian.AppendUint32(b, part.sum)
		}
	}
	return b
}

// decodeIndex reads an index of blocks that end where the index begins.
func decodeIndex(raw []byte, end int64) ([]block, error) {
	c := cut{left: raw}
	blocks := make([]block, c.count())
	at := int64(headerBytes)
	for i := range blocks {
		b := &blocks[i]
		b.dir, b.name, b.entries = string(c.text()), string(c.text()), int(c.uvarint())
		if b.entries < 1 || b.entries > blockEntries {
			return nil, fmt.Errorf("%w: a block of %d entries", errDamaged, b.entries)
		}
		for k := range b.sections {
			size, raw, sum := c.uvarint(), c.uvarint(), c.bytes(4)
			if c.err != nil || raw > maxSection || size > 2*maxSection {
				return nil, fmt.Errorf("%w: the index has sections of %d bytes", errDamaged, size)
			}
			b.sections[k] = section{at, uint32(size), uint32(raw), binary.BigEndian.Uint32(sum)}
			at += int64(size)
		}
	}
	if err := c.end(); err != nil || at != end {
		return nil, fmt.Errorf("%w: the index does not fit the blocks", errDamaged)
	}
	return blocks, nil
}

// codec compresses and decompresses. Decompressing is safe for concurrent use.
type codec struct{ decoder *zstd.Decoder }

// newEncoder returns a compressor for one writer.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
}

func newCodec() (codec, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return codec{}, fmt.Errorf("make decoder of listings: %w", err)
	}
	return codec{decoder}, nil
}

// unpack decompresses what comes to size bytes, into a buffer if that is large
// enough.
func (c codec) unpack(packed, into []byte, size int) ([]byte, error) {
	limit := max(size, 1)
	if cap(into) < limit {
		into = make([]byte, 0, limit)
	}
	raw, err := c.decoder.DecodeAll(packed, into[:0:limit])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(raw) != size {
		return nil, fmt.Errorf("%w: %d bytes instead of %d", errDamaged, len(raw), size)
	}
	return raw, nil
}

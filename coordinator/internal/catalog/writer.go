package catalog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// writer writes a listing.
type writer struct {
	to      *bufio.Writer
	encoder *zstd.Encoder
	at      int64 // bytes so far
	maker   blockMaker
	blocks  []block
	index   int // bytes of these
	packed  []byte
}

// writeListing makes a file of sorted records, on the disk for good, and returns
// what it is of, with its count. Now and then it looks whether there is space.
func writeListing(path string, from source, about summary, space func() error) (_ summary, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return about, fmt.Errorf("make listing: %w", err)
	}
	defer func() {
		if fault := file.Close(); err == nil && fault != nil {
			err = fmt.Errorf("close listing: %w", fault)
		}
	}()
	encoder, err := newEncoder()
	if err != nil {
		return about, fmt.Errorf("make encoder of listings: %w", err)
	}
	w := &writer{to: bufio.NewWriterSize(newCareful(file, space), 256<<10), encoder: encoder}
	if about.Entries, err = w.writeAll(from); err == nil {
		err = w.writeEnd(about)
	}
	if err == nil {
		err = errors.Join(w.to.Flush(), file.Sync())
	}
	if err != nil {
		return about, fmt.Errorf("write listing: %w", err)
	}
	return about, nil
}

func (w *writer) write(data []byte) error {
	w.at += int64(len(data))
	_, err := w.to.Write(data)
	return err
}

func (w *writer) writeAll(from source) (entries int64, err error) {
	if err := w.write(header()); err != nil {
		return 0, err
	}
	for {
		r, err := from.next()
		if errors.Is(err, io.EOF) {
			return entries, w.endBlock()
		}
		if err != nil {
			return entries, err
		}
		if err := w.maker.add(r); err != nil {
			return entries, err
		}
		entries++
		if w.maker.full() {
			if err := w.endBlock(); err != nil {
				return entries, err
			}
		}
	}
}

func (w *writer) endBlock() error {
	if w.maker.entries == 0 {
		return nil
	}
	made := block{dir: string(w.maker.first.dir), name: string(w.maker.first.name), entries: w.maker.entries}
	for i, raw := range w.maker.finish() {
		w.packed = w.encoder.EncodeAll(raw, w.packed[:0])
		made.sections[i] = section{at: w.at, size: uint32(len(w.packed)), raw: uint32(len(raw)), sum: checksum(w.packed)}
		if err := w.write(w.packed); err != nil {
			return err
		}
	}
	w.blocks = append(w.blocks, made)
	if w.index += made.bytes(); w.index > maxIndex {
		return errTooLong
	}
	return nil
}

// writeEnd writes index, summary and trailer.
func (w *writer) writeEnd(about summary) error {
	raw := encodeIndex(w.blocks)
	index := w.encoder.EncodeAll(raw, binary.BigEndian.AppendUint32(nil, uint32(len(raw))))
	said, err := about.encode()
	if err != nil {
		return err
	}
	end := trailer{w.at, uint32(len(index)), checksum(index), uint32(len(said)), checksum(said)}
	return errors.Join(w.write(index), w.write(said), w.write(end.encode()))
}

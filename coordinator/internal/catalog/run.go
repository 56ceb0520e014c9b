package catalog

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

const runBuffer = 64 << 10

// held hands out what a sorter has in memory, sorted before.
type held struct {
	sorter *sorter
	at     int
}

func (h *held) next() (record, error) {
	if h.at == len(h.sorter.spans) {
		return record{}, io.EOF
	}
	h.at++
	return h.sorter.record(h.sorter.spans[h.at-1]), nil
}

// writeRun writes a file of records. The directory of a record is left out when
// it is the one of the record before. Nothing is synced: after a crash the sort
// begins anew. Now and then it looks whether there is space.
func writeRun(path string, from source, space func() error) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	to := bufio.NewWriterSize(newCareful(file, space), runBuffer)
	var dir, encoded []byte
	for first := true; ; first = false {
		r, err := from.next()
		if errors.Is(err, io.EOF) {
			return to.Flush()
		}
		if err != nil {
			return err
		}
		encoded = encoded[:0]
		if !first && bytes.Equal(dir, r.dir) {
			encoded = append(encoded, 0)
		} else {
			dir = append(dir[:0], r.dir...)
			encoded = append(binary.AppendUvarint(encoded, uint64(len(dir))+1), dir...)
		}
		encoded = appendText(appendText(encoded, r.name), r.rest)
		if _, err := to.Write(encoded); err != nil {
			return err
		}
	}
}

// runReader reads such a file.
type runReader struct {
	file   *os.File
	from   *bufio.Reader
	record record
}

// openRuns opens files of records, oldest first.
func openRuns(runs []run) (sources []source, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, file := range files {
			_ = file.Close() // read only
		}
	}
	for _, r := range runs {
		file, err := os.Open(r.path)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("open spilled run: %w", err)
		}
		files = append(files, file)
		sources = append(sources, &runReader{file: file, from: bufio.NewReaderSize(file, runBuffer)})
	}
	return sources, closeAll, nil
}

func (r *runReader) next() (record, error) {
	length, err := binary.ReadUvarint(r.from)
	if errors.Is(err, io.EOF) {
		return record{}, io.EOF
	}
	if err == nil && length > 0 {
		r.record.dir, err = r.read(r.record.dir, length-1)
	}
	if err == nil {
		r.record.name, err = r.text(r.record.name)
	}
	if err == nil {
		r.record.rest, err = r.text(r.record.rest)
	}
	if err != nil {
		return record{}, fmt.Errorf("read spilled run %s: %w", r.file.Name(), err)
	}
	return r.record, nil
}

func (r *runReader) text(into []byte) ([]byte, error) {
	length, err := binary.ReadUvarint(r.from)
	if err != nil {
		return into, err
	}
	return r.read(into, length)
}

func (r *runReader) read(into []byte, length uint64) ([]byte, error) {
	if length > 8*maxPath { // it was written a moment ago: a disk that lies
		return into, errShort
	}
	if uint64(cap(into)) < length {
		into = make([]byte, length)
	}
	into = into[:length]
	_, err := io.ReadFull(r.from, into)
	return into, err
}

// merge hands out the records of sorted sources in order; equal ones in the
// order of their sources.
type merge struct {
	heads   []head // a heap
	pending bool   // the first head was handed out, and is not replaced yet
	err     error
}

type head struct {
	record record
	from   source
	place  int // of its source
}

func newMerge(sources []source) *merge {
	m := &merge{}
	for i, from := range sources {
		first, err := from.next()
		switch {
		case errors.Is(err, io.EOF):
		case err != nil:
			m.err = err
		default:
			m.heads = append(m.heads, head{first, from, i})
		}
	}
	heap.Init(m)
	return m
}

func (m *merge) next() (record, error) {
	if m.err == nil && m.pending {
		m.err = m.replace()
	}
	if m.err != nil {
		return record{}, m.err
	}
	if len(m.heads) == 0 {
		return record{}, io.EOF
	}
	m.pending = true
	return m.heads[0].record, nil
}

// replace reads on where the last record came from.
func (m *merge) replace() error {
	m.pending = false
	next, err := m.heads[0].from.next()
	if errors.Is(err, io.EOF) {
		heap.Pop(m)
		return nil
	}
	m.heads[0].record = next
	heap.Fix(m, 0)
	return err
}

// Len implements [heap.Interface].
func (m *merge) Len() int { return len(m.heads) }

// Less implements [heap.Interface].
func (m *merge) Less(i, j int) bool {
	if c := m.heads[i].record.compare(m.heads[j].record); c != 0 {
		return c < 0
	}
	return m.heads[i].place < m.heads[j].place
}

// Swap implements [heap.Interface].
func (m *merge) Swap(i, j int) { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }

// Push implements [heap.Interface]; sources are never added.
func (m *merge) Push(any) {}

// Pop implements [heap.Interface].
func (m *merge) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}

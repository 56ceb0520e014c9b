package transfer

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// content is what a download consists of. Closing it ends the download.
type content struct {
	*held
	transfer *transfer
}

// nothing reports whether it has ended without a byte.
func (c *content) nothing() bool { return c.err == io.EOF && len(c.current)+len(c.ahead) == 0 }

// Close implements io.Closer.
func (c *content) Close() error {
	c.transfer.close()
	return nil
}

// held reads one chunk ahead, and gives the last one out only when end says
// that all went well: whoever has all the bytes has what borg meant to send.
type held struct {
	source  io.Reader
	end     func() error      // called after the last byte
	why     func(error) error // makes of an error of the source one for a person
	current []byte            // is given out
	ahead   []byte            // is held back
	spare   []byte            // is read into
	err     error             // what follows ahead
}

// begin reads the first chunk. Of a short output it waits for the end: borg
// writes a tar of nothing before it says that there is no such path.
func (h *held) begin() error {
	h.spare = make([]byte, bus.PieceBytes)
	h.ahead, h.err = h.read(make([]byte, bus.PieceBytes))
	if h.err == nil && len(h.ahead) < bus.PieceBytes {
		h.advance()
	}
	if h.err == io.EOF {
		return nil
	}
	return h.err
}

// read reads a chunk; with an error there is none.
func (h *held) read(into []byte) ([]byte, error) {
	n, err := io.ReadAtLeast(h.source, into, 1)
	switch {
	case err == nil:
		return into[:n], nil
	case err != io.EOF:
		return nil, h.why(err)
	}
	if err := h.end(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	for len(h.current) == 0 {
		if h.err != nil {
			return 0, h.err
		}
		h.advance()
	}
	n := copy(p, h.current)
	h.current = h.current[n:]
	return n, nil
}

// advance gives out the chunk that was held back, if there is more or that was
// all.
func (h *held) advance() {
	next, err := h.read(h.spare[:bus.PieceBytes])
	h.err = err
	if err == nil || err == io.EOF {
		h.current, h.spare, h.ahead = h.ahead, h.ahead, next
	}
}

// window bounds the memory of one compression: a few times as much.
const window = 1 << 20

// compress returns the content as zstd. The errors of one are those of the
// other.
func compress(plain *content) io.ReadCloser {
	reader, writer := io.Pipe()
	c := &compressed{PipeReader: reader, plain: plain}
	c.worker.Go(func() {
		encoder, err := zstd.NewWriter(writer, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window))
		if err == nil {
			_, err = io.Copy(encoder, plain)
		}
		if err == nil {
			err = encoder.Close()
		}
		writer.CloseWithError(err)
	})
	return c
}

// compressed is content that is compressed while it is read.
type compressed struct {
	*io.PipeReader
	plain  *content
	worker sync.WaitGroup
}

// Close implements io.Closer. The plain content belongs to the worker.
func (c *compressed) Close() error {
	_ = c.PipeReader.Close() // never fails
	c.plain.transfer.stop(errClosed)
	c.worker.Wait()
	return c.plain.Close()
}

// released is content that holds a place among the open downloads.
type released struct {
	io.ReadCloser
	free func()
	once sync.Once
	err  error
}

// Close implements io.Closer. It may be called again.
func (r *released) Close() error {
	r.once.Do(func() {
		r.err = r.ReadCloser.Close()
		r.free()
	})
	return r.err
}

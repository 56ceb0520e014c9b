package remote

import (
	"bytes"
	"context"
	"errors"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/borgfleet/borgfleet/shared/process"
)

// maxSealed bounds what is kept of one run. What is encrypted are keys: some
// kilobytes.
const maxSealed = 1 << 20

var errSealedTooLong = errors.New("the host sends more than any key is long")

// capped is a buffer that takes only so much.
type capped struct {
	*bytes.Buffer
	left int
}

// Write implements io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		return 0, errSealedTooLong
	}
	return c.Buffer.Write(p)
}

// sealed is the output of a program that is encrypted to a recipient. The host
// has nothing to encrypt with, so what the program prints comes here by a pipe,
// touches no disk, and only what it was encrypted to is kept, in memory. When
// the connection breaks, or the coordinator ends, it is gone, and the run counts
// as lost: it takes half a second, and is run again.
type sealed struct {
	stop context.CancelFunc
	over chan struct{} // closed when text and err are set
	text []byte        // an armoured age file; empty: nothing was printed
	err  error
}

// encrypt begins to read the output of a command with a Recipient, which Start
// waits for. stop gives that up when there is nothing to read.
func (h *Host) encrypt(c process.Command) (stop func()) {
	recipient, err := age.ParseX25519Recipient(c.Recipient)
	if err != nil { // it was checked
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sealed[c.ID] != nil { // started before
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &sealed{stop: cancel, over: make(chan struct{})}
	h.sealed[c.ID] = s
	go func() {
		defer close(s.over)
		var output *output
		if output, s.err = h.open(ctx, c.ID); s.err != nil {
			return
		}
		defer output.Close() // read to its end, or given up
		var text bytes.Buffer
		s.err = encrypt(&capped{Buffer: &text, left: maxSealed}, output, recipient)
		s.text = text.Bytes()
	}()
	return func() { h.dropSealed(c.ID) }
}

// dropSealed forgets what was encrypted.
func (h *Host) dropSealed(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sealed[id]; s != nil {
		s.stop()
		delete(h.sealed, id)
	}
}

// cipher returns the encrypted output of a run, or nil.
func (h *Host) cipher(id string) *sealed {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sealed[id]
}

// unseal delivers the encrypted output of a run that is over.
func (h *Host) unseal(ctx context.Context, id string, exit process.Exit, from process.Offsets, emit func(process.Chunk) error) (process.Exit, error) {
	lost := process.Exit{Code: -1, StartedAt: exit.StartedAt, Lost: true}
	s := h.cipher(id)
	if s == nil || exit.Lost {
		return lost, nil
	}
	if err := h.settled(ctx, id); err != nil {
		return process.Exit{}, err
	}
	select {
	case <-s.over:
	case <-ctx.Done():
		return process.Exit{}, ctx.Err()
	}
	if s.err != nil {
		h.logger.Warn("encrypt the output of a run", "run", id, "err", s.err)
		return lost, nil
	}
	if from.Stdout < int64(len(s.text)) {
		return exit, emit(process.Chunk{Stdout: s.text[max(0, from.Stdout):]})
	}
	return exit, nil
}

// encrypt copies all of from into a text, encrypted. Of nothing it makes nothing.
func encrypt(into io.Writer, from io.Reader, to age.Recipient) error {
	buffer := make([]byte, 32<<10)
	defer clear(buffer)
	n, err := io.ReadAtLeast(from, buffer, 1)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	text := armor.NewWriter(into)
	whole, err := age.Encrypt(text, to)
	if err != nil {
		return err
	}
	if _, err := whole.Write(buffer[:n]); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{whole}, struct{ io.Reader }{from}, buffer); err != nil {
		return err
	}
	return errors.Join(whole.Close(), text.Close())
}

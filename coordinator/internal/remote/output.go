package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// Sizes and times of an output that is read as it comes.
const (
	aheadBytes  = 256 << 10              // that have come and are not read yet
	heldTime    = time.Second            // after a program's end, nothing came for so long: somebody else holds its output
	placeTime   = 200 * time.Millisecond // between two tries to get a place for a long script
	outputWords = 16                     // more than any word in front of the output
)

// errHere ends a script that somebody has read enough of.
var errHere = errors.New("the reader is gone")

// output is what a program prints into a pipe: a script on the host brings it,
// and is held up when it is not read. It is safe for concurrent use.
type output struct {
	stop    context.CancelFunc // ends the script
	verdict chan string        // gets the word in front of the output, or nothing

	mu       sync.Mutex
	word     []byte // in front of it, while it is not complete
	spoken   bool   // it is
	buffer   bytes.Buffer
	over     bool // no more comes
	err      error
	closed   bool // nobody reads any more
	deadline time.Time
	came     time.Time     // when anything did
	moved    chan struct{} // closed, and made anew, when anything has changed
}

// Output opens the standard output of a command with Pipe set: see
// [process.Local.Output].
func (h *Host) Output(ctx context.Context, id string) (process.Output, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	return h.open(ctx, id)
}

func (h *Host) open(ctx context.Context, id string) (*output, error) {
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		o, word, err := h.connect(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case word == "go":
			return o, nil
		}
		if o != nil { // its script is over, or should be
			_ = o.Close() // nobody else has it
		}
		switch word {
		case "none":
			return nil, process.ErrNoOutput
		case "later", "": // or there was no place for it
			if err := wait(ctx, placeTime); err != nil {
				return nil, err
			}
		default:
			return nil, errTorn
		}
	}
}

// connect begins to read. The word says how that went; it is empty when there
// was no place for a script that takes long.
func (h *Host) connect(ctx context.Context, id string) (*output, string, error) {
	within, stop := context.WithCancel(context.Background())
	o := &output{stop: stop, verdict: make(chan string, 1), moved: make(chan struct{}), came: time.Now()}
	ended := make(chan error, 1)
	go func() {
		defer stop()
		errs := limited{limit: 1 << 10}
		code, err := h.options.Shell.ExecLong(within, h.script(id, nil, reading), nil, o, &errs)
		if err == nil && code != 0 {
			err = fmt.Errorf("reading the output of %s on %s ended with code %d: %s", id, h.options.Host, code, shown(errs.String()))
		}
		o.finish(err)
		h.forgetOutput(id, o)
		ended <- err
	}()
	select {
	case word := <-o.verdict:
		if word == "go" {
			h.noteOutput(id, o)
		}
		return o, word, nil
	case err := <-ended:
		if failure, ok := errors.AsType[*job.Failure](err); ok && failure.Code == job.Unavailable {
			return nil, "", nil
		}
		select {
		case word := <-o.verdict:
			return o, word, nil
		default:
		}
		if err == nil {
			err = errTorn
		}
		return nil, "", err
	case <-ctx.Done():
		_ = o.Close() // nobody has it yet
		return nil, "", ctx.Err()
	}
}

// noteOutput keeps an output until its script is over.
func (h *Host) noteOutput(id string, o *output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		h.outputs[id] = o
	}
}

func (h *Host) forgetOutput(id string, o *output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.outputs[id] == o {
		delete(h.outputs, id)
	}
}

// settled waits, when a run is over, until all that it printed for a reader has
// come here: whoever learns of the end may take what it has for all.
func (h *Host) settled(ctx context.Context, id string) error {
	h.mu.Lock()
	o := h.outputs[id]
	h.mu.Unlock()
	if o == nil {
		return nil
	}
	return o.settle(ctx)
}

// settle waits until all has come, or nothing more does because somebody else
// holds the output; then that is its end.
func (o *output) settle(ctx context.Context) error {
	for {
		o.mu.Lock()
		over, empty, quiet, moved := o.over || o.closed, o.buffer.Len() == 0, time.Since(o.came), o.moved
		o.mu.Unlock()
		if over {
			return nil
		}
		if empty && quiet > heldTime {
			o.finish(nil)
			o.stop()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		case <-time.After(heldTime / 4):
		}
	}
}

// change calls f with the lock, and lets everybody look again.
func (o *output) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	close(o.moved)
	o.moved = make(chan struct{})
}

// finish says that no more comes.
func (o *output) finish(err error) {
	o.change(func() {
		if !o.over {
			o.over, o.err = true, err
		}
	})
}

// Write takes what the script prints.
func (o *output) Write(data []byte) (int, error) {
	taken := 0
	for {
		o.mu.Lock()
		if o.closed || o.over {
			o.mu.Unlock()
			return taken, errHere
		}
		n := o.accept(data[taken:])
		moved := o.moved
		o.mu.Unlock()
		if n > 0 {
			taken += n
			o.change(func() { o.came = time.Now() })
		}
		if taken == len(data) {
			return taken, nil
		}
		if n == 0 {
			<-moved
		}
	}
}

// accept takes what there is room for. It is called with the lock.
func (o *output) accept(data []byte) int {
	if o.spoken {
		n := min(len(data), aheadBytes-o.buffer.Len())
		o.buffer.Write(data[:n])
		return n
	}
	n := bytes.IndexByte(data, '\n') + 1
	if n == 0 {
		n = len(data)
	}
	o.word = append(o.word, data[:n]...)
	if len(o.word) > outputWords || o.word[len(o.word)-1] == '\n' {
		o.spoken = true
		o.verdict <- string(bytes.TrimSpace(o.word))
	}
	return n
}

// Read implements [process.Output]. What has come is read whatever the deadline.
func (o *output) Read(p []byte) (int, error) {
	for {
		o.mu.Lock()
		n, err := 0, error(nil)
		switch {
		case o.closed:
			err = os.ErrClosed
		case len(p) == 0:
		case o.buffer.Len() > 0:
			n, _ = o.buffer.Read(p) // there is something
		case o.over && o.err != nil:
			err = fmt.Errorf("read output: %w", o.err)
		case o.over:
			err = io.EOF
		case !o.deadline.IsZero() && !time.Now().Before(o.deadline):
			err = os.ErrDeadlineExceeded
		}
		moved, until := o.moved, o.deadline
		o.mu.Unlock()
		switch {
		case n > 0:
			o.change(func() {})
			return n, nil
		case err != nil || len(p) == 0:
			return 0, err
		}
		await(moved, until)
	}
}

// await returns when something has changed, or at a time, if there is one.
func await(moved <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-moved
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-moved:
	case <-timer.C:
	}
}

// SetReadDeadline implements [process.Output].
func (o *output) SetReadDeadline(t time.Time) error {
	o.mu.Lock()
	closed := o.closed
	o.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	o.change(func() { o.deadline = t })
	return nil
}

// Close implements [process.Output]. The program's next write fails.
func (o *output) Close() error {
	o.mu.Lock()
	closed := o.closed
	o.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	o.change(func() { o.closed = true })
	o.stop()
	return nil
}

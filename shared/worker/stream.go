package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/shared/attempt"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/fault"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// keptPieces is how many of the pieces that were read can be asked for again.
const keptPieces = 2 * bus.PiecesAhead

// stream reads what borg prints in one attempt, piece by piece as the
// coordinator asks, so that borg is never further ahead than its pipe is long.
// It is safe for concurrent use.
type stream struct {
	wait, idle time.Duration // see bus.PieceWait and bus.PieceIdle
	forget     func()        // nobody can ask any more
	abandoned  chan struct{} // closed when the reader is gone before all was handed out
	turn       chan struct{} // has one place: whoever is in it reads

	mu     sync.Mutex
	source process.Output // nil before it is open, and when all is read
	timer  *time.Timer    // nil before it is open; fires when nobody has asked for long
	kept   map[int64][]byte
	next   int64         // the piece that is read next
	part   []byte        // what is read of it; belongs to whose turn it is
	moved  chan struct{} // closed, and made anew, when anything has changed
	last   bool          // the one before next was the last piece
	taken  bool          // that one was handed out
	ended  bool          // borg has ended
	over   bool          // the attempt has, or was not started
	gone   bool          // abandoned is closed
}

func newStream(wait, idle time.Duration, forget func()) *stream {
	return &stream{
		wait: wait, idle: idle, forget: forget, abandoned: make(chan struct{}), turn: make(chan struct{}, 1),
		kept: map[int64][]byte{}, moved: make(chan struct{}),
	}
}

// stream returns the stream of an attempt, or nil when its kind has none. One
// that had begun before this run of the agent has lost its reader with the last.
func (w *Worker) stream(order bus.Order, begun bool) *stream {
	spec, err := job.ParseSpec(order.Kind, order.Spec)
	if err != nil || !job.Streams(spec) {
		return nil
	}
	key := attempt.KeyOf(order)
	w.mu.Lock()
	defer w.mu.Unlock()
	s, known := w.streams[key]
	if known {
		return s
	}
	s = newStream(w.options.PieceWait, w.options.PieceIdle, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.streams, key)
	})
	if begun {
		s.abandon()
		return s
	}
	w.streams[key] = s
	return s
}

// Read returns a piece of what borg prints in an attempt that streams. It waits
// for a while if there is nothing yet.
func (w *Worker) Read(ctx context.Context, r bus.Read) bus.Piece {
	w.mu.Lock()
	s, known := w.streams[attempt.Key{Job: r.Job, Number: r.Attempt}]
	w.mu.Unlock()
	if !known {
		return bus.Piece{State: bus.PieceGone, Piece: r.Piece}
	}
	piece := s.piece(ctx, r.Piece)
	if len(piece.Data) > 0 {
		fault.Point(fault.PieceRead)
	}
	if piece.State == bus.PieceLast {
		s.change(func() { s.taken = true })
	}
	return piece
}

// attend opens borg's output beside its start, if the attempt streams, and
// returns when to end borg: it may go on to the end without a reader, and call
// that a success. done is to be called when the attempt is over.
func (w *Worker) attend(ctx context.Context, rec *recorder, id string) (cancel <-chan struct{}, done func()) {
	s := rec.stream
	if s == nil {
		return rec.wish.ended, func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	if !s.lost() {
		helpers.Go(func() {
			s.open(ctx, func(ctx context.Context) (process.Output, error) { return w.options.Runs.Output(ctx, id) })
		})
	}
	either := make(chan struct{})
	helpers.Go(func() {
		select {
		case <-rec.wish.ended:
		case <-s.abandoned:
		case <-ctx.Done():
			return
		}
		close(either)
	})
	return either, func() {
		stop()
		helpers.Wait()
	}
}

// lost reports whether the reader is gone before all was handed out.
func (s *stream) lost() bool {
	select {
	case <-s.abandoned:
		return true
	default:
		return false
	}
}

// change calls f with the lock, and lets everybody look again.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.moved)
	s.moved = make(chan struct{})
}

// openRetry is when an output is opened again after a fault.
const openRetry = time.Second

// open waits for borg's output, until ctx ends.
func (s *stream) open(ctx context.Context, open func(context.Context) (process.Output, error)) {
	for {
		source, err := open(ctx)
		if err == nil {
			s.change(func() { s.source, s.timer = source, time.AfterFunc(s.idle, s.unasked) })
			return
		}
		if errors.Is(err, process.ErrNoOutput) {
			s.abandon()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(openRetry):
		}
	}
}

// drain waits, when borg has ended, until all that it printed is handed out, or
// nobody asks any more: an agent that is started again has nothing of it, so no
// attempt ends well before that.
func (s *stream) drain(ctx context.Context, cancel <-chan struct{}) error {
	s.change(func() { s.ended = true })
	for {
		s.mu.Lock()
		done, moved := s.taken || s.gone, s.moved
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-cancel:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// finish says that the attempt is over. What borg printed is still there to be
// read, until nobody asks any more.
func (s *stream) finish() {
	known := false
	s.change(func() {
		s.over = true
		if known = !s.gone && s.timer != nil; known {
			s.timer.Reset(s.idle)
		}
	})
	if !known {
		s.forget()
	}
}

// unasked is called when nobody has asked for a long time.
func (s *stream) unasked() {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	s.abandon()
	if over {
		s.forget()
	}
}

// abandon closes the reader. What was not handed out by then is lost.
func (s *stream) abandon() {
	s.close()
	s.change(func() {
		if !s.taken && !s.gone {
			s.gone = true
			close(s.abandoned)
		}
	})
}

// close gives up what the system holds for it.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.source != nil {
		_ = s.source.Close() // read only: nothing to lose
		s.source = nil
	}
}

// piece returns a piece, or why there is none. It waits for some time.
func (s *stream) piece(ctx context.Context, n int64) bus.Piece {
	until := time.Now().Add(s.wait)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		answer, source, moved := s.look(n)
		if answer.State != bus.PieceLater {
			return answer
		}
		turn := s.turn
		if source == nil { // it is not this one's turn yet
			turn = nil
		}
		select {
		case <-ctx.Done():
			return answer
		case <-moved:
		case turn <- struct{}{}:
			late := s.read(source, n, until)
			<-s.turn
			if late {
				return answer
			}
		}
	}
}

// look returns what can be said of a piece at once. If that is PieceLater, it is
// to be read from source, or is not there before something has moved.
func (s *stream) look(n int64) (answer bus.Piece, source process.Output, moved <-chan struct{}) {
	lost := false
	s.mu.Lock()
	defer func() {
		s.mu.Unlock()
		if lost {
			s.abandon()
		}
	}()
	if s.timer != nil && !s.gone {
		s.timer.Reset(s.idle)
	}
	answer = bus.Piece{State: bus.PieceGone, Piece: n}
	data, kept := s.kept[n]
	switch {
	case s.gone || n < 0:
	case s.last && n >= s.next-1:
		answer.State, answer.Data = bus.PieceLast, data // asked for ahead, behind the end: nothing
	case kept:
		answer.State, answer.Data = bus.PieceMore, data
	case n < s.next: // dropped: whoever asks has lost too much to go on
		lost = true
	case s.source == nil && s.over: // it was never there
	default:
		answer.State = bus.PieceLater
		if n == s.next {
			source = s.source
		}
	}
	return answer, source, s.moved
}

// read reads the next piece, if that is still n. It returns true when the time
// was over before the piece was whole; what has come stays.
func (s *stream) read(source process.Output, n int64, until time.Time) (late bool) {
	s.mu.Lock()
	current := s.next == n && s.source != nil
	s.mu.Unlock()
	if !current || source.SetReadDeadline(until) != nil { // closed meanwhile
		return false
	}
	if s.part == nil {
		s.part = make([]byte, 0, bus.PieceBytes)
	}
	for len(s.part) < cap(s.part) {
		s.mu.Lock()
		over := s.ended || s.over
		s.mu.Unlock()
		got, err := source.Read(s.part[len(s.part):cap(s.part)])
		s.part = s.part[:len(s.part)+got]
		late = errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case err == nil:
		case late && !over:
			return true
		case late, errors.Is(err, io.EOF): // when borg is over, somebody else may hold its output open
			s.step(true)
			s.close()
			return false
		default:
			s.abandon()
			return false
		}
	}
	s.step(false)
	return false
}

// step keeps the piece that was read.
func (s *stream) step(last bool) {
	s.change(func() {
		s.kept[s.next] = s.part
		delete(s.kept, s.next-keptPieces)
		s.next++
		s.part, s.last = nil, last
	})
}

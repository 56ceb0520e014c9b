package agentlink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// streamBudget bounds the pieces that may be on their way to us at a time, over
// all streams: a server cuts off a connection for which more than four megabytes
// wait, and orders travel on the same one.
const streamBudget = 24

// streamTimes are the waits of a [Stream].
type streamTimes struct {
	answer    time.Duration // after this a piece is asked for again
	pause     time.Duration // before that, after a fault
	silence   time.Duration // without any answer: the host is given up
	keepalive time.Duration // without a question: the reader is slow, and lets the host know that it is there
	budget    time.Duration // an answer that has not come by then counts as not on its way
}

func defaultStreamTimes() streamTimes {
	return streamTimes{
		answer: bus.PieceTimeout, pause: 200 * time.Millisecond, silence: 2 * time.Minute,
		keepalive: bus.PieceIdle / 3, budget: 5 * time.Second,
	}
}

// Stream reads what borg prints in a running attempt of a job that
// [job.Streams]. Read waits for as long as borg, and asks again while the host
// is away; it ends with io.EOF after the last byte, or with a *job.Failure when
// the host has lost what is left (connection_lost) or has not answered for two
// minutes (host_unreachable). A reader that pauses keeps borg waiting; memory is
// bounded by [bus.PiecesAhead]. The stream belongs to one goroutine, and must be
// closed: borg ends when nobody has asked for a piece for [bus.PieceIdle].
func (l *Link) Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		link: l, ctx: ctx, cancel: cancel, times: l.times, host: host, job: id, attempt: attempt,
		window: 1, asked: make(chan struct{}, 1),
	}
	s.workers.Go(s.keepAlive)
	return s
}

// stream is one reader. Its pieces are asked for side by side and handed out in
// order.
type stream struct {
	link    *Link
	ctx     context.Context
	cancel  context.CancelFunc
	times   streamTimes
	workers sync.WaitGroup
	host    string
	job     job.ID
	attempt int

	queue   []*pending // asked for and not handed out, in order
	next    int64      // number of the piece after these
	window  int        // how long the queue may be: grows while pieces come
	current []byte     // what is left of the piece that is handed out
	last    bool       // there is none after it
	err     error      // what Read says from now on

	asked  chan struct{} // gets one for every question
	newest atomic.Int64  // number after that of the newest piece that has come
}

// pending is one piece that was asked for. The last fields are set when done is
// closed.
type pending struct {
	number int64
	before <-chan struct{} // closed when the piece before has come
	done   chan struct{}

	piece    bus.Piece
	repeated bool // it had to be asked for again
	err      error
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.current) == 0 {
		if s.err == nil {
			s.err = s.advance()
		}
		if s.err != nil {
			return 0, s.err
		}
	}
	n := copy(p, s.current)
	s.current = s.current[n:]
	return n, nil
}

// Close implements io.Closer. It does not wait for borg.
func (s *stream) Close() error {
	s.cancel()
	s.workers.Wait()
	s.err = cmp.Or(s.err, errStreamClosed)
	s.current, s.queue = nil, nil
	return nil
}

var errStreamClosed = errors.New("stream is closed")

// advance makes the next piece the current one.
func (s *stream) advance() error {
	if s.last {
		return io.EOF
	}
	s.askAhead()
	head := s.queue[0]
	select {
	case <-head.done:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	if head.err != nil {
		return head.err
	}
	s.queue = s.queue[1:]
	s.current, s.last = head.piece.Data, head.piece.State == bus.PieceLast
	if s.last {
		s.cancel() // what was asked for beyond the end
		return nil
	}
	s.window = min(2*s.window, bus.PiecesAhead)
	if head.repeated {
		s.window = 1
	}
	s.askAhead()
	return nil
}

// askAhead fills the queue.
func (s *stream) askAhead() {
	for len(s.queue) < s.window {
		p := &pending{number: s.next, done: make(chan struct{})}
		if n := len(s.queue); n > 0 {
			p.before = s.queue[n-1].done
		}
		s.queue = append(s.queue, p)
		s.next++
		s.workers.Go(func() {
			defer close(p.done)
			p.piece, p.err = s.fetch(p)
		})
	}
}

// fetch asks for a piece until it comes. Whenever it did not come, the ones
// before it are waited for: so of a borg that prints slowly, and of a host that
// is away, only one piece is asked for at a time.
func (s *stream) fetch(p *pending) (bus.Piece, error) {
	silentSince := time.Now()
	for {
		sent := time.Now()
		piece, err := s.ask(p.number)
		switch {
		case s.ctx.Err() != nil:
			return piece, context.Cause(s.ctx)
		case err == nil && piece.State == bus.PieceGone:
			return piece, s.gone()
		case err == nil && piece.State != bus.PieceLater:
			s.came(p.number)
			return piece, nil
		case err == nil:
			silentSince = time.Now()
		case time.Since(silentSince) >= s.times.silence:
			return piece, s.silent(err)
		}
		p.repeated = true
		if !s.waitFor(p.before) {
			return piece, context.Cause(s.ctx)
		}
		if p.before != nil { // its host was not silent while we did not ask
			silentSince, p.before = time.Now(), nil
			continue
		}
		if err != nil || time.Since(sent) < s.times.pause { // a host takes its time before it says that there is nothing
			s.sleep(s.times.pause)
		}
	}
}

func (s *stream) gone() error {
	return job.Fail(job.ConnectionLost, "host %s has lost what is left of the output of job %s", s.host, s.job).
		WithHint("its agent was started again, or the reader was too slow; start over")
}

func (s *stream) silent(err error) error {
	return job.Fail(job.HostUnreachable, "host %s has not answered for %s while job %s was read: %s", s.host, s.times.silence, s.job, err).
		WithHint("borgfleet host list shows since when it is away")
}

func (s *stream) waitFor(done <-chan struct{}) bool {
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *stream) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
}

// came notes that a piece is here.
func (s *stream) came(number int64) {
	for {
		newest := s.newest.Load()
		if number < newest || s.newest.CompareAndSwap(newest, number+1) {
			return
		}
	}
}

// ask asks for a piece once.
func (s *stream) ask(number int64) (bus.Piece, error) {
	release, err := s.link.takeBudget(s.ctx, s.times.budget)
	if err != nil {
		return bus.Piece{}, err
	}
	defer release()
	select {
	case s.asked <- struct{}{}:
	default:
	}
	question, err := json.Marshal(bus.Read{Job: s.job, Attempt: s.attempt, Piece: number})
	if err != nil {
		return bus.Piece{}, fmt.Errorf("encode question: %w", err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.times.answer)
	defer cancel()
	answer, err := s.link.agents.RequestWithContext(ctx, bus.ReadSubject(s.host), question)
	if errors.Is(err, nats.ErrNoResponders) {
		return bus.Piece{}, fleet.ErrHostAway
	}
	if err != nil {
		return bus.Piece{}, err
	}
	piece, err := bus.DecodePiece(answer.Data)
	if err == nil && piece.Piece != number {
		err = fmt.Errorf("asked for piece %d, and got %d", number, piece.Piece)
	}
	if err != nil {
		return bus.Piece{}, fmt.Errorf("answer of host %s: %w", s.host, err)
	}
	return piece, nil
}

// takeBudget waits until another piece may be on its way. The budget is given
// back when release is called, or after a while, so that hosts that do not
// answer hold up no others.
func (l *Link) takeBudget(ctx context.Context, patience time.Duration) (release func(), err error) {
	select {
	case l.budget <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	give := sync.OnceFunc(func() { <-l.budget })
	timer := time.AfterFunc(patience, give)
	return func() {
		timer.Stop()
		give()
	}, nil
}

// keepAlive asks for the newest piece again when the reader has taken none for
// long, so that the host does not think it gone. The answer is of no interest.
func (s *stream) keepAlive() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.asked:
		case <-time.After(s.times.keepalive):
			if newest := s.newest.Load(); newest > 0 {
				_, _ = s.ask(newest - 1) // an answer that matters comes to the piece after it
			}
		}
	}
}

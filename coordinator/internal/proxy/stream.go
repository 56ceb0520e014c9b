package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

var errStreamClosed = errors.New("stream is closed")

// Stream reads what borg prints in a running attempt of a job that
// [job.Streams]. Read waits for as long as borg; it ends with io.EOF after the
// last byte, or with a *job.Failure (connection_lost) when what is left is lost.
// A reader that pauses keeps borg waiting. The stream belongs to one goroutine,
// and must be closed: borg ends when nobody has asked for long.
func (s *Service) Stream(ctx context.Context, host string, id job.ID, attempt int) io.ReadCloser {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &stream{ctx: ctx, session: s.find(host), host: host, job: id, attempt: attempt, asked: make(chan struct{}, 1)}
	r.cancel = func() { cancel(errStreamClosed) }
	if r.session != nil { // its end is the end of what is left
		forget := context.AfterFunc(r.session.life, func() { cancel(r.lost()) })
		r.cancel = func() { forget(); cancel(errStreamClosed) }
	}
	idle := cmp.Or(s.options.PieceIdle, bus.PieceIdle)
	r.keeper.Go(func() { r.keepAlive(idle / 3) })
	return r
}

// stream is one reader.
type stream struct {
	ctx     context.Context
	cancel  func()
	keeper  sync.WaitGroup
	host    string
	session *session // nil: the host is not attached
	job     job.ID
	attempt int

	next    int64  // the piece after the current one
	current []byte // what is left of the piece that is handed out
	last    bool   // there is none after it
	err     error  // what Read says from now on

	asked  chan struct{} // gets one for every piece that has come
	newest atomic.Int64  // number after that of the newest one
}

// Read implements io.Reader.
func (r *stream) Read(p []byte) (int, error) {
	for len(r.current) == 0 {
		if r.err == nil {
			r.err = r.advance()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.current)
	r.current = r.current[n:]
	return n, nil
}

// Close implements io.Closer. It does not wait for borg.
func (r *stream) Close() error {
	r.cancel()
	r.keeper.Wait()
	r.err = cmp.Or(r.err, errStreamClosed)
	r.current = nil
	return nil
}

// advance makes the next piece the current one.
func (r *stream) advance() error {
	if r.last {
		return io.EOF
	}
	for r.ctx.Err() == nil {
		piece := bus.Piece{State: bus.PieceGone}
		if r.session != nil {
			piece = r.session.worker.Read(r.ctx, bus.Read{Job: r.job, Attempt: r.attempt, Piece: r.next})
		}
		if r.session != nil && r.session.life.Err() != nil { // its worker ends, and so may what it reads
			return r.lost()
		}
		switch piece.State {
		case bus.PieceGone:
			return r.lost()
		case bus.PieceLater:
			continue
		}
		r.next++
		r.current, r.last = piece.Data, piece.State == bus.PieceLast
		r.newest.Store(r.next)
		select {
		case r.asked <- struct{}{}:
		default:
		}
		return nil
	}
	return context.Cause(r.ctx)
}

func (r *stream) lost() error {
	return job.Fail(job.ConnectionLost, "what is left of the output of job %s on host %s is lost", r.job, r.host).
		WithHint("the connection to the host was cut, the coordinator was started again, or the reader was too slow; start over")
}

// keepAlive asks for the newest piece again while the reader takes none, so that
// the worker does not think it gone.
func (r *stream) keepAlive(every time.Duration) {
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.asked:
		case <-time.After(every):
			if newest := r.newest.Load(); newest > 0 {
				_ = r.session.worker.Read(r.ctx, bus.Read{Job: r.job, Attempt: r.attempt, Piece: newest - 1}) // the reader has it
			}
		}
	}
}

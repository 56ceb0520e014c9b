package engine_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// endless is an executor whose program has printed without end, until a signal
// comes and enough of it was read.
type endless struct {
	scripted
	enough   int64
	begin    chan struct{} // closed when some of it was read
	signal   chan struct{} // closed by the first signal
	signaled sync.Once
}

func (e *endless) Signal(context.Context, string, process.Signal) error {
	e.signaled.Do(func() { close(e.signal) })
	return nil
}

func (e *endless) Follow(ctx context.Context, _ string, _ process.Offsets, emit func(process.Chunk) error) (process.Exit, error) {
	lines := []byte(strings.Repeat(line(strings.Repeat("x", 100)), 300))
	begun := sync.OnceFunc(func() { close(e.begin) })
	for read := int64(0); ; read += int64(len(lines)) {
		if err := emit(process.Chunk{Stderr: lines}); err != nil {
			return process.Exit{}, err
		}
		begun()
		select {
		case <-ctx.Done():
			return process.Exit{}, ctx.Err()
		case <-e.signal:
			if read > e.enough {
				return process.Exit{Code: -1, Signal: int(syscall.SIGTERM)}, nil
			}
		default:
		}
	}
}

// TestCancelWhileAHugeOutputIsReadAgain: the signal does not wait for the end of
// the reading, and what is read does not stay in memory.
func TestCancelWhileAHugeOutputIsReadAgain(t *testing.T) {
	const enough = 32 << 20
	e := &endless{enough: enough, begin: make(chan struct{}), signal: make(chan struct{})}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	rec, cancel := newRecorder(), make(chan struct{})
	go func() {
		<-e.begin
		close(cancel)
	}()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	from := engine.Resume{StartedTold: true, LogLines: job.LogHeadLines, Offsets: process.Offsets{Stderr: enough}}
	if err := newEngine(e).Resume(ctx, compaction(), from, rec, cancel); err != nil {
		t.Fatalf("the cancellation was not heard while the output was read: %v", errors.Join(err, ctx.Err()))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if end := rec.finished(t); end.State != job.Cancelled {
		t.Errorf("finished as %s", end.State)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes of %d that were read are still held", grown, int64(enough))
	}
	runtime.KeepAlive(rec)
}

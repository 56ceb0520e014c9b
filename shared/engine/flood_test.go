package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/process"
)

// flood is an executor whose program has printed a lot before anybody reads it.
type flood struct {
	scripted
	chunk  []byte
	chunks int
}

func (f *flood) Follow(_ context.Context, _ string, _ process.Offsets, emit func(process.Chunk) error) (process.Exit, error) {
	for range f.chunks {
		if err := emit(process.Chunk{Stderr: f.chunk}); err != nil {
			return process.Exit{}, err
		}
	}
	return process.Exit{Code: 0, StartedAt: f.begun, EndedAt: time.Now()}, nil
}

// BenchmarkReadAgain measures how fast the output of a job is read again after
// a restart of the agent.
func BenchmarkReadAgain(b *testing.B) {
	const line = `{"type": "file_status", "status": "A", "path": "/srv/www/example.org/releases/2026-11-22/f0000.txt"}` + "\n"
	f := &flood{chunk: []byte(strings.Repeat(line, (64<<10)/len(line))), chunks: 256}
	b.SetBytes(int64(len(f.chunk) * f.chunks))
	for b.Loop() {
		if err := newEngine(f).Run(b.Context(), compaction(), newRecorder(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

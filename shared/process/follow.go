package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// How often a follower looks for output: an eighth of the time that nothing
// has come, within these bounds. Once the program has ended, its supervisor is
// about to say how, and the follower looks more and more rarely from
// followEnd on.
const (
	followEnd   = time.Millisecond
	followBusy  = 20 * time.Millisecond
	followQuiet = 250 * time.Millisecond
)

const readBytes = 64 << 10 // of each output at a time

// Follow hands the run's output to emit from the given offsets on, and returns
// how the run ended when all of its output is delivered. It does not matter
// who started the run, nor whether its supervisor lives. The error is emit's,
// ctx's, [ErrNotStarted], or a fault of the disk; Follow may then be called
// again with the offsets that emit has come to.
func (l *Local) Follow(ctx context.Context, id string, from Offsets, emit func(Chunk) error) (Exit, error) {
	dir, err := l.directory(id)
	if err != nil {
		return Exit{}, err
	}
	tails := [2]*tail{newTail(dir.file(stdoutFile), from.Stdout), newTail(dir.file(stderrFile), from.Stderr)}
	defer tails[0].close()
	defer tails[1].close()
	var program vigil
	defer program.close()
	last := time.Now()
	for {
		// Looking comes before reading: what a program that is over has
		// written is all there.
		at, end, err := dir.look()
		if err != nil {
			return Exit{}, err
		}
		if at == unstarted {
			return Exit{}, ErrNotStarted
		}
		some, err := deliver(ctx, tails, emit)
		if err != nil {
			return Exit{}, err
		}
		if at.over() {
			return l.exit(dir, at, end)
		}
		if some {
			last = time.Now()
		}
		program.begin(dir)
		select {
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-program.ended:
			program.fired()
		case <-time.After(program.delay(time.Since(last))):
		}
	}
}

func (l *Local) exit(dir directory, at phase, end ending) (Exit, error) {
	if at == ended {
		return end.exit(), nil
	}
	l.logger.Warn("nobody saw how the program ended", "dir", string(dir))
	var known identity
	_, err := dir.read(startedFile, &known)
	return Exit{Code: -1, StartedAt: known.At, Lost: true}, err
}

// deliver emits everything that is there, and reports whether there was any.
func deliver(ctx context.Context, tails [2]*tail, emit func(Chunk) error) (some bool, err error) {
	for {
		if ctx.Err() != nil {
			return some, ctx.Err()
		}
		var chunk Chunk
		if chunk.Stdout, err = tails[0].next(); err != nil {
			return some, err
		}
		if chunk.Stderr, err = tails[1].next(); err != nil {
			return some, err
		}
		if len(chunk.Stdout) == 0 && len(chunk.Stderr) == 0 {
			return some, nil
		}
		if err := emit(chunk); err != nil {
			return some, err
		}
		some = true
	}
}

// tail reads a file that grows.
type tail struct {
	path   string
	file   *os.File // nil until the file is there
	offset int64
	buffer []byte
}

func newTail(path string, offset int64) *tail { return &tail{path: path, offset: offset} }

// next returns what follows, or nothing at the present end. The bytes are
// valid until the next call.
func (t *tail) next() ([]byte, error) {
	if t.file == nil {
		file, err := os.Open(t.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("open output: %w", err)
		}
		t.file, t.buffer = file, make([]byte, readBytes)
	}
	n, err := t.file.ReadAt(t.buffer, t.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read output: %w", err)
	}
	t.offset += int64(n)
	return t.buffer[:n], nil
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close() // read only: nothing to lose
	}
}

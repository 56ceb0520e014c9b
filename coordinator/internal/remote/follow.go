package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
)

// glance is how often a run is looked at that gets no script of its own to
// follow it, because too many others have one.
const glance = time.Second

// Follow implements engine.Executor: see [process.Local.Follow]. It looks often
// at first, and once a second when the run is older.
func (h *Host) Follow(ctx context.Context, id string, from process.Offsets, emit func(process.Chunk) error) (process.Exit, error) {
	if err := checkID(id); err != nil {
		return process.Exit{}, err
	}
	h.following(id, 1)
	defer h.following(id, -1)
	whole := h.cipher(id)
	reader := &pieces{at: from, emit: func(c process.Chunk) error {
		if whole == nil {
			return emit(c)
		}
		if len(c.Stderr) > 0 { // standard output comes when it is whole
			return emit(process.Chunk{Stderr: c.Stderr})
		}
		return nil
	}}
	for {
		at, over, err := h.watch(ctx, id, reader)
		switch {
		case err != nil:
			return process.Exit{}, err
		case !over:
			if err := wait(ctx, glance); err != nil {
				return process.Exit{}, err
			}
			continue
		case at.phase == unstarted:
			return process.Exit{}, process.ErrNotStarted
		case at.sealed && at.exit.StartError == "":
			return h.unseal(ctx, id, at.exit, from, emit)
		}
		return at.exit, h.settled(ctx, id)
	}
}

// wait waits, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// following counts who follows a run.
func (h *Host) following(id string, more int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.followed[id] += more; h.followed[id] <= 0 {
		delete(h.followed, id)
	}
}

// watch reads output until the run is over, if there is a place for a script
// that goes on for so long; else it reads what there is.
func (h *Host) watch(ctx context.Context, id string, reader *pieces) (at run, over bool, err error) {
	exit, err := h.read(ctx, id, reader, h.options.Shell.ExecLong, 0)
	if failure, ok := errors.AsType[*job.Failure](err); ok && failure.Code == job.Unavailable {
		exit, err = h.read(ctx, id, reader, h.options.Shell.Exec, 1)
	}
	return exit, err == nil && exit.phase.over(), err
}

// read runs the script that delivers output.
func (h *Host) read(ctx context.Context, id string, reader *pieces, exec execution, looks int) (run, error) {
	reader.rest()
	script := h.script(id, values{
		"out": strconv.FormatInt(reader.at.Stdout, 10), "err": strconv.FormatInt(reader.at.Stderr, 10),
		"looks": strconv.Itoa(looks),
	}, follow)
	within, stop := context.WithCancel(ctx)
	defer stop()
	reader.stop = stop
	errs := limited{limit: 1 << 10}
	code, err := exec(within, script, nil, reader, &errs)
	switch {
	case reader.failed != nil:
		return run{}, reader.failed
	case ctx.Err() != nil:
		return run{}, ctx.Err()
	case err != nil:
		return run{}, err
	case !reader.over:
		return run{}, fmt.Errorf("following %s on %s ended with code %d: %s", id, h.options.Host, code, shown(errs.String()))
	}
	said, err := parse(reader.line)
	if err != nil {
		return run{}, err
	}
	return where(said)
}

// execution is one of a shell's ways to run a script.
type execution func(ctx context.Context, script string, input []byte, out, errs io.Writer) (int, error)

// pieces takes apart what the follower's script prints, and hands it on.
type pieces struct {
	at     process.Offsets // so much was handed on
	emit   func(process.Chunk) error
	stop   func()
	failed error // why no more is taken

	line   []byte // of a piece's head, or what comes after the last one
	stream byte   // 'o' or 'e' while a piece comes
	left   int64  // of it
	over   bool   // there are no more pieces
}

// rest is called before a script begins.
func (p *pieces) rest() { p.line, p.stream, p.left, p.over = nil, 0, 0, false }

// Write implements io.Writer.
func (p *pieces) Write(data []byte) (int, error) {
	for all := data; len(all) > 0; {
		n, err := p.take(all)
		if err != nil {
			p.failed = err
			p.stop()
			return 0, err
		}
		all = all[n:]
	}
	return len(data), nil
}

// maxHead bounds what is no output.
const maxHead = 64 << 10

// take takes some of what has come.
func (p *pieces) take(data []byte) (int, error) {
	switch {
	case p.failed != nil:
		return 0, p.failed
	case p.left > 0:
		n := min(p.left, int64(len(data)))
		chunk := process.Chunk{Stdout: data[:n]}
		if p.stream == 'e' {
			chunk = process.Chunk{Stderr: data[:n]}
		}
		if err := p.emit(chunk); err != nil {
			return 0, err
		}
		p.left -= n
		p.at.Stdout += int64(len(chunk.Stdout))
		p.at.Stderr += int64(len(chunk.Stderr))
		return int(n), nil
	case p.over && len(p.line)+len(data) > maxHead || len(p.line) > maxHead:
		return 0, errTorn
	case p.over:
		p.line = append(p.line, data...)
		return len(data), nil
	}
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		p.line = append(p.line, data...)
		return len(data), nil
	}
	head := string(append(p.line, data[:end]...))
	p.line = nil
	return end + 1, p.head(head)
}

// head reads the line before a piece.
func (p *pieces) head(line string) error {
	name, length, _ := strings.Cut(line, " ")
	switch name {
	case ".":
		return nil
	case "x":
		p.over = true
		return nil
	case "o", "e":
		n, err := strconv.ParseInt(length, 10, 64)
		if err == nil && n > 0 {
			p.stream, p.left = name[0], n
			return nil
		}
	}
	return errTorn
}

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/engine"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// piece is output that comes at a moment after the start.
type piece struct {
	at             time.Duration
	stdout, stderr string
}

// scripted is an executor whose program follows a script, for tests of time.
// What executors do is tested with real ones.
type scripted struct {
	pieces   []piece
	exit     process.Exit
	ends     time.Duration                                      // after the start
	older    time.Duration                                      // than its start by the clock says
	onSignal func(n int, s process.Signal) (process.Exit, bool) // n signals came before; true: it ends
	away     time.Duration                                      // after the start: no signal gets through before
	startErr []error                                            // of the first calls
	breaks   []int                                              // Follow fails after so many pieces, one number a call

	mu       sync.Mutex
	begun    time.Time
	starts   int
	started  bool
	sent     []string // "10s interrupt"
	killed   chan struct{}
	killedAs process.Exit
}

func (s *scripted) Start(context.Context, process.Command, secret.Value) (process.Started, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts++
	if s.starts <= len(s.startErr) && s.startErr[s.starts-1] != nil {
		return process.Started{}, s.startErr[s.starts-1]
	}
	if !s.started {
		s.started, s.begun, s.killed = true, time.Now(), make(chan struct{})
	}
	return process.Started{PID: 4711, At: s.begun}, nil
}

func (s *scripted) Follow(ctx context.Context, _ string, from process.Offsets, emit func(process.Chunk) error) (process.Exit, error) {
	s.mu.Lock()
	if !s.started {
		s.mu.Unlock()
		return process.Exit{}, process.ErrNotStarted
	}
	limit := -1
	if len(s.breaks) > 0 {
		limit, s.breaks = s.breaks[0], s.breaks[1:]
	}
	s.mu.Unlock()
	for _, p := range s.pieces {
		if exit, over, err := s.wait(ctx, p.at); over || err != nil {
			return exit, err
		}
		chunk := process.Chunk{Stdout: beyond(p.stdout, &from.Stdout), Stderr: beyond(p.stderr, &from.Stderr)}
		if len(chunk.Stdout)+len(chunk.Stderr) == 0 {
			continue
		}
		if limit == 0 {
			return process.Exit{}, fmt.Errorf("link is down")
		}
		limit--
		if err := emit(chunk); err != nil {
			return process.Exit{}, err
		}
		clear(chunk.Stdout) // must not be used any more
		clear(chunk.Stderr)
	}
	if exit, over, err := s.wait(ctx, s.ends); over || err != nil {
		return exit, err
	}
	return s.ended(s.exit), nil
}

func (s *scripted) ended(exit process.Exit) process.Exit {
	exit.StartedAt, exit.EndedAt = s.begun, time.Now()
	return exit
}

// wait waits for a moment of the script, or the end of the program.
func (s *scripted) wait(ctx context.Context, at time.Duration) (process.Exit, bool, error) {
	if ctx.Err() != nil {
		return process.Exit{}, false, ctx.Err()
	}
	select {
	case <-ctx.Done():
		return process.Exit{}, false, ctx.Err()
	case <-s.killed:
		return s.ended(s.killedAs), true, nil
	case <-time.After(time.Until(s.begun.Add(at))):
		return process.Exit{}, false, nil
	}
}

// beyond returns what of text is not covered by *skip bytes.
func beyond(text string, skip *int64) []byte {
	n := min(*skip, int64(len(text)))
	*skip -= n
	return []byte(text[n:])
}

func (s *scripted) Signal(_ context.Context, _ string, signal process.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return process.ErrNotStarted
	}
	if time.Since(s.begun) < s.away {
		return errors.New("the host is away")
	}
	s.sent = append(s.sent, fmt.Sprintf("%v %s", time.Since(s.begun).Round(time.Millisecond), signal))
	if s.onSignal == nil {
		return nil
	}
	if exit, ends := s.onSignal(len(s.sent)-1, signal); ends {
		s.killedAs = exit
		close(s.killed)
	}
	return nil
}

func (s *scripted) Age(context.Context, string) (time.Duration, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		return 0, false, nil
	}
	return s.older + time.Since(s.begun), true, nil
}

func (s *scripted) Remove(context.Context, string) error { return nil }

// record is what a recorder got.
type record struct {
	job.Event
	at    process.Offsets
	after time.Duration // since the recorder was made
}

// recorder keeps everything in memory.
type recorder struct {
	begun    time.Time
	events   []record
	progress []time.Duration
	newest   job.Progress
	fails    int // so many calls of Record fail first
	limit    int // after so many events, stop is called instead
	stop     func()
}

func newRecorder() *recorder { return &recorder{begun: time.Now(), limit: -1} }

func (r *recorder) Record(ctx context.Context, e job.Event, at process.Offsets) error {
	if r.fails > 0 {
		r.fails--
		return fmt.Errorf("the disk is full")
	}
	if len(r.events) == r.limit {
		r.stop()
		return ctx.Err()
	}
	e.Lines = slices.Clone(e.Lines)
	r.events = append(r.events, record{e, at, time.Since(r.begun).Round(time.Millisecond)})
	return nil
}

func (r *recorder) Progress(p job.Progress) {
	r.progress = append(r.progress, time.Since(r.begun).Round(time.Millisecond))
	r.newest = p
}

// types returns the events' types, in order.
func (r *recorder) types() string {
	var types []string
	for _, e := range r.events {
		types = append(types, string(e.Type))
	}
	return strings.Join(types, " ")
}

// log returns all lines, with "(n omitted)" where lines were left out.
func (r *recorder) log() []string {
	var lines []string
	for _, e := range r.events {
		if e.Omitted > 0 {
			lines = append(lines, fmt.Sprintf("(%d omitted)", e.Omitted))
		}
		for _, line := range e.Lines {
			lines = append(lines, line.Text)
		}
	}
	return lines
}

func (r *recorder) finished(t *testing.T) job.Event {
	t.Helper()
	if len(r.events) == 0 || r.events[len(r.events)-1].Type != job.EventFinished {
		t.Fatalf("the events are %q, want finished last", r.types())
	}
	return r.events[len(r.events)-1].Event
}

// resume is what the journal would know of the recorded events.
func (r *recorder) resume() engine.Resume {
	var from engine.Resume
	for _, e := range r.events {
		from.Offsets = e.at
		from.StartedTold = from.StartedTold || e.Type == job.EventStarted
		from.LogLines += len(e.Lines)
	}
	return from
}

var testVersion = borg.Version{Major: 1, Minor: 2, Patch: 4, Text: "1.2.4"}

// compaction is an attempt whose command prints no JSON of its own.
func compaction() engine.Attempt {
	return engine.Attempt{
		Job: "01JD9X7Q2M4T6W8Y0ABCDEFGHJ", Number: 2, Host: "web1",
		Task: borg.Task{
			Kind: job.Compact, Spec: job.CompactSpec{}, Host: "web1", Version: testVersion,
			Repository: job.Repository{Name: "web1-main", Location: "/srv/borg/web1"},
		},
	}
}

func backup() engine.Attempt {
	a := compaction()
	a.Task.Kind, a.Task.Spec, a.Task.Archive = job.Backup, job.BackupSpec{Paths: []string{"/etc"}}, "web1-now"
	return a
}

func newEngine(x engine.Executor) *engine.Engine {
	return engine.New(engine.Options{Executor: x, Logger: hclog.NewNullLogger()})
}

// line is a log line as borg prints it.
func line(text string) string {
	return fmt.Sprintf(`{"type": "log_message", "time": 1795318707.65, "message": %q, "levelname": "INFO", "name": "borg.archiver"}`+"\n", text)
}

// progressAt is a progress line of borg create.
func progressAt(files int) string {
	return fmt.Sprintf(`{"original_size": %d, "compressed_size": 1, "deduplicated_size": 1, "nfiles": %d, "path": "etc/f", "time": 1795318707.65, "type": "archive_progress", "finished": false}`+"\n", files*1000, files)
}

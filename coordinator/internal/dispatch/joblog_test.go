package dispatch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func logEvent(attempt, seq int, texts ...string) job.Event {
	event := job.Event{Job: numbered(1), Attempt: attempt, Seq: seq, Type: job.EventLog}
	for _, text := range texts {
		event.Lines = append(event.Lines, job.LogLine{At: noon, Level: job.LevelInfo, Text: text})
	}
	return event
}

func texts(entries []fleet.LogEntry) []string {
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%d.%d %s", e.Attempt, e.Seq, e.Text))
	}
	return got
}

func TestJobLog(t *testing.T) {
	omitted := logEvent(1, 3, "end")
	omitted.Omitted = 7
	tests := map[string]struct {
		events []job.Event
		spoil  string // appended to the file before the last event, as a crash leaves it
		after  int
		want   []string
		next   int
	}{
		"no log":         {},
		"lines in order": {events: []job.Event{logEvent(1, 2, "a", "b"), logEvent(1, 3, "c")}, want: []string{"1.2 a", "1.2 b", "1.3 c"}, next: 3},
		"repeats are shown once": {
			events: []job.Event{logEvent(1, 2, "a"), logEvent(1, 3, "b"), logEvent(1, 2, "a"), logEvent(1, 3, "b")},
			want:   []string{"1.2 a", "1.3 b"}, next: 2,
		},
		"a second attempt counts anew": {
			events: []job.Event{logEvent(1, 4, "a"), logEvent(2, 2, "b"), logEvent(1, 5, "late")},
			want:   []string{"1.4 a", "2.2 b"}, next: 2,
		},
		"from a place on": {events: []job.Event{logEvent(1, 2, "a", "b"), logEvent(1, 3, "c")}, after: 1, want: []string{"1.2 b", "1.3 c"}, next: 3},
		"from the end":    {events: []job.Event{logEvent(1, 2, "a", "b")}, after: 2, next: 2},
		"negative place":  {events: []job.Event{logEvent(1, 2, "a")}, after: -5, want: []string{"1.2 a"}, next: 1},
		"left out lines are told": {
			events: []job.Event{logEvent(1, 2, "a"), omitted},
			want:   []string{"1.2 a", "1.3 [7 lines left out here; the host keeps them in the job's directory]", "1.3 end"}, next: 3,
		},
		"a torn line is skipped, and its event comes again": {
			events: []job.Event{logEvent(1, 2, "a"), logEvent(1, 3, "b")},
			spoil:  `{"attempt":1,"seq":3,"lines":[{"at":"20`,
			want:   []string{"1.2 a", "1.3 b"}, next: 2,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			logs := &jobLogs{dir: t.TempDir()}
			for i, event := range test.events {
				if i == len(test.events)-1 && test.spoil != "" {
					spoil(t, logs.path(event.Job), test.spoil)
				}
				if err := logs.append(event); err != nil {
					t.Fatal(err)
				}
			}
			check := func(when string) {
				got, err := logs.read(numbered(1), test.after)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, texts(got.Lines)); diff != "" || got.Next != test.next || !got.Complete {
					t.Errorf("%s: next %d complete %v, lines (-want +got):\n%s", when, got.Next, got.Complete, diff)
				}
			}
			check("plain")
			for range 2 { // the second finds nothing to do
				if err := logs.compress(numbered(1)); err != nil {
					t.Fatal(err)
				}
			}
			check("compressed")
			if left, err := logs.plain(); err != nil || len(left) != 0 {
				t.Errorf("plain logs left: %v, %v", left, err)
			}
		})
	}
}

// A job whose log is compressed is open again once its store was put back to an
// older copy: its events come again, from somewhere in the middle.
func TestJobLogGoesOnAfterItWasCompressed(t *testing.T) {
	logs, want := &jobLogs{dir: t.TempDir()}, []string{"1.2 a", "1.3 b", "1.4 c"}
	appendAll := func(events ...job.Event) {
		t.Helper()
		for _, event := range events {
			if err := logs.append(event); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(when string) {
		t.Helper()
		got, err := logs.read(numbered(1), 0)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, texts(got.Lines)); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", when, diff)
		}
	}
	compress := func() {
		t.Helper()
		if err := logs.compress(numbered(1)); err != nil {
			t.Fatal(err)
		}
	}
	appendAll(logEvent(1, 2, "a"), logEvent(1, 3, "b"), logEvent(1, 4, "c"))
	compress()
	for range 2 {
		appendAll(logEvent(1, 3, "b"), logEvent(1, 4, "c"))
		check("told again")
		compress()
		check("compressed again")
	}
	appendAll(logEvent(1, 5, "d"))
	want = append(want, "1.5 d")
	compress()
	check("with more")
	if left, err := filepath.Glob(filepath.Join(logs.dir, "*", "*")); err != nil || len(left) != 1 {
		t.Errorf("files: %v, %v", left, err)
	}
}

// What is appended while the log is compressed is not lost with the plain log.
func TestJobLogThatGrowsWhileItIsCompressed(t *testing.T) {
	logs := &jobLogs{dir: t.TempDir()}
	if err := logs.append(logEvent(1, 1, "x")); err != nil {
		t.Fatal(err)
	}
	faults := make(chan error, 1)
	go func() {
		var fault error
		for range 20 {
			fault = errors.Join(fault, logs.compress(numbered(1)))
		}
		faults <- fault
	}()
	for seq := 2; seq <= 40; seq++ {
		if err := logs.append(logEvent(1, seq, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-faults; err != nil {
		t.Fatal(err)
	}
	if got, err := logs.read(numbered(1), 0); err != nil || len(got.Lines) != 40 {
		t.Errorf("%d of 40 lines are there, %v", len(got.Lines), err)
	}
}

func spoil(t *testing.T, path, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestJobLogIsReadInParts(t *testing.T) {
	logs := &jobLogs{dir: t.TempDir()}
	long := strings.Repeat("x", job.MaxLogLineBytes+100)
	for seq := range 300 {
		if err := logs.append(logEvent(1, seq+1, long)); err != nil {
			t.Fatal(err)
		}
	}
	lines, parts := 0, 0
	for after := 0; ; parts++ {
		part, err := logs.read(numbered(1), after)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, line := range part.Lines {
			size += len(line.Text)
		}
		if size > maxLogReplyBytes {
			t.Fatalf("one answer holds %d bytes", size)
		}
		lines, after = lines+len(part.Lines), part.Next
		if part.Complete {
			break
		}
	}
	if lines != 300 || parts < 2 {
		t.Errorf("read %d lines in %d parts, want 300 in several", lines, parts+1)
	}
}

func TestJobLogFilesArePrivateAndBounded(t *testing.T) {
	logs := &jobLogs{dir: t.TempDir()}
	event := logEvent(1, 1)
	for range 500 {
		event.Lines = append(event.Lines, job.LogLine{Text: strings.Repeat("y", 4000)})
	}
	for range 40 {
		if err := logs.append(event); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(logs.path(numbered(1)))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxLogBytes || info.Mode().Perm() != 0o600 {
		t.Errorf("log has %d bytes and mode %v", info.Size(), info.Mode())
	}
}

func TestJobLogThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "not-a-directory")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	logs := &jobLogs{dir: file}
	if err := logs.append(logEvent(1, 1, "a")); err == nil {
		t.Error("append succeeded")
	}
}

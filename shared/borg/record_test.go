package borg_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

var update = flag.Bool("update", false, "record what the installed borg prints into testdata/recorded")

// TestRealBorg plays every scenario with the installed borg. With -update it
// also records borg's output for TestRecorded.
func TestRealBorg(t *testing.T) {
	local, remote := labWithRepository(t, false), labWithRepository(t, true)
	for _, s := range scenarios() {
		made := local
		if s.remote {
			made = remote
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			l, task, r := s.play(t, made)
			outcome, items := parse(task, r, len(r.stderr))
			t.Logf("exit %+v: %s %v", r.exit, outcome.State, outcome.Failure)
			judge(t, s, outcome, items)
			if t.Failed() {
				t.Logf("standard error:\n%s", r.stderr)
			}
			if *update && !t.Failed() {
				record(t, l, s, r)
			}
		})
	}
}

// TestRecorded parses what was recorded and compares all that is made of it.
func TestRecorded(t *testing.T) {
	for _, s := range append(scenarios(), recordedOnly()...) {
		t.Run(s.name, func(t *testing.T) {
			r := readRecording(t, s)
			outcome, items := parse(s.task(neutralRoot), r, len(r.stderr))
			judge(t, s, outcome, items)
			got := golden(t, outcome, items)
			path := filepath.Join("testdata", "recorded", s.name, "want.json")
			if *update {
				writeFile(t, path, got)
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", path, diff)
			}
		})
	}
}

// TestRecordedChunks feeds recordings in chunks of every small size, and
// expects the same items and outcome as from one chunk.
func TestRecordedChunks(t *testing.T) {
	for _, s := range append(scenarios(), recordedOnly()...) {
		t.Run(s.name, func(t *testing.T) {
			r, task := readRecording(t, s), s.task(neutralRoot)
			wantOutcome, wantItems := parse(task, r, len(r.stderr))
			for _, size := range []int{1, 2, 7, 64, 1000} {
				outcome, items := parse(task, r, size)
				if diff := cmp.Diff(wantItems, items); diff != "" {
					t.Fatalf("items differ in chunks of %d:\n%s", size, diff)
				}
				if diff := cmp.Diff(wantOutcome, outcome); diff != "" {
					t.Fatalf("the outcome differs in chunks of %d:\n%s", size, diff)
				}
			}
		})
	}
}

// recordedOnly are scenarios that need more than a test may ask for: their
// recordings were made by hand with borg 1.2.4.
func recordedOnly() []scenario {
	return []scenario{
		{name: "disk-full", spec: backupOf("/data"), state: job.Failed, code: job.DiskFull},
		{name: "path-unreadable", spec: backupOf("/secret"), state: job.Failed, code: job.PermissionDenied},
		{name: "restore-disk-full", spec: restoreOf(), state: job.Failed, code: job.DiskFull},
		{name: "restore-denied", spec: restoreOf(), state: job.Failed, code: job.PermissionDenied},
		{name: "repository-not-writable", spec: job.ListSpec{}, state: job.Failed, code: job.PermissionDenied},
	}
}

func parse(task borg.Task, r recording, chunk int) (job.Outcome, []borg.Item) {
	parser := borg.NewParser(task)
	var items []borg.Item
	chunk = max(chunk, 1)
	for rest := r.stderr; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
		items = append(items, parser.Stderr(rest[:min(chunk, len(rest))])...)
	}
	for rest := r.stdout; len(rest) > 0; rest = rest[min(chunk, len(rest)):] {
		parser.Stdout(rest[:min(chunk, len(rest))])
	}
	items = append(items, parser.Flush()...)
	return parser.Finish(r.exit), items
}

// hole is a placeholder that nothing was filled into, or a bad sentence.
var hole = regexp.MustCompile(`\{(repo|location|archive|host|borg|kind|exit|signal|said)\}|[\n\x00]|: \)|%!|  `)

// judge checks what holds for every scenario.
func judge(t *testing.T, s scenario, outcome job.Outcome, items []borg.Item) {
	t.Helper()
	if outcome.State != s.state {
		t.Errorf("state %s, want %s", outcome.State, s.state)
	}
	switch failure := outcome.Failure; {
	case failure == nil && s.code != "":
		t.Errorf("no failure, want %s", s.code)
	case failure != nil && failure.Code != s.code:
		t.Errorf("failure %+v, want code %s", failure, s.code)
	case failure != nil && hole.MatchString(failure.Error()):
		t.Errorf("failure has a hole in it: %+v", failure)
	}
	for _, item := range items {
		if (item.Progress == nil) == (item.Line == nil) {
			t.Errorf("item is not exactly one thing: %+v", item)
		}
		if item.Line != nil && strings.Contains(item.Line.Text, "correct horse") {
			t.Errorf("the passphrase is in the log: %q", item.Line.Text)
		}
	}
}

// golden is all that was made of a recording, as JSON for people to read.
func golden(t *testing.T, outcome job.Outcome, items []borg.Item) []byte {
	t.Helper()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, item := range items {
		var value any = item.Line
		if item.Progress != nil {
			value = item.Progress
		}
		if err := encoder.Encode(value); err != nil {
			t.Fatal(err)
		}
	}
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(outcome); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type exitFile struct {
	Code      int  `json:"code"`
	Signal    int  `json:"signal"`
	Cancelled bool `json:"cancelled"`
}

// record writes fixtures without this machine's names.
func record(t *testing.T, l *lab, s scenario, r recording) {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	neutral := strings.NewReplacer(l.root, neutralRoot, l.root[1:], neutralRoot[1:], `"hostname": "`+host+`"`, `"hostname": "web1.example.net"`)
	dir := filepath.Join("testdata", "recorded", s.name)
	exit, err := json.Marshal(exitFile{Code: r.exit.Code, Signal: int(r.exit.Signal), Cancelled: r.exit.Cancelled})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "stdout"), []byte(neutral.Replace(string(r.stdout))))
	writeFile(t, filepath.Join(dir, "stderr"), []byte(neutral.Replace(string(r.stderr))))
	writeFile(t, filepath.Join(dir, "exit.json"), append(exit, '\n'))
}

func readRecording(t *testing.T, s scenario) recording {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "recorded", s.name, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var exit exitFile
	if err := json.Unmarshal(read("exit.json"), &exit); err != nil {
		t.Fatal(err)
	}
	return recording{stdout: read("stdout"), stderr: read("stderr"), exit: borg.Exit{
		Code: exit.Code, Signal: syscall.Signal(exit.Signal), Cancelled: exit.Cancelled, Duration: 1500 * time.Millisecond,
	}}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

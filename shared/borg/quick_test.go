package borg_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// frequentLines are what borg prints most.
var frequentLines = map[string]string{
	"file_status":  `{"type": "file_status", "status": "A", "path": "/srv/www/example.org/releases/2026-11-22/f0000.txt"}`,
	"other script": `{"type": "file_status", "status": "A", "path": "/srv/\u00fcn\u00efcode/\u65e5\u672c/with \"quotes\" and \\.txt"}`,
	"log":          `{"type": "log_message", "time": 1795337714.4455414, "message": "srv/data/www: makedirs: [Errno 13] Permission denied: 'x'", "levelname": "WARNING", "name": "borg.archiver"}`,
	"archive":      `{"original_size": 96486904, "compressed_size": 96488753, "deduplicated_size": 96488753, "nfiles": 1, "path": "srv/www/big1.bin", "time": 1795318707.65, "type": "archive_progress", "finished": false}`,
	"percent":      `{"message": "  0.0% Checking segments", "current": 8, "total": 300028, "operation": 1, "msgid": "repository.check", "type": "progress_percent", "finished": false, "time": 1795318707.65}`,
}

func TestQuickTakesFrequentLines(t *testing.T) {
	for name, line := range frequentLines {
		if _, taken := borg.Quick([]byte(line)); !taken {
			t.Errorf("%s is not taken", name)
		}
	}
	for name, line := range map[string]string{
		"unknown field":     `{"type": "file_status", "Status": "A"}`,
		"unknown type":      `{"type": "mystery"}`,
		"no type":           `{"status": "A"}`,
		"text before":       `x {"type": "file_status"}`,
		"text after":        `{"type": "file_status"} x`,
		"leading zero":      `{"type": "archive_progress", "nfiles": 01}`,
		"leading zero time": `{"type": "archive_progress", "time": 01.5}`,
		"torn time":         `{"type": "archive_progress", "time": 1.}`,
		"fraction of files": `{"type": "archive_progress", "nfiles": 1.5}`,
		"overflow":          `{"type": "archive_progress", "nfiles": 99999999999999999999}`,
		"raw control byte":  "{\"type\": \"file_status\", \"path\": \"a\x01\"}",
		"bad escape":        `{"type": "file_status", "path": "a\q"}`,
		"torn escape":       `{"type": "file_status", "path": "a\`,
		"torn":              `{"type": "file_status", "path": "a`,
		"null":              `{"type": "file_status", "path": null}`,
		"empty":             `{}`,
		"empty field":       `{": "type": "file_status"}`,
	} {
		if m, taken := borg.Quick([]byte(line)); taken {
			t.Errorf("%s is taken as %+v", name, m)
		}
	}
}

// FuzzQuick holds the fast ways against the thorough ones: what they take, they
// take alike.
func FuzzQuick(f *testing.F) {
	for _, line := range frequentLines {
		f.Add([]byte(line))
	}
	files, err := filepath.Glob(filepath.Join("testdata", "recorded", "*", "stderr"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(data[:min(len(data), 8000)]) {
			f.Add(bytes.TrimSpace(line))
		}
	}
	f.Add([]byte(`{"type": "file_status", "path": "a\udcff\ud83d\ude00", "path": "b"}`))
	f.Add([]byte(`{"type": "log_message", "time": 0.1, "message": "ssh://u:p@h/ \u007f "}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		fast, taken := borg.Quick(line)
		text, thorough, isMessage := borg.Thorough(line)
		if taken && (!isMessage || text != "") {
			t.Errorf("taken, though it is %q", text)
		}
		if diff := cmp.Diff(thorough, fast); taken && diff != "" {
			t.Errorf("-thorough +quick:\n%s", diff)
		}
		if clean := borg.CleanThoroughly(string(line)); borg.Plain(string(line)) && clean != string(line) {
			t.Errorf("%q is not plain, as it is cleaned to %q", line, clean)
		}
	})
}

// BenchmarkParser measures how fast output is read again after a restart.
func BenchmarkParser(b *testing.B) {
	lines := map[string]string{"raw": "Remote: something that is not JSON, as long as a line often is"}
	for name, line := range frequentLines {
		lines[name] = line
	}
	for name, line := range lines {
		b.Run(name, func(b *testing.B) {
			chunk := []byte(strings.Repeat(line+"\n", (64<<10)/len(line)))
			parser := borg.NewParser(baseTask(neutralRoot, job.BackupSpec{Paths: []string{"/srv"}}))
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				parser.Stderr(chunk)
			}
		})
	}
}

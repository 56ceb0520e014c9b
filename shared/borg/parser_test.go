package borg_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestLogLines(t *testing.T) {
	at := time.Unix(1795326513, 500_000_000).UTC()
	tests := map[string]struct {
		stderr string
		want   []job.LogLine
	}{
		"levels": {logLine("DEBUG", "x", "", "d") + logLine("INFO", "x", "", "i") + logLine("WARNING", "x", "", "w") + logLine("ERROR", "x", "", "e") + logLine("CRITICAL", "x", "", "c"),
			[]job.LogLine{{At: at, Level: "debug", Text: "d"}, {At: at, Level: "info", Text: "i"}, {At: at, Level: "warning", Text: "w"}, {At: at, Level: "error", Text: "e"}, {At: at, Level: "error", Text: "c"}}},
		"prompt before JSON": {"Enter passphrase for key /r: " + errorLine("NoPassphraseFailure", "none"),
			[]job.LogLine{{Level: "info", Text: "Enter passphrase for key /r:"}, {At: at, Level: "error", Text: "none"}}},
		"progress bar before JSON": {"0 B O 0 B C    \r" + logLine("INFO", "x", "", "i"),
			[]job.LogLine{{Level: "info", Text: "0 B O 0 B C"}, {At: at, Level: "info", Text: "i"}}},
		"plain text gets the time before it": {logLine("INFO", "x", "", "i") + "Exception ignored in: <x>\n",
			[]job.LogLine{{At: at, Level: "info", Text: "i"}, {At: at, Level: "info", Text: "Exception ignored in: <x>"}}},
		"refused arguments": {"usage: borg [-V]\r\nborg: error: unrecognized arguments: --bogus\r\n",
			[]job.LogLine{{Level: "info", Text: "usage: borg [-V]"}, {Level: "error", Text: "borg: error: unrecognized arguments: --bogus"}}},
		"several lines in one message": {logLine("WARNING", "x", "", "\nIMPORTANT:\n\n  keep it\n"),
			[]job.LogLine{{At: at, Level: "warning", Text: "IMPORTANT:"}, {At: at, Level: "warning", Text: "  keep it"}}},
		"inner progress bar": {logLine("INFO", "borg.output.progress", "", "Saving files cache") + logLine("INFO", "borg.output.progress", "", ""), nil},
		"file status":        {`{"type": "file_status", "status": "E", "path": "/x"}` + "\n", []job.LogLine{{Level: "info", Text: "E /x"}}},
		"question": {`{"type": "question_prompt", "msgid": "Q", "message": "Warning: moved\nDo you want to continue? [yN] "}` + "\n",
			[]job.LogLine{{Level: "warning", Text: "Warning: moved"}, {Level: "warning", Text: "Do you want to continue? [yN]"}}},
		"unknown type":     {`{"type": "mystery", "time": 1}` + "\n", []job.LogLine{{Level: "info", Text: `{"type": "mystery", "time": 1}`}}},
		"broken JSON":      {`{"type": "log_message", "message` + "\n", []job.LogLine{{Level: "info", Text: `{"type": "log_message", "message`}}},
		"wrong types":      {`{"type": "archive_progress", "nfiles": "many"}` + "\n", []job.LogLine{{Level: "info", Text: `{"type": "archive_progress", "nfiles": "many"}`}}},
		"text after JSON":  {`{"type": "log_message", "message": "a"} b` + "\n", []job.LogLine{{Level: "info", Text: `{"type": "log_message", "message": "a"} b`}}},
		"not UTF-8":        {"a\xff\xfeb\n", []job.LogLine{{Level: "info", Text: "a\uFFFDb"}}},
		"lone surrogate":   {`{"type": "log_message", "levelname": "INFO", "message": "n\udcffame"}` + "\n", []job.LogLine{{Level: "info", Text: "n\uFFFDame"}}},
		"control bytes":    {"a\x00\x1b[1mb\tc\n", []job.LogLine{{Level: "info", Text: "a[1mb\tc"}}},
		"absurd time":      {`{"type": "log_message", "levelname": "INFO", "message": "m", "time": 1e300}` + "\n", []job.LogLine{{Level: "info", Text: "m"}}},
		"blank lines":      {"\n\r\n  \n", nil},
		"no line end":      {"torn", []job.LogLine{{Level: "info", Text: "torn"}}},
		"torn in a secret": {"ssh://u:hunter2@h/p\n", []job.LogLine{{Level: "info", Text: "ssh://u:***@h/p"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			parser := borg.NewParser(baseTask(neutralRoot, job.CheckSpec{}))
			var got []job.LogLine
			for _, item := range append(parser.Stderr([]byte(test.stderr)), parser.Flush()...) {
				got = append(got, *item.Line)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLongLines(t *testing.T) {
	parser := borg.NewParser(baseTask(neutralRoot, job.CheckSpec{}))
	items := parser.Stderr([]byte(strings.Repeat("ä", job.MaxLogLineBytes) + "\n"))
	if len(items) != 1 {
		t.Fatalf("%d items", len(items))
	}
	text := items[0].Line.Text
	if len(text) > job.MaxLogLineBytes || len(text) < job.MaxLogLineBytes-8 || !utf8.ValidString(text) || !strings.HasSuffix(text, "...") {
		t.Errorf("%d bytes, ends in %q", len(text), text[len(text)-8:])
	}
}

func TestLongMessageKeepsItsEnd(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	parser := borg.NewParser(baseTask(neutralRoot, job.CheckSpec{}))
	items := parser.Stderr([]byte(errorLine("", text.String())))
	if len(items) != 100 || items[99].Line.Text != "line 999" {
		t.Errorf("%d items, the last is %q", len(items), items[len(items)-1].Line.Text)
	}
}

// A stream without a line end must not be kept whole, nor must many messages.
func TestMemoryIsBounded(t *testing.T) {
	parser := borg.NewParser(baseTask(neutralRoot, job.CheckSpec{}))
	chunk := []byte(strings.Repeat("x", 1<<20))
	for range 96 { // more than may stay
		parser.Stderr(chunk)
		parser.Stdout(chunk)
	}
	parser.Stderr([]byte("\n"))
	const rounds = 3000
	before := heap()
	for i := range rounds {
		parser.Stderr([]byte(errorLine(fmt.Sprintf("Id%d", i), strings.Repeat("e", 2000))))
		parser.Stderr([]byte(logLine("WARNING", "x", "", strings.Repeat("w", 2000))))
		parser.Stderr([]byte(remoteLine(strings.Repeat("r", 2000))))
		parser.Stderr([]byte(percentLine(float64(i), "p", int64(i), 1, 2, "")))
	}
	after := heap()
	if after > 64<<20 {
		t.Errorf("%d MiB are in use", after>>20)
	}
	if after > before+4<<20 { // the lines have 18 MiB
		t.Errorf("the lines have left %d MiB", (after-before)>>20)
	}
	outcome := parser.Finish(borg.Exit{Code: 1})
	encoded, err := json.Marshal(outcome)
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) > 256<<10 {
		t.Errorf("the outcome has %d bytes", len(encoded))
	}
	if len(outcome.Result.Warnings) != job.MaxWarnings || outcome.Result.WarningsOmitted != 2*rounds-job.MaxWarnings {
		t.Errorf("%d warnings and %d omitted", len(outcome.Result.Warnings), outcome.Result.WarningsOmitted)
	}
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// A long list keeps the newest archives and fits a message of the bus.
func TestLongList(t *testing.T) {
	const n = 5000
	type archive struct {
		Name, ID, Start, Comment string
	}
	var archives []archive
	for i := range n {
		archives = append(archives, archive{Name: fmt.Sprintf("web1-%d", i), ID: strings.Repeat("0", 64), Start: "2026-11-22T05:48:33.000000", Comment: strings.Repeat("c", 4000)})
	}
	stdout, err := json.Marshal(map[string]any{"archives": archives})
	if err != nil {
		t.Fatal(err)
	}
	parser := borg.NewParser(baseTask(neutralRoot, job.ListSpec{}))
	parser.Stdout(stdout)
	result := parser.Finish(borg.Exit{}).Result
	if len(result.Archives) != job.MaxArchives || result.ArchivesOmitted != n-job.MaxArchives || result.Archives[job.MaxArchives-1].Name != "web1-4999" {
		t.Errorf("%d archives, %d omitted", len(result.Archives), result.ArchivesOmitted)
	}
	if want := time.Date(2026, 11, 22, 5, 48, 33, 0, time.UTC); !result.Archives[0].Start.Equal(want) {
		t.Errorf("start is %s, want %s", result.Archives[0].Start, want)
	}
	if encoded, err := json.Marshal(result); err != nil || len(encoded) > 1<<20 {
		t.Errorf("%d bytes, %v", len(encoded), err)
	}
}

func TestResultThatCannotBeRead(t *testing.T) {
	tests := map[string]string{
		"nothing":          "",
		"text":             "hello",
		"torn":             `{"archive": {"name": "x"`,
		"another object":   `{"a": 1}`,
		"too long":         `{"archive": {"name": "x"}, "fill": "` + strings.Repeat("x", 64<<20) + `"}`,
		"wrong type":       `{"archive": [1]}`,
		"number too large": `{"archive": {"name": "x", "stats": {"nfiles": 1e99}}}`,
	}
	for name, stdout := range tests {
		t.Run(name, func(t *testing.T) {
			for _, cancelled := range []bool{false, true} {
				parser := borg.NewParser(baseTask(neutralRoot, backupOf("/data")))
				parser.Stdout([]byte(stdout))
				outcome := parser.Finish(borg.Exit{Cancelled: cancelled})
				want, code := job.Failed, job.Internal
				if cancelled {
					want, code = job.Cancelled, job.CodeCancelled
				}
				if outcome.State != want || outcome.Failure == nil || outcome.Failure.Code != code {
					t.Errorf("cancelled %v: %s, %+v", cancelled, outcome.State, outcome.Failure)
				}
			}
		})
	}
}

func TestResultAfterGreeting(t *testing.T) {
	parser := borg.NewParser(baseTask(neutralRoot, backupOf("/data")))
	parser.Stdout([]byte("Welcome\n{\"archive\": {\"name\": \"x\", \"stats\": {\"original_size\": 8, \"compressed_size\": 4, \"deduplicated_size\": 2, \"nfiles\": 1}}}\n"))
	outcome := parser.Finish(borg.Exit{Started: time.Unix(10, 0), Ended: time.Unix(12, 0)})
	want := job.Outcome{State: job.Succeeded, Result: &job.Result{Archive: "x", OriginalSize: 8, CompressedSize: 4, DeduplicatedSize: 2, NFiles: 1,
		CompressionRatio: 0.5, DeduplicationRatio: 0.25, Duration: 2, BorgVersion: "1.2.4", Warnings: []string{}}}
	if diff := cmp.Diff(want, outcome); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A job that was cancelled too late is what it became.
func TestCancelledTooLate(t *testing.T) {
	tests := map[string]struct {
		exit borg.Exit
		want job.State
	}{
		"succeeded":     {borg.Exit{Cancelled: true}, job.Succeeded},
		"with warnings": {borg.Exit{Code: 1, Cancelled: true}, job.Warning},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			parser := borg.NewParser(baseTask(neutralRoot, backupOf("/data")))
			parser.Stdout([]byte(`{"archive": {"name": "x", "stats": {"nfiles": 1}}}`))
			if outcome := parser.Finish(test.exit); outcome.State != test.want || outcome.Failure != nil {
				t.Errorf("%s, %+v", outcome.State, outcome.Failure)
			}
		})
	}
}

func TestWarningCodes(t *testing.T) {
	for _, code := range []int{1, 100, 101, 107, 127} {
		outcome := outcomeOf(modern(job.CompactSpec{}), logLine("WARNING", "borg.archiver", "FileChangedWarning", "/x: file changed while we backed it up"), borg.Exit{Code: code})
		if outcome.State != job.Warning || len(outcome.Result.Warnings) != 1 {
			t.Errorf("modern code %d: %s, %+v", code, outcome.State, outcome.Result)
		}
	}
	if outcome := outcomeOf(baseTask(neutralRoot, job.CompactSpec{}), "", borg.Exit{Code: 127}); outcome.State != job.Failed {
		t.Errorf("borg 1.2 has no code 127, but it was taken as %s", outcome.State)
	}
}

func TestPathsMissingOnBorg14(t *testing.T) {
	task := modern(backupOf("/nope", "/gone/"))
	parser := borg.NewParser(task)
	for _, path := range []string{"/nope", "/gone"} {
		parser.Stderr([]byte(logLine("WARNING", "borg.archiver", "BackupFileNotFoundError", path+": [Errno 2] No such file or directory: 'x'")))
	}
	parser.Stdout([]byte(`{"archive": {"name": "x", "stats": {"nfiles": 0}}}`))
	outcome := parser.Finish(borg.Exit{Code: 107})
	checkFailure(t, outcome, job.PathMissing)
	if outcome.Result == nil || outcome.Result.Archive != "x" {
		t.Errorf("the empty archive is not told: %+v", outcome.Result)
	}
}

func TestFreedBytes(t *testing.T) {
	tests := map[string]*int64{
		"compaction freed about 14.16 kB repository space.":        new(int64(14160)),
		"Remote: compaction freed about 2.00 GB repository space.": new(int64(2_000_000_000)),
		"compaction freed about 0 B repository space.":             new(int64(0)),
		"compaction freed about -5.00 MB repository space.":        new(int64(0)),
		"compaction freed about much repository space.":            nil,
	}
	for text, want := range tests {
		outcome := outcomeOf(baseTask(neutralRoot, job.CompactSpec{}), logLine("INFO", "borg.repository", "", text), borg.Exit{})
		if diff := cmp.Diff(want, outcome.Result.FreedBytes); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	}
}

func TestPruneLines(t *testing.T) {
	const id = " [4e89aa2746f685dca77639fed1ca85d0554db1a69010df15c6bb090ac7dc69b4]"
	list := func(text string) string { return logLine("INFO", "borg.output.list", "", text+id) }
	outcome := outcomeOf(baseTask(neutralRoot, job.PruneSpec{KeepLast: 1}), list("Keeping archive (rule: secondly #1):     web1-3                               Sun, 2026-11-22 05:48:34")+
		list("Keeping checkpoint archive:              web1-4.checkpoint                    Sun, 2026-11-22 05:48:34")+
		list("Keeping archive (rule: daily[oldest] #2): web1-0                              Sun, 2026-11-22 05:48:34 +0100")+
		list("Pruning archive (1/2):                   a name, with: odd (things)           Sun, 2026-11-22 05:48:33")+
		list("Would prune:                             "+strings.Repeat("n", 80)+" Sun, 2026-11-22 05:48:33")+
		list("Something else:                          x"), borg.Exit{})
	want := &job.Result{BorgVersion: "1.2.4", Warnings: []string{},
		Kept:   []string{"web1-3", "web1-4.checkpoint", "web1-0"},
		KeptBy: map[string]string{"web1-3": "secondly #1", "web1-4.checkpoint": "checkpoint", "web1-0": "daily[oldest] #2"},
		Pruned: []string{"a name, with: odd (things)", strings.Repeat("n", 80)}}
	if diff := cmp.Diff(want, outcome.Result); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Borg reports an archive when it is committed. However it ends after that, the
// archive is there, and another attempt would make a second one.
func TestArchiveSavedBeforeABadEnd(t *testing.T) {
	const whole = `{"archive": {"name": "x", "id": "ab", "stats": {"original_size": 8, "nfiles": 1}}}`
	lost := borg.Exit{Lost: true, Code: -1, Started: time.Unix(1, 0)}
	tests := map[string]struct {
		stdout string
		exit   borg.Exit
		want   job.State
		code   job.Code // of the failure
		says   string   // first warning
	}{
		"lost":                       {whole, lost, job.Warning, "", "nobody saw"},
		"killed":                     {whole, borg.Exit{Signal: syscall.SIGKILL}, job.Warning, "", "was killed"},
		"ended":                      {whole, borg.Exit{Code: 143, Cancelled: true}, job.Warning, "", "SIGTERM"},
		"link broken at the end":     {whole, borg.Exit{Code: 2}, job.Warning, "", "connection"},
		"lost, torn report":          {whole[:len(whole)-1], lost, job.Failed, job.Interrupted, ""},
		"lost, no report":            {"", lost, job.Failed, job.Interrupted, ""},
		"lost, no report, cancelled": {"", borg.Exit{Lost: true, Cancelled: true}, job.Cancelled, job.CodeCancelled, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			parser := borg.NewParser(baseTask(neutralRoot, backupOf("/data")))
			parser.Stdout([]byte(test.stdout))
			parser.Stderr([]byte(`{"type": "log_message", "time": 61, "levelname": "WARNING", "name": "borg.archiver", "message": "/data/a: file changed"}` + "\n"))
			if test.exit.Code == 2 {
				parser.Stderr([]byte(errorLine("ConnectionClosed", "Connection closed by remote host")))
			}
			outcome := parser.Finish(test.exit)
			if outcome.State != test.want || (outcome.Failure != nil) != (test.code != "") || outcome.Failure != nil && outcome.Failure.Code != test.code {
				t.Fatalf("%s, %+v", outcome.State, outcome.Failure)
			}
			if test.want != job.Warning {
				return
			}
			if r := outcome.Result; r.ArchiveID != "ab" || r.NFiles != 1 || !strings.Contains(r.Warnings[0], test.says) || !strings.Contains(r.Warnings[len(r.Warnings)-1], "file changed") {
				t.Errorf("result %+v", r)
			}
			if test.exit.Lost && outcome.Result.Duration != 60 {
				t.Errorf("lived %v s, want until borg's last word", outcome.Result.Duration)
			}
		})
	}
}

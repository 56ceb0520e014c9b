package borg_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

// FuzzParser feeds anything in any chunks, for every kind: nothing panics, the
// chunks make no difference, and what comes out is bounded, valid JSON.
func FuzzParser(f *testing.F) {
	dirs, err := filepath.Glob(filepath.Join("testdata", "recorded", "*"))
	if err != nil || len(dirs) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for i, dir := range dirs {
		stderr, err := os.ReadFile(filepath.Join(dir, "stderr"))
		if err != nil {
			f.Fatal(err)
		}
		stdout, err := os.ReadFile(filepath.Join(dir, "stdout"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stderr[:min(len(stderr), 8000)], stdout, uint16(i+1), uint8(i%3), uint8(i))
	}
	f.Add([]byte("Enter passphrase: {\"type\": \"log_message\", \"time\": 1e300}\r\n\xff{\"\n"), []byte("{"), uint16(1), uint8(2), uint8(1))
	f.Add([]byte(`{"type": "progress_percent", "current": -1, "total": 9223372036854775807, "time": 5}`), []byte(`{"archives":[{}]}`), uint16(3), uint8(143), uint8(2))
	specs := []job.Spec{job.InitSpec{}, backupOf("/srv/lab/nope", "/srv"), job.ListSpec{}, job.InfoSpec{}, restoreOf("/etc"),
		job.PruneSpec{KeepLast: 1}, job.CompactSpec{}, job.CheckSpec{}, job.KeyExportSpec{Recipient: recipient}}
	f.Fuzz(func(t *testing.T, stderr, stdout []byte, chunk uint16, code, choice uint8) {
		task := baseTask(neutralRoot, specs[int(choice)%len(specs)])
		if choice >= 128 {
			task = modern(task.Spec)
		}
		r := recording{stdout: stdout, stderr: stderr, exit: borg.Exit{Code: int(code), Cancelled: choice&64 != 0}}
		outcome, items := parse(task, r, len(stderr))
		chunkedOutcome, chunkedItems := parse(task, r, int(chunk))
		if diff := cmp.Diff(items, chunkedItems); diff != "" {
			t.Errorf("items depend on the chunks:\n%s", diff)
		}
		if diff := cmp.Diff(outcome, chunkedOutcome); diff != "" {
			t.Errorf("the outcome depends on the chunks:\n%s", diff)
		}
		for _, item := range items {
			checkItem(t, item)
		}
		checkOutcome(t, outcome)
	})
}

func checkItem(t *testing.T, item borg.Item) {
	t.Helper()
	if (item.Progress == nil) == (item.Line == nil) {
		t.Fatalf("item is not exactly one thing: %+v", item)
	}
	if _, err := json.Marshal(item); err != nil {
		t.Error(err)
	}
	if line := item.Line; line != nil && (len(line.Text) > job.MaxLogLineBytes || !utf8.ValidString(line.Text) || line.Text == "") {
		t.Errorf("log line %q", line.Text)
	}
	if now := item.Progress; now != nil {
		if !utf8.ValidString(now.Path+now.Phase) || len(now.Path) > 2048 || len(now.Phase) > 2048 {
			t.Errorf("progress %+v", now)
		}
		if now.Percent != nil && !(*now.Percent >= 0 && *now.Percent <= 99) {
			t.Errorf("%v percent", *now.Percent)
		}
		if now.Rate != nil && *now.Rate < 0 || now.ETASeconds != nil && *now.ETASeconds < 0 {
			t.Errorf("rate or time left is negative: %+v", now)
		}
	}
}

func checkOutcome(t *testing.T, outcome job.Outcome) {
	t.Helper()
	if !outcome.State.Terminal() || (outcome.State == job.Succeeded && outcome.Failure != nil) {
		t.Errorf("outcome %+v", outcome)
	}
	if (outcome.State == job.Failed || outcome.State == job.Cancelled) && (outcome.Failure == nil || outcome.Failure.Message == "") {
		t.Errorf("failure without a reason: %+v", outcome)
	}
	if _, err := json.Marshal(outcome); err != nil {
		t.Error(err)
	}
}

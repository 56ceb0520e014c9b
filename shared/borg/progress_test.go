package borg_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/borg"
	"github.com/borgfleet/borgfleet/shared/job"
)

const began = 1795326513.0 // borg's clock when a test's borg starts

func archiveLine(after float64, size, files int64, path string) string {
	return fmt.Sprintf(`{"original_size": %d, "compressed_size": %d, "deduplicated_size": %d, "nfiles": %d, "path": %q, "time": %f, "type": "archive_progress", "finished": false}`+"\n",
		size, size/2, size/4, files, path, began+after)
}

func percentLine(after float64, msgID string, operation, current, total int64, words string) string {
	return fmt.Sprintf(`{"message": %q, "current": %d, "total": %d, "info": null, "operation": %d, "msgid": %q, "type": "progress_percent", "finished": false, "time": %f}`+"\n",
		words, current, total, operation, msgID, began+after)
}

// last returns the newest progress that a parser makes of lines.
func last(t *testing.T, task borg.Task, lines ...string) job.Progress {
	t.Helper()
	parser := borg.NewParser(task)
	var newest *job.Progress
	for _, line := range lines {
		for _, item := range parser.Stderr([]byte(line)) {
			if item.Progress != nil {
				newest = item.Progress
			}
		}
	}
	if newest == nil {
		t.Fatal("no progress")
	}
	return *newest
}

func TestBackupProgress(t *testing.T) {
	const mb = 1_000_000
	steady := []string{archiveLine(0, 0, 0, "srv/a"), archiveLine(1, 10*mb, 10, "srv/b"), archiveLine(2, 20*mb, 20, "srv/c"), archiveLine(10, 100*mb, 100, "srv/d")}
	tests := map[string]struct {
		baseline *job.Baseline
		lines    []string
		want     job.Progress
	}{
		"first line": {&job.Baseline{OriginalSize: 400 * mb}, steady[:1],
			job.Progress{Phase: "create", Path: "/srv/a", Percent: new(0.0)}},
		"steady pace": {&job.Baseline{OriginalSize: 400 * mb}, steady,
			job.Progress{Phase: "create", Path: "/srv/d", NFiles: 100, OriginalSize: 100 * mb, CompressedSize: 50 * mb, DeduplicatedSize: 25 * mb,
				Percent: new(25.0), Rate: new(int64(10 * mb)), ETASeconds: new(int64(30))}},
		"no baseline": {nil, steady,
			job.Progress{Phase: "create", Path: "/srv/d", NFiles: 100, OriginalSize: 100 * mb, CompressedSize: 50 * mb, DeduplicatedSize: 25 * mb,
				Rate: new(int64(10 * mb))}},
		"more than last time": {&job.Baseline{OriginalSize: 50 * mb}, steady,
			job.Progress{Phase: "create", Path: "/srv/d", NFiles: 100, OriginalSize: 100 * mb, CompressedSize: 50 * mb, DeduplicatedSize: 25 * mb,
				Percent: new(99.0), Rate: new(int64(10 * mb))}},
		"baseline of files alone": {&job.Baseline{NFiles: 300}, steady,
			job.Progress{Phase: "create", Path: "/srv/d", NFiles: 100, OriginalSize: 100 * mb, CompressedSize: 50 * mb, DeduplicatedSize: 25 * mb,
				Percent: new(33.3), Rate: new(int64(10 * mb))}},
		"empty baseline": {&job.Baseline{}, steady[:1], job.Progress{Phase: "create", Path: "/srv/a"}},
		"saving the cache keeps the numbers": {&job.Baseline{OriginalSize: 400 * mb},
			append(steady[:4:4], fmt.Sprintf(`{"message": "Saving files cache", "operation": 2, "msgid": "cache.commit", "type": "progress_message", "finished": false, "time": %f}`+"\n", began+11)),
			job.Progress{Phase: "cache.commit", Path: "Saving files cache", NFiles: 100, OriginalSize: 100 * mb, CompressedSize: 50 * mb, DeduplicatedSize: 25 * mb, Percent: new(25.0)}},
		"a clock that goes back": {nil, []string{archiveLine(10, 10*mb, 1, "a"), archiveLine(5, 20*mb, 2, "b")},
			job.Progress{Phase: "create", Path: "/b", NFiles: 2, OriginalSize: 20 * mb, CompressedSize: 10 * mb, DeduplicatedSize: 5 * mb}},
		"negative numbers": {&job.Baseline{OriginalSize: 100}, []string{archiveLine(0, -8, -2, "")},
			job.Progress{Phase: "create", Percent: new(0.0)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			task := baseTask(neutralRoot, backupOf("/srv"))
			task.Baseline = test.baseline
			got := last(t, task, test.lines...)
			got.At = time.Time{}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// After a long time at one pace, the rate follows a change within the span of
// the mean, and does not jump with a single line.
func TestRateFollowsButDoesNotJump(t *testing.T) {
	var lines []string
	size, at := int64(0), 0.0
	step := func(seconds int, perSecond int64) int64 {
		for range seconds * 5 {
			at += 0.2
			size += perSecond / 5
			lines = append(lines, archiveLine(at, size, 1, "x"))
		}
		return *last(t, baseTask(neutralRoot, backupOf("/srv")), lines...).Rate
	}
	if rate := step(120, 1000); math.Abs(float64(rate)-1000) > 10 {
		t.Errorf("steady rate is %d, want about 1000", rate)
	}
	size += 100_000 // one large file that was there already
	if rate := step(1, 1000); rate < 1000 || rate > 10_000 {
		t.Errorf("after a jump the rate is %d", rate)
	}
	if rate := step(60, 5000); math.Abs(float64(rate)-5000) > 250 {
		t.Errorf("a minute later the rate is %d, want about 5000", rate)
	}
}

func TestStepProgress(t *testing.T) {
	check := baseTask(neutralRoot, job.CheckSpec{})
	tests := map[string]struct {
		lines []string
		want  job.Progress
	}{
		"borg's own percentage": {[]string{percentLine(0, "repository.check", 1, 2, 2, "Checking segments 50.0%")},
			job.Progress{Phase: "repository.check", Path: "Checking segments 50.0%", Percent: new(50.0)}},
		"from the server": {[]string{percentLine(0, "repository.check", 1, 2, 2, "Remote: Checking segments 50.0%")},
			job.Progress{Phase: "repository.check", Path: "Checking segments 50.0%", Percent: new(50.0)}},
		"never all of it": {[]string{percentLine(0, "prune", 1, 9, 9, "Pruning archives 100%")},
			job.Progress{Phase: "prune", Path: "Pruning archives 100%", Percent: new(99.0)}},
		"counted": {[]string{percentLine(0, "cache.sync", 1, 1, 3, "Syncing")},
			job.Progress{Phase: "cache.sync", Path: "Syncing", Percent: new(33.3)}},
		"not yet known": {[]string{percentLine(0, "extract", 1, 0, 0, "Calculating")},
			job.Progress{Phase: "extract", Path: "Calculating"}},
		"time left from the pace": {[]string{percentLine(0, "check.verify_data", 2, 0, 100, "Verifying data 0.00%"), percentLine(10, "check.verify_data", 2, 20, 100, "Verifying data 20.00%")},
			job.Progress{Phase: "check.verify_data", Path: "Verifying data 20.00%", Percent: new(20.0), ETASeconds: new(int64(40))}},
		"too early to tell": {[]string{percentLine(0, "check.verify_data", 2, 0, 100, "Verifying data 0.00%"), percentLine(4, "check.verify_data", 2, 20, 100, "Verifying data 20.00%")},
			job.Progress{Phase: "check.verify_data", Path: "Verifying data 20.00%", Percent: new(20.0)}},
		"the server's and our own operation of one number": {[]string{
			percentLine(0, "check.rebuild_refcounts", 1, 0, 100, "Checking archives 0.0%"), percentLine(9, "repository.check", 1, 90, 100, "Remote: Checking segments 90.0%"),
			percentLine(10, "check.rebuild_refcounts", 1, 50, 100, "Checking archives 50.0%")},
			job.Progress{Phase: "check.rebuild_refcounts", Path: "Checking archives 50.0%", Percent: new(50.0), ETASeconds: new(int64(10))}},
		"a number used again after its end": {[]string{
			percentLine(0, "repository.check", 1, 0, 100, "Checking segments 0.0%"),
			fmt.Sprintf(`{"operation": 1, "msgid": "repository.check", "type": "progress_percent", "finished": true, "time": %f}`+"\n", began+100),
			percentLine(101, "repository.check", 1, 50, 100, "Checking segments 50.0%")},
			job.Progress{Phase: "repository.check", Path: "Checking segments 50.0%", Percent: new(50.0)}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := last(t, check, test.lines...)
			if got.At.IsZero() {
				t.Error("progress without borg's time")
			}
			got.At = time.Time{}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

package catalog_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func (w *world) streamsOpen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// idle waits until no stream is under way, and makes sure that nothing is left
// of them.
func (w *world) idle() {
	w.t.Helper()
	w.until("all streams are over", func() bool { return w.UnderWay() == 0 })
	if left, err := os.ReadDir(filepath.Join(w.dir, ".work")); err != nil || len(left) > 0 {
		w.t.Errorf("left to sort: %v, %v", left, err)
	}
	if n := w.streamsOpen(); n != 0 {
		w.t.Errorf("%d streams are not closed", n)
	}
}

// TestOnlyWhatEndedWellIsKept holds jobs back until all of their stream was read.
func TestOnlyWhatEndedWellIsKept(t *testing.T) {
	tests := map[string]struct {
		stream io.Reader
		state  job.State
		kept   bool
	}{
		"succeeded":             {strings.NewReader(items("a")), job.Succeeded, true},
		"warning":               {strings.NewReader(items("a")), job.Warning, true},
		"nothing in it":         {strings.NewReader(""), job.Succeeded, true},
		"lines that are none":   {strings.NewReader("borg says hello\n" + items("a") + strings.Repeat("x", 300<<10) + "\n" + items("b")), job.Succeeded, true},
		"failed":                {strings.NewReader(items("a")), job.Failed, false},
		"cancelled":             {strings.NewReader(items("a")), job.Cancelled, false},
		"tried again":           {strings.NewReader(items("a")), job.Queued, false},
		"ends within a line":    {strings.NewReader(items("a") + `{"type": "-"`), job.Succeeded, false},
		"has no line of one":    {strings.NewReader("[]\n[]\n"), job.Succeeded, false},
		"lost at once":          {broken{}, job.Succeeded, false},
		"lost in the middle":    {io.MultiReader(strings.NewReader(items("a", "b")), broken{}), job.Succeeded, false},
		"byte by byte":          {iotest.OneByteReader(strings.NewReader(items("a", "b"))), job.Succeeded, true},
		"data with the end":     {iotest.DataErrReader(strings.NewReader(items("a"))), job.Succeeded, true},
		"lost within long line": {io.MultiReader(strings.NewReader(strings.Repeat("y", 100<<10)), broken{}), job.Succeeded, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir()).start()
			j := newList("main", "a")
			w.prints(j, test.stream)
			w.tell(j)
			w.until("the stream was opened", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.opened) > 0 })
			if at := w.ListedAt("main"); len(at) != 0 {
				t.Errorf("listed before the job was over: %v", at)
			}
			w.over(j, test.state)
			w.idle()
			if _, kept := w.ListedAt("main")["a"]; kept != test.kept {
				t.Errorf("kept: %t", kept)
			}
			_, err := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a"})
			if test.kept && err != nil {
				t.Error(err)
			}
			if !test.kept {
				wantCode(t, err, job.NotListed)
			}
		})
	}
}

func TestAFaultIsToldToWhoeverAsks(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	j := newList("main", "a")
	wait := &held{ready: make(chan struct{}), from: broken{}}
	w.prints(j, wait)
	w.tell(j)
	w.until("the stream was opened", func() bool { return w.streamsOpen() == 1 })
	_, err := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a"})
	if wantCode(t, err, job.NotListed); !strings.Contains(job.AsFailure(err).Hint, string(j.ID)) {
		t.Errorf("while it is being listed: %v", err)
	}
	close(wait.ready)
	w.idle()
	_, err = w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a"})
	if wantCode(t, err, job.NotListed); !strings.Contains(err.Error(), "the host has lost it") {
		t.Errorf("afterwards: %v", err)
	}
	w.list("main", "a", items("f"))
	if got := w.names("a", "", 0); len(got) != 1 {
		t.Error(got)
	}
}

func TestTheNextAttemptIsListed(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	j := newList("main", "a")
	first := &held{ready: make(chan struct{}), from: strings.NewReader(items("first"))}
	w.prints(j, first)
	w.tell(j)
	w.until("the stream was opened", func() bool { return w.streamsOpen() == 1 })
	waiting := j
	waiting.State = job.Queued
	w.tell(waiting)
	again := newList("main", "a")
	again.ID, again.Attempt = j.ID, 2
	again.Attempts[0].Number = 2
	w.prints(again, strings.NewReader(items("second")))
	w.tell(again)
	w.over(again, job.Succeeded)
	w.until("the archive is listed", func() bool { return len(w.ListedAt("main")) == 1 })
	close(first.ready)
	w.idle()
	if got := w.names("a", "", 0); len(got) != 1 || got[0] != "second" {
		t.Errorf("%v", got)
	}
}

// TestNothingIsReadBeforeBorgRuns tells of jobs that have nothing to read.
func TestNothingIsReadBeforeBorgRuns(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	accepted := newList("main", "accepted")
	accepted.Attempts[0].StartedAt = nil
	w.tell(accepted)
	sent := newList("main", "sent")
	sent.State = job.Sent
	w.tell(sent)
	archives := newList("main", "")
	w.tell(archives)
	backup := newList("main", "")
	backup.Kind, backup.Spec = job.Backup, job.BackupSpec{}
	w.tell(backup)
	long := time.Now().Add(-time.Hour)
	old := newList("main", "old")
	old.State, old.FinishedAt = job.Succeeded, &long
	w.tell(old)
	w.list("main", "last", items("f"))
	w.idle()
	if len(w.opened) != 1 {
		t.Errorf("opened: %v", w.opened)
	}
}

func TestAtMostFourAreSortedAtATime(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	ready := make(chan struct{})
	for i := range 6 {
		j := newList("main", fmt.Sprint("a", i))
		w.prints(j, io.MultiReader(strings.NewReader(items("f")), &held{ready: ready, from: strings.NewReader(items("g"))}))
		w.tell(j)
		w.over(j, job.Succeeded)
	}
	w.until("all streams are open", func() bool { return w.streamsOpen() == 6 })
	w.until("four are sorted", func() bool { return w.Sorting() == 4 })
	close(ready)
	w.until("all are listed", func() bool { return len(w.ListedAt("main")) == 6 })
	w.idle()
}

// TestJobsThatRunAtTheStart has a job that streams since before the catalog did.
func TestJobsThatRunAtTheStart(t *testing.T) {
	w := newWorld(t, t.TempDir())
	j := newList("main", "a")
	w.prints(j, strings.NewReader(items("f")))
	w.jobs[j.ID] = j
	w.start()
	w.until("the stream was read", func() bool { return w.UnderWay() == 1 })
	now := time.Now()
	j.State, j.FinishedAt = job.Succeeded, &now
	w.mu.Lock()
	w.jobs[j.ID] = j
	w.mu.Unlock()
	w.feed.Publish(feed.Update{Type: feed.Missed})
	w.until("the archive is listed", func() bool { return len(w.ListedAt("main")) == 1 })
	w.idle()
}

func TestStopInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, dir).start()
	w.list("main", "kept", items("f"))
	j := newList("main", "a")
	reader, writer := io.Pipe()
	w.prints(j, reader)
	w.tell(j)
	if _, err := io.WriteString(writer, items("f")); err != nil {
		t.Fatal(err)
	}
	go w.stop()
	w.until("writing is refused", func() bool { _, err := io.WriteString(writer, items("f")); return err != nil })
	w.stop()
	if w.streamsOpen() != 0 || w.feed.Watchers() != 0 {
		t.Errorf("%d streams and %d watchers are left", w.streamsOpen(), w.feed.Watchers())
	}
	again := newWorld(t, dir).start()
	if at := again.ListedAt("main"); len(at) != 1 {
		t.Errorf("listed after a start: %v", at)
	}
	if got := again.names("kept", "", 0); len(got) != 1 {
		t.Error(got)
	}
}

func TestLeftoversAreRemovedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, ".work", "01J-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "run-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	newWorld(t, dir).start().idle()
}

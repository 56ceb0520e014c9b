package catalog_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/catalog"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestDeepPathsAreBounded: each line of a hostile host makes up thousands of
// directories, with thousands of bytes in each name.
func TestDeepPathsAreBounded(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	lines := make([]io.Reader, 6)
	for i := range lines {
		lines[i] = strings.NewReader(item("-", fmt.Sprint(i)+strings.Repeat("/a", 8000), 1))
	}
	j := newList("main", "deep")
	w.prints(j, io.MultiReader(lines...))
	w.tell(j)
	w.over(j, job.Succeeded)
	w.until("the stream is over", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.opened[fmt.Sprintf("%s/1", j.ID)] > 0 && w.UnderWay() == 0
	})
	if at, listed := w.ListedAt("main")["deep"]; listed {
		t.Errorf("100 kB became a listing of 400 MB at %s", at)
	}
	w.idle()
}

// TestDeepPathsOfHonestHosts are those of backups that name single files.
func TestDeepPathsOfHonestHosts(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	var text strings.Builder
	for i := range 2000 {
		text.WriteString(item("-", fmt.Sprintf("srv/%d%s/file", i, strings.Repeat("/directory", 40)), 1))
	}
	w.list("main", "files", text.String())
}

// TestIndexOfLongNamesIsBounded: of what is written, no more than can be read.
func TestIndexOfLongNamesIsBounded(t *testing.T) {
	long := strings.Repeat("n", 15<<10)
	if err := catalog.WriteBlocks(t.TempDir()+"/listing", long, 100); err != nil {
		t.Error(err)
	}
	if err := catalog.WriteBlocks(t.TempDir()+"/listing", long, 1<<20); err == nil {
		t.Error("an index of gigabytes is written")
	}
}

// TestIndexesInMemory: what is cached is bounded in bytes, whatever the names.
func TestIndexesInMemory(t *testing.T) {
	if kept := catalog.CacheIndexes(40, 1000, 15<<10); kept > 40<<20 {
		t.Errorf("%d bytes of names are cached", kept)
	}
	if kept := catalog.CacheIndexes(3, 1000, 20); kept != 3*1000*20 {
		t.Errorf("%d bytes of names are cached", kept)
	}
}

// TestSpaceIsLookedAtWhileWriting: a file of a sort may be as large as the disk.
func TestSpaceIsLookedAtWhileWriting(t *testing.T) {
	full := errors.New("the disk is nearly full")
	var looked int
	to := catalog.NewCareful(io.Discard, func() error {
		if looked++; looked == 3 {
			return full
		}
		return nil
	})
	written, err := io.Copy(to, io.LimitReader(endless{}, 1<<30))
	if !errors.Is(err, full) || written > 64<<20 {
		t.Errorf("%d bytes were written, %v", written, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

package catalog_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// listed returns the names of the archives that are listed, and compares them
// with the files that are there.
func (w *world) listed(repository string) []string {
	w.t.Helper()
	names := []string{}
	for name := range w.ListedAt(repository) {
		names = append(names, name)
	}
	slices.Sort(names)
	files, err := filepath.Glob(filepath.Join(w.dir, repository, "*.listing"))
	if err != nil || len(files) != len(names) {
		w.t.Errorf("%d listings, %d files, %v", len(names), len(files), err)
	}
	return names
}

// settle waits until the catalog has seen all that was told so far.
func (w *world) settle() {
	w.t.Helper()
	w.addRepository("mark")
	w.list("mark", string(job.NewID(time.Now())), items("f"))
}

func TestDeletedAndPrunedArchives(t *testing.T) {
	tests := map[string]struct {
		spec   job.Spec
		result *job.Result
		want   []string
	}{
		"delete":                   {job.DeleteSpec{Archives: []string{"a", "b"}}, &job.Result{Deleted: []string{"a", "b"}}, []string{"c"}},
		"delete some":              {job.DeleteSpec{Archives: []string{"a", "b"}}, &job.Result{Deleted: []string{"b"}}, []string{"a", "c"}},
		"delete dry run":           {job.DeleteSpec{Archives: []string{"a"}, DryRun: true}, &job.Result{Deleted: []string{"a"}}, []string{"a", "b", "c"}},
		"delete too many to name":  {job.DeleteSpec{Glob: "[bc]"}, &job.Result{Deleted: []string{"x"}, DeletedOmitted: 2}, []string{"a"}},
		"delete without a result":  {job.DeleteSpec{Archives: []string{"a"}}, nil, []string{"a", "b", "c"}},
		"prune":                    {job.PruneSpec{KeepLast: 1}, &job.Result{Pruned: []string{"a"}, Kept: []string{"b"}}, []string{"b", "c"}},
		"prune dry run":            {job.PruneSpec{KeepLast: 1, DryRun: true}, &job.Result{Pruned: []string{"a"}}, []string{"a", "b", "c"}},
		"prune too many to name":   {job.PruneSpec{KeepLast: 1}, &job.Result{Pruned: []string{"x"}, PrunedOmitted: 1, Kept: []string{"b"}}, []string{"b"}},
		"a compact deletes nobody": {job.CompactSpec{}, &job.Result{}, []string{"a", "b", "c"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir()).start()
			for _, name := range []string{"a", "b", "c"} {
				w.list("main", name, items("f"))
			}
			w.over(job.Job{ID: job.NewID(time.Now()), Kind: test.spec.Kind(), Repository: "main", Spec: test.spec, Result: test.result}, job.Warning)
			w.settle()
			if diff := cmp.Diff(test.want, w.listed("main")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestArchivesThatAreOthersNow changes what is known of the archives of a
// repository, and tells that it was listed whole.
func TestArchivesThatAreOthersNow(t *testing.T) {
	later := time.Now().Add(time.Hour)
	tests := map[string]struct {
		before, after func(w *world)
		kept          bool
	}{
		"as before":                     {func(w *world) { w.has("main", "a", "id1", started) }, func(*world) {}, true},
		"gone":                          {func(w *world) { w.has("main", "a", "id1", started) }, func(w *world) { w.forget("main", "a") }, false},
		"another one":                   {func(w *world) { w.has("main", "a", "id1", started) }, func(w *world) { w.has("main", "a", "id2", started) }, false},
		"known only now":                {func(*world) {}, func(w *world) { w.has("main", "a", "id1", started) }, true},
		"known only now, begun later":   {func(*world) {}, func(w *world) { w.has("main", "a", "id1", later) }, false},
		"never known":                   {func(*world) {}, func(*world) {}, true},
		"never known, not seen by borg": {func(*world) {}, func(w *world) { w.mu.Lock(); w.asOf = &later; w.mu.Unlock() }, false},
	}
	for name, test := range tests {
		for _, how := range []string{"told", "missed", "after a start"} {
			t.Run(name+", "+how, func(t *testing.T) {
				dir := t.TempDir()
				w := newWorld(t, dir).start()
				test.before(w)
				w.list("main", "a", items("f"))
				if how == "after a start" {
					w.stop()
				}
				test.after(w)
				switch how {
				case "told":
					w.over(job.Job{ID: job.NewID(time.Now()), Kind: job.List, Repository: "main", Spec: job.ListSpec{}, Result: &job.Result{}}, job.Succeeded)
				case "missed":
					w.feed.Publish(feed.Update{Type: feed.Missed})
				case "after a start":
					w.start()
				}
				w.settle()
				if kept := len(w.listed("main")) == 1; kept != test.kept {
					t.Errorf("kept: %t", kept)
				}
			})
		}
	}
}

func TestABackupUnderANameThatWasUsed(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	w.has("main", "a", "id1", started)
	w.list("main", "a", items("f"))
	w.has("main", "a", "id2", time.Now())
	w.over(job.Job{ID: job.NewID(time.Now()), Kind: job.Backup, Repository: "main", Spec: job.BackupSpec{}, Result: &job.Result{Archive: "a"}}, job.Succeeded)
	w.settle()
	if got := w.listed("main"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestDeletedWhileItIsListed ends a delete before the listing is whole.
func TestDeletedWhileItIsListed(t *testing.T) {
	for _, known := range []bool{true, false} {
		w := newWorld(t, t.TempDir()).start()
		if known {
			w.has("main", "a", "id1", started)
		}
		j := newList("main", "a")
		wait := &held{ready: make(chan struct{}), from: strings.NewReader(items("g"))}
		w.prints(j, io.MultiReader(strings.NewReader(items("f")), wait))
		w.tell(j)
		w.over(j, job.Succeeded)
		w.until("it is sorted", func() bool { return w.Sorting() == 1 })
		w.over(job.Job{ID: job.NewID(time.Now()), Kind: job.Delete, Repository: "main", Spec: job.DeleteSpec{Archives: []string{"a"}}, Result: &job.Result{Deleted: []string{"a"}}}, job.Succeeded)
		w.settle()
		close(wait.ready)
		w.idle()
		if got := w.listed("main"); len(got) != 0 {
			t.Errorf("known %t: %v", known, got)
		}
	}
}

func TestRemovedRepositories(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	w.addRepository("second")
	w.list("main", "a", items("f"))
	w.list("second", "a", items("f"))
	w.mu.Lock()
	delete(w.repositories, "main")
	w.mu.Unlock()
	w.feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: "main"})
	w.until("it is gone", func() bool { return len(w.ListedAt("main")) == 0 })
	if _, err := os.Stat(filepath.Join(w.dir, "main")); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
	if got := w.listed("second"); len(got) != 1 {
		t.Errorf("the other one: %v", got)
	}
	w.mu.Lock()
	w.repositories["second"] = fleet.Repository{CreatedAt: time.Now().Add(time.Hour)} // made anew, too quickly to see it gone
	w.mu.Unlock()
	w.feed.Publish(feed.Update{Type: feed.RepositoryChanged, Repository: "second"})
	w.until("the other one is gone, too", func() bool { return len(w.ListedAt("second")) == 0 })
}

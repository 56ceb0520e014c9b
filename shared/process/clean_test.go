package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestListAndClean(t *testing.T) {
	root := filepath.Join(t.TempDir(), "jobs")
	l := local(t, root, false)
	if ids, err := l.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("list without a root: %q, %v", ids, err)
	}
	long := time.Now().Add(-48 * time.Hour)
	for _, id := range []string{"old.1", "kept.1", "new.1"} {
		enginetest.Start(t, l, enginetest.Shell(id, "echo hello"), secret.Value{})
		enginetest.Follow(t, l, id, process.Offsets{})
		if id != "new.1" {
			age(t, filepath.Join(root, id), long)
		}
	}
	command, open := gated(t, "running.1")
	enginetest.Start(t, l, command, secret.Value{})
	age(t, filepath.Join(root, "running.1"), long)
	for _, odd := range []string{"lost+found", ".removed-half.1"} {
		if err := os.Mkdir(filepath.Join(root, odd), 0o700); err != nil {
			t.Fatal(err)
		}
		age(t, filepath.Join(root, odd), long)
	}
	err := l.Clean(t.Context(), 24*time.Hour, func(id string) bool { return id == "kept.1" })
	if err != nil {
		t.Errorf("clean: %v", err)
	}
	ids, err := l.List(t.Context())
	if diff := cmp.Diff([]string{"kept.1", "new.1", "running.1"}, ids); err != nil || diff != "" {
		t.Errorf("left are (-want +got), %v:\n%s", err, diff)
	}
	entries, err := os.ReadDir(root)
	if err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "lost+found" }) || len(entries) != 4 {
		t.Errorf("the root holds %v, %v", entries, err)
	}
	open()
	enginetest.Follow(t, l, "running.1", process.Offsets{})
}

// age sets the time of a directory and all in it back.
func age(t *testing.T, dir string, to time.Time) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.Chtimes(filepath.Join(dir, entry.Name()), to, to); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(dir, to, to); err != nil {
		t.Fatal(err)
	}
}

func TestJobDirectoryIsPrivate(t *testing.T) {
	root := filepath.Join(t.TempDir(), "jobs")
	l := local(t, root, false)
	enginetest.Start(t, l, enginetest.Shell("job.1", "echo hello"), secret.Value{})
	enginetest.Follow(t, l, "job.1", process.Offsets{})
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

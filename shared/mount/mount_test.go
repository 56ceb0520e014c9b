package mount_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/mount"
	"github.com/borgfleet/borgfleet/shared/patience"
)

// borg runs borg on a repository of its own.
func borg(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("borg", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "BORG_BASE_DIR="+dir, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
	return cmd
}

func list(t *testing.T) []string {
	t.Helper()
	points, err := mount.Table{}.List()
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// TestBorgsMounts has one that is served and one whose borg was killed, at
// places whose names need care.
func TestBorgsMounts(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if said, err := borg(t, dir, "init", "--encryption=none", "repo").CombinedOutput(); err != nil {
		t.Fatalf("init: %v: %s", err, said)
	}
	for name, kill := range map[string]bool{"a space and \\040": false, "-dead\ttab": true} {
		t.Run(name, func(t *testing.T) {
			point := filepath.Join(dir, name)
			if err := os.Mkdir(point, 0o700); err != nil {
				t.Fatal(err)
			}
			serving := borg(t, dir, "mount", "--foreground", "repo", point)
			if err := serving.Start(); err != nil {
				t.Fatal(err)
			}
			over := make(chan error, 1)
			go func() { over <- serving.Wait() }()
			t.Cleanup(func() { _ = exec.Command("fusermount3", "-uz", "--", point).Run() }) // mostly there is nothing
			patience.Until(t, "it is listed", func() bool { return slices.Contains(list(t), point) })
			if kill {
				if err := serving.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				<-over
				if !slices.Contains(list(t), point) {
					t.Fatal("what is dead is not listed")
				}
			}
			if err := (mount.Table{}).Remove(t.Context(), point); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(list(t), point) {
				t.Error("it is still mounted")
			}
			if !kill {
				<-over // borg ends with its mount
			}
			if err := (mount.Table{}).Remove(t.Context(), point); err == nil || !strings.Contains(err.Error(), point) {
				t.Errorf("once more: %v", err)
			}
		})
	}
}

func TestSupport(t *testing.T) {
	if got := mount.Verify(t.Context(), "borg"); !got.Good || got.Hint != "" || !strings.Contains(got.Detail, "fuse") {
		t.Errorf("here, where there is all of it: %+v", got)
	}
	for name, test := range map[string]struct{ script, says string }{
		"no binding":   {"echo 'Borg: 1.2.4  Python: CPython 3.11.2 msgpack: 1.0.3 fuse: None [pyfuse3,llfuse]'", "no Python binding"},
		"older":        {"echo 'Borg: 1.1.16'", "no Python binding"},
		"does not run": {"exit 3", "does not tell"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "borg")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+test.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			if got := mount.Verify(t.Context(), path); got.Good || got.Hint == "" || !strings.Contains(got.Detail, test.says) {
				t.Errorf("%+v; want %q", got, test.says)
			}
		})
	}
	t.Setenv("PATH", t.TempDir())
	if got := mount.Verify(t.Context(), "/usr/bin/borg"); got.Good || !strings.Contains(got.Detail, "fusermount3") {
		t.Errorf("without fusermount3: %+v", got)
	}
}

package catalog_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// TestWhatBorgLists lists an archive of a real borg.
func TestWhatBorgLists(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "srv", "data")
	if err := os.MkdirAll(filepath.Join(source, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "line\nend", `quo"te\`, "-dash", "Ünï😀", "bytes\xff"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte("content"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Link(filepath.Join(source, "file"), filepath.Join(source, "hard")),
		os.Symlink("../else", filepath.Join(source, "soft")),
		syscall.Mkfifo(filepath.Join(source, "fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	borg := func(args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), "borg", args...)
		command.Dir = dir
		command.Env = append(os.Environ(), "BORG_BASE_DIR="+dir, "TZ=UTC", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
		var complaint strings.Builder
		command.Stderr = &complaint
		said, err := command.Output()
		if err != nil {
			t.Fatalf("borg %v: %v\n%s", args, err, complaint.String())
		}
		return string(said)
	}
	borg("init", "-e", "none", "repo")
	borg("create", "repo::a", "srv/data", "srv/data/file") // one of them twice
	w := newWorld(t, filepath.Join(dir, "listings")).start()
	w.list("main", "a", borg("list", "--json-lines", "repo::a"))

	got := map[string]string{}
	page, err := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a", Path: "srv/data"})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range page.Files {
		got[file.Name] = string(file.Type) + " " + file.Mode + " " + file.Target
	}
	want := map[string]string{
		"file": "- -rw-r----- ", "line\nend": "- -rw-r----- ", `quo"te\`: "- -rw-r----- ", "-dash": "- -rw-r----- ", "Ünï😀": "- -rw-r----- ",
		"bytes?": "- -rw-r----- ", "hard": "h -rw-r----- srv/data/file", "soft": "l lrwxrwxrwx ../else", "fifo": "p prw------- ", "sub": "d drwxr-xr-x ",
	}
	if got["file"] != want["file"] { // borg reads files in the order of their inodes: the other name may come first
		want["file"], want["hard"] = "h -rw-r----- srv/data/hard", "- -rw-r----- "
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if page, err := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a"}); err != nil || len(page.Files) != 1 || page.Files[0].Name != "srv" {
		t.Errorf("top: %+v, %v", page, err)
	}
}

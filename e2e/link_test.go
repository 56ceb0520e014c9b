package e2e_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/borgfleet/borgfleet/shared/job"
)

// What has no content of its own is not handed out as an empty file: a further
// name of a file is that file, and everything else is refused.
func TestDownloadsOfLinks(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	write(t, filepath.Join(s.data, "links", "a"), "content\n")
	write(t, filepath.Join(s.data, "links", "empty"), "")
	for name, link := range map[string]func(from, to string) error{"hard": os.Link, "soft": os.Symlink} {
		if err := link(filepath.Join(s.data, "links", "a"), filepath.Join(s.data, "links", name)); err != nil {
			t.Fatal(err)
		}
	}
	archive := s.backup(t)
	path := func(name string) string {
		return "/repositories/main/archives/" + archive + "/download?format=file&path=" + url.QueryEscape(s.stored("links", name))
	}
	if got := s.asks(t, "GET", path("empty"), ""); got.Code != job.NotListed || got.Hint == "" {
		t.Errorf("before it is listed: %+v", got)
	}
	s.c.MustCLI("archive", "files", "main", archive)
	for name, want := range map[string]string{"a": "content\n", "hard": "content\n", "empty": ""} {
		if got := s.fetch(t, "/api/v1"+path(name)); string(got) != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
		out := filepath.Join(t.TempDir(), name)
		s.c.MustCLI("archive", "download", "main", archive, s.stored("links", name), "-o", out)
		if got, err := os.ReadFile(out); err != nil || string(got) != want {
			t.Errorf("the command line got %q of %s, %v", got, name, err)
		}
	}
	for _, name := range []string{"soft", ""} {
		if got := s.asks(t, "GET", path(name), ""); got.Code != job.InvalidRequest || got.Hint == "" {
			t.Errorf("%q as a file: %+v", name, got)
		}
	}
}

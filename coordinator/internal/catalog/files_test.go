package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// names reads all pages of a directory.
func (w *world) names(archive, dir string, limit int) (names []string) {
	w.t.Helper()
	q := fleet.FilesQuery{Repository: "main", Archive: archive, Path: dir, Limit: limit}
	for {
		page, err := w.Files(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(page.Files) > limit && limit > 0 {
			w.t.Fatalf("%d files on a page of %d", len(page.Files), limit)
		}
		for _, file := range page.Files {
			names = append(names, file.Name)
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return names
		}
	}
}

func TestDirectories(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	w.has("main", "a", "id1", started)
	w.list("main", "a", item("d", ".", 0)+item("d", "etc", 0)+items("etc/passwd", "etc/hosts")+item("d", "etc/ssl", 0)+items("etc/ssl/cert")+
		items("srv/data/deep/file", "srv/data/deep/other", "srv/data-old/x")+item("l", "home/link", 3)+item("d", "srv/data", 4))

	tests := map[string]struct {
		path string
		want []string
	}{
		"top":                            {"", []string{"etc", "home", "srv"}},
		"top as borg says it":            {".", []string{"etc", "home", "srv"}},
		"listed directory":               {"etc", []string{"hosts", "passwd", "ssl"}},
		"with slashes":                   {"/etc/", []string{"hosts", "passwd", "ssl"}},
		"made up":                        {"srv", []string{"data", "data-old"}},
		"made up and listed later":       {"srv/data", []string{"deep"}},
		"below what was made up":         {"srv/data/deep", []string{"file", "other"}},
		"one whose name begins the same": {"srv/data-old", []string{"x"}},
		"a file":                         {"etc/passwd", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{0, 1, 2} {
				if diff := cmp.Diff(test.want, w.names("a", test.path, limit)); diff != "" {
					t.Errorf("limit %d (-want +got):\n%s", limit, diff)
				}
			}
		})
	}
}

func TestEntryOfAPage(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	w.has("main", "a", "id1", started)
	w.list("main", "a", items("srv/data/file"))
	page, err := w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a", Path: "srv"})
	if err != nil || page.Entry == nil || page.Entry.Type != fleet.Directory || page.Entry.Mode != "d?????????" || page.Path != "srv" {
		t.Errorf("made up directory: %+v, %v", page, err)
	}
	page, err = w.Files(t.Context(), fleet.FilesQuery{Repository: "main", Archive: "a"})
	if err != nil || page.Entry != nil || !page.ListedAt.Equal(w.ListedAt("main")["a"]) || page.ListedAt.IsZero() {
		t.Errorf("top: %+v, %v", page, err)
	}
	file, err := w.Entry(t.Context(), "main", "a", "/srv/data/file")
	want := fleet.File{Path: "srv/data/file", Name: "file", Type: fleet.RegularFile, Mode: "-rw-r--r--", User: "root", Group: "root", Size: 13, MTime: file.MTime}
	if diff := cmp.Diff(want, file); err != nil || diff != "" || file.MTime.Nanosecond() != 456789000 {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	w.has("main", "a", "id1", started)
	w.list("main", "a", items("etc/passwd"))
	tests := map[string]struct {
		query fleet.FilesQuery
		code  job.Code
	}{
		"archive":            {fleet.FilesQuery{Repository: "main", Archive: "b"}, job.NotListed},
		"repository":         {fleet.FilesQuery{Repository: "other", Archive: "a"}, job.NotListed},
		"path":               {fleet.FilesQuery{Repository: "main", Archive: "a", Path: "etc/shadow"}, job.PathMissing},
		"path above the top": {fleet.FilesQuery{Repository: "main", Archive: "a", Path: "../etc"}, job.PathMissing},
		"limit":              {fleet.FilesQuery{Repository: "main", Archive: "a", Limit: fleet.MaxFiles + 1}, job.InvalidRequest},
		"negative limit":     {fleet.FilesQuery{Repository: "main", Archive: "a", Limit: -1}, job.InvalidRequest},
		"cursor":             {fleet.FilesQuery{Repository: "main", Archive: "a", Cursor: "x?"}, job.InvalidRequest},
		"cursor of nothing":  {fleet.FilesQuery{Repository: "main", Archive: "a", Cursor: "e30x"}, job.InvalidRequest},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := w.Files(t.Context(), test.query)
			wantCode(t, err, test.code)
		})
	}
	for path, code := range map[string]job.Code{"": job.PathMissing, "etc/none": job.PathMissing} {
		_, err := w.Entry(t.Context(), "main", "a", path)
		wantCode(t, err, code)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Files(ctx, fleet.FilesQuery{Repository: "main", Archive: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that is over: %v", err)
	}
}

func TestAPathThatIsThereMoreThanOnce(t *testing.T) {
	link := strings.Replace(strings.Replace(item("-", "a/f", 0), `"linktarget": ""`, `"linktarget": "a/f"`, 1), `"-rw`, `"hrw`, 1)
	tests := map[string]struct {
		lines string
		size  int64
	}{
		"the later one counts":               {item("-", "a/f", 1) + item("-", "a/f", 2), 2},
		"a hard link to itself never counts": {item("-", "a/f", 1) + link, 1},
		"nor before the file":                {link + item("-", "a/f", 1), 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir()).start()
			w.list("main", "a", test.lines)
			file, err := w.Entry(t.Context(), "main", "a", "a/f")
			if err != nil || file.Size != test.size || len(w.names("a", "a", 0)) != 1 {
				t.Errorf("%+v, %v", file, err)
			}
		})
	}
}

// TestAnyTree compares directories of random trees, in any order and with
// repeats, with a model. Memory is so small that the sort uses many files.
func TestAnyTree(t *testing.T) {
	for _, files := range []int{0, 1, 300, 20_000} {
		t.Run(fmt.Sprint(files, " files"), func(t *testing.T) {
			w := newWorld(t, t.TempDir()).start()
			w.SetArena(8 << 10)
			text, model := randomTree(files)
			w.list("main", "a", text)
			for dir, want := range model {
				if diff := cmp.Diff(want, w.names("a", dir, fleet.MaxFiles)); diff != "" {
					t.Fatalf("directory %q (-want +got):\n%s", dir, diff)
				}
			}
		})
	}
}

// randomTree returns borg's lines, and the names by directory.
func randomTree(files int) (text string, model map[string][]string) {
	random := rand.New(rand.NewPCG(1, uint64(files)))
	sets := map[string]map[string]bool{"": {}}
	var b strings.Builder
	for i := range files {
		p := fmt.Sprintf("r%d/d-%d/d%d/f%d é", random.IntN(3), random.IntN(20), random.IntN(20), i%(files*9/10+1))
		if i%7 == 0 {
			p = fmt.Sprintf("big/f%d", i)
		}
		b.WriteString(item("-", p, i))
		for p != "." {
			dir := path.Dir(p)
			if dir == "." {
				dir = ""
			}
			if sets[dir] == nil {
				sets[dir] = map[string]bool{}
			}
			sets[dir][path.Base(p)] = true
			p = path.Dir(p)
		}
	}
	model = map[string][]string{}
	for dir, set := range sets {
		var names []string
		for name := range set {
			names = append(names, name)
		}
		slices.Sort(names)
		model[dir] = names
	}
	return b.String(), model
}

package catalog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/catalog"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestPatterns(t *testing.T) {
	tests := map[string]struct {
		search string
		yes    []string
		no     []string
	}{
		"part of the name":            {"pass", []string{"etc/passwd", "a/b/COMPASS"}, []string{"passes/x", "etc/p-ass"}},
		"capital letters":             {"ÄRGER.Txt", []string{"a/Großer ärger.TXT"}, []string{"a/arger.txt"}},
		"glob":                        {"*.conf", []string{"etc/a.conf", "etc/.conf", "x/A.CONF"}, []string{"etc/a.conf.bak", "a.conf/x"}},
		"glob over the whole name":    {"a*c", []string{"x/abc", "ac"}, []string{"xabc", "abcd"}},
		"stars in a row":              {"a**b", []string{"ab", "axb"}, []string{"ba"}},
		"one character":               {"?.log", []string{"a.log", "é.log", "x/😀.log"}, []string{"ab.log", ".log"}},
		"one character and any":       {"*a?c*", []string{"xxabcxx", "aacaéc"}, []string{"ac", "abbc"}},
		"any and one character":       {"*?", []string{"a", "ab"}, nil},
		"only wildcards":              {"???", []string{"abc", "äöü"}, []string{"ab", "abcd"}},
		"stars share no text":         {"ab*ba", []string{"abba", "abxba"}, []string{"aba"}},
		"brackets are brackets":       {"[ab]", []string{"x[ab]"}, []string{"a"}},
		"part of the path":            {"nginx/site", []string{"etc/nginx/sites/a", "etc/nginx/site.conf"}, []string{"etc/nginx", "nginx/a/site"}},
		"part of the directory":       {"etc/nginx/", []string{"etc/nginx/a", "x/etc/NGINX/b/c"}, []string{"etc/nginx"}},
		"from the top":                {"/etc/pass", []string{"etc/passwd", "backup/etc/passwd"}, []string{"etcetera/passwd"}},
		"only a slash":                {"/", []string{"a", "a/b"}, nil},
		"glob over the path":          {"etc/*.conf", []string{"etc/a.conf", "etc/nginx/a.conf"}, []string{"x/etc/a.conf", "etc/a"}},
		"glob over the path from top": {"/etc/*/a?", []string{"etc/x/ab", "etc/x/y/ab"}, []string{"etc/ab", "etc/x/a"}},
		"glob anywhere in the path":   {"*/nginx/*", []string{"etc/nginx/a", "nginx/a"}, []string{"etc/nginx"}},
		"path without wildcards left": {"*/a", []string{"a", "b/a"}, []string{"b/ab"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, paths := range []struct {
				list []string
				want bool
			}{{test.yes, true}, {test.no, false}} {
				for _, path := range paths.list {
					if found, err := catalog.Matches(test.search, path); err != nil || found != paths.want {
						t.Errorf("%q in %q: %t, %v", test.search, path, found, err)
					}
				}
			}
		})
	}
	for _, bad := range []string{"", "a\x00b", "\xff", strings.Repeat("x", 5000)} {
		_, err := catalog.Matches(bad, "a")
		wantCode(t, err, job.InvalidRequest)
	}
}

// matches reads all pages of a search.
func (w *world) matches(q fleet.FindQuery) (found []string, searched int) {
	w.t.Helper()
	for {
		page, err := w.Find(w.t.Context(), q)
		if err != nil {
			w.t.Fatal(err)
		}
		if q.Limit > 0 && len(page.Matches) > q.Limit {
			w.t.Fatalf("%d matches on a page of %d", len(page.Matches), q.Limit)
		}
		for _, match := range page.Matches {
			found = append(found, match.Repository+" "+match.Archive+" "+match.File.Path)
		}
		if q.Cursor = page.Cursor; q.Cursor == "" {
			return found, page.Searched
		}
	}
}

func TestFind(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.addRepository("second")
	w.start()
	w.has("main", "old", "id1", started)
	w.has("main", "new", "id2", started.Add(time.Hour))
	w.has("second", "middle", "id3", started.Add(time.Minute))
	w.list("main", "old", items("etc/passwd", "home/passwords/x"))
	w.list("main", "new", items("etc/passwd", "etc/x"))
	w.list("second", "middle", items("etc/passwd-", "z"))

	tests := map[string]struct {
		query    fleet.FindQuery
		want     []string
		searched int
	}{
		"everywhere, newest first": {fleet.FindQuery{Name: "passw"}, []string{
			"main new etc/passwd", "second middle etc/passwd-", "main old etc/passwd", "main old home/passwords"}, 3},
		"one repository":       {fleet.FindQuery{Name: "passwd", Repository: "main"}, []string{"main new etc/passwd", "main old etc/passwd"}, 2},
		"one archive":          {fleet.FindQuery{Name: "x", Repository: "main", Archive: "old"}, []string{"main old home/passwords/x"}, 1},
		"an archive anywhere":  {fleet.FindQuery{Name: "z", Archive: "middle"}, []string{"second middle z"}, 1},
		"path":                 {fleet.FindQuery{Name: "passwords/x"}, []string{"main old home/passwords/x"}, 3},
		"nothing":              {fleet.FindQuery{Name: "nothing"}, nil, 3},
		"repository with none": {fleet.FindQuery{Name: "x", Repository: "third"}, nil, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for limit := range 4 {
				test.query.Limit = limit
				found, searched := w.matches(test.query)
				if diff := cmp.Diff(test.want, found); diff != "" || searched != test.searched {
					t.Errorf("limit %d: %d searched (-want +got):\n%s", limit, searched, diff)
				}
			}
		})
	}
	_, err := w.Find(t.Context(), fleet.FindQuery{Name: "x", Repository: "main", Archive: "none"})
	wantCode(t, err, job.NotListed)
	_, err = w.Find(t.Context(), fleet.FindQuery{})
	wantCode(t, err, job.InvalidRequest)
	_, err = w.Find(t.Context(), fleet.FindQuery{Name: "x", Cursor: "!"})
	wantCode(t, err, job.InvalidRequest)
}

func TestFindThroughManyBlocks(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	var text strings.Builder
	var want []string
	for i := range 15_000 {
		path := fmt.Sprintf("d%03d/file-%05d", i/100, i)
		if i%1000 == 999 {
			path = fmt.Sprintf("d%03d/needle-%05d", i/100, i)
			want = append(want, "main a "+path)
		}
		text.WriteString(item("-", path, i))
	}
	w.list("main", "a", text.String())
	for _, search := range []string{"NEEDLE", "needle-?????", "/needle-", "d*/needle-*"} {
		for _, limit := range []int{1, 4, 200} {
			found, _ := w.matches(fleet.FindQuery{Name: search, Limit: limit})
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("%s, limit %d (-want +got):\n%s", search, limit, diff)
			}
		}
	}
}

// TestALongSearchAnswersInTime gives a search no time at all: it goes on block
// by block.
func TestALongSearchAnswersInTime(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.patience = -1
	w.start()
	var text strings.Builder
	for i := range 10_000 {
		text.WriteString(item("-", fmt.Sprintf("file-%05d", i), i))
	}
	w.has("main", "a", "id1", started)
	w.has("main", "b", "id2", started.Add(time.Second))
	w.list("main", "a", text.String())
	w.list("main", "b", text.String())
	page, err := w.Find(t.Context(), fleet.FindQuery{Name: "file-09999"})
	if err != nil || len(page.Matches) != 0 || page.Cursor == "" {
		t.Errorf("first page: %+v, %v", page, err)
	}
	found, searched := w.matches(fleet.FindQuery{Name: "file-09999"})
	if diff := cmp.Diff([]string{"main b file-09999", "main a file-09999"}, found); diff != "" || searched != 2 {
		t.Errorf("%d searched (-want +got):\n%s", searched, diff)
	}
}

// TestASearchGoesOnWhenItsListingIsGone takes away the archive that a cursor is
// in.
func TestASearchGoesOnWhenItsListingIsGone(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	for i, name := range []string{"a", "b", "c"} {
		w.has("main", name, "id-"+name, started.Add(time.Duration(i)*time.Hour))
		w.list("main", name, items("x1", "x2"))
	}
	page, err := w.Find(t.Context(), fleet.FindQuery{Name: "x", Limit: 3})
	if err != nil || len(page.Matches) != 3 || page.Matches[2].Archive != "b" {
		t.Fatalf("%+v, %v", page, err)
	}
	w.over(job.Job{ID: job.NewID(time.Now()), Kind: job.Delete, Repository: "main", Spec: job.DeleteSpec{Archives: []string{"b"}}, Result: &job.Result{Deleted: []string{"b"}}}, job.Succeeded)
	w.until("b is gone", func() bool { return len(w.ListedAt("main")) == 2 })
	found, _ := w.matches(fleet.FindQuery{Name: "x", Cursor: page.Cursor})
	if diff := cmp.Diff([]string{"main a x1", "main a x2"}, found); diff != "" {
		t.Error(diff)
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t, t.TempDir()).start()
	versions := []struct{ name, text string }{
		{"a", item("-", "etc/f", 1)}, {"b", item("-", "etc/f", 1)}, {"c", item("-", "etc/f", 2)}, {"d", item("-", "etc/g", 2)}, {"e", item("-", "etc/f", 2)},
	}
	for i, v := range versions {
		w.has("main", v.name, "id-"+v.name, started.Add(time.Duration(i)*time.Hour))
		w.list("main", v.name, v.text)
	}
	w.has("main", "not listed", "id-n", started)
	w.has("main", "other host's", "id-o", started.Add(90*time.Minute))
	w.setHost("main", "other host's", "web2")
	w.list("main", "other host's", item("-", "etc/f", 100))

	history, err := w.History(t.Context(), "main", "/etc/f")
	if err != nil || history.NotListed != 1 || history.Path != "etc/f" {
		t.Errorf("%+v, %v", history, err)
	}
	var got []string
	for _, v := range history.Versions {
		size := int64(-1)
		if v.File != nil {
			size = v.File.Size
		}
		got = append(got, fmt.Sprintln(v.Archive, size, v.Changed))
	}
	want := []string{"a 1 false\n", "b 1 false\n", "other host's 100 false\n", "c 2 true\n", "d -1 true\n", "e 2 true\n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = w.History(t.Context(), "main", "/")
	wantCode(t, err, job.InvalidRequest)
	if none, err := w.History(t.Context(), "none", "x"); err != nil || none.Versions == nil || len(none.Versions) != 0 {
		t.Errorf("a repository without listings: %+v, %v", none, err)
	}
}

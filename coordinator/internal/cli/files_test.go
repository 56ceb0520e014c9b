package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

const filesPath = "/repositories/main/archives/web1-1/files"

var (
	folder = fleet.File{Path: "etc/nginx", Name: "nginx", Type: fleet.Directory, Mode: "drwxr-xr-x", User: "root", Group: "root", MTime: at(1)}
	conf   = fleet.File{Path: "etc/nginx.conf", Name: "nginx.conf", Type: fleet.RegularFile, Mode: "-rw-r--r--", UID: 7, GID: 8, Size: 1_200_000, MTime: at(2), Damaged: true}
	above  = fleet.File{Path: "etc/x", Name: "x", Type: fleet.Directory, Mode: "d?????????"} // leads to what was backed up
	link   = fleet.File{Path: "etc/\x1b", Name: "\x1b", Type: fleet.SymLink, Mode: "lrwxrwxrwx", User: "web", Group: "www", MTime: at(3), Target: "nginx.conf"}
)

// browsing is a coordinator on which the files of web1-1 are listed once a job
// has done so, which ends in a state.
func browsing(t *testing.T, state job.State) *coordinator {
	t.Helper()
	ended := finished(state, job.ListSpec{Archive: "web1-1"}, job.Result{Archive: "web1-1"})
	if state == job.Failed {
		ended.Failure = job.Fail(job.ArchiveMissing, "there is no such archive")
	}
	c := ending(t, ended)
	first, second := fleet.FilePage{Archive: "web1-1", Path: "etc", Entry: pointer(folder), Files: []fleet.File{folder, conf}, Cursor: "more"}, fleet.FilePage{Files: []fleet.File{link, above}}
	asked, listed := 0, false
	c.answers["POST /jobs"] = asker(func(*http.Request, string) any {
		listed = true
		return ended
	})
	c.answers["GET "+filesPath] = asker(func(r *http.Request, _ string) any {
		if asked++; !listed || asked < 3 { // the listing is kept a little later than the job is over
			return fleet.NotListed("main", "web1-1")
		}
		switch r.URL.Query().Get("cursor") + r.URL.Query().Get("path") {
		case "more" + "etc":
			return second
		case "etc/nginx.conf":
			return fleet.FilePage{Entry: pointer(conf)}
		case "etc":
			return first
		default:
			return job.Fail(job.PathMissing, "there is no such path")
		}
	})
	return c
}

// The files of an archive are listed by a job if they are not, and shown as ls
// does, all of them.
func TestFiles(t *testing.T) {
	c := browsing(t, job.Warning)
	r := c.run(t, "", "archive", "files", "main", "web1-1", "/etc/")
	want := []string{
		"drwxr-xr-x root root 0 B nginx/", "-rw-r--r-- 7 8 1.2 MB nginx.conf (damaged: parts of it are lost)", "lrwxrwxrwx web www 0 B ? -> nginx.conf", "d????????? – – – – x/",
	}
	if diff := cmp.Diff(want, withoutDates(r.out)); r.code != 0 || diff != "" || !strings.Contains(r.err, "asking borg, once") {
		t.Errorf("exit code %d (-want +got):\n%s\n%s", r.code, diff, r.err)
	}
	if diff := cmp.Diff([]string{`list {"archive":"web1-1"}`}, c.specs()); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
	var page fleet.FilePage
	if r = c.run(t, "", "archive", "files", "main", "web1-1", "etc", "--json"); json.Unmarshal([]byte(r.out), &page) != nil || len(page.Files) != 4 || page.Cursor != "" || r.err != "" {
		t.Errorf("as JSON: exit code %d, %+v\n%s", r.code, page, r.err)
	}
	if r = c.run(t, "", "archive", "files", "main", "web1-1", "etc", "--limit", "2"); !strings.HasSuffix(r.out, "There are more: add --cursor more\n") {
		t.Errorf("two of them: exit code %d\n%s", r.code, r.out)
	}
	if r = c.run(t, "", "archive", "files", "main", "web1-1", "etc/nginx.conf"); len(withoutDates(r.out)) != 1 {
		t.Errorf("one file: exit code %d\n%s", r.code, r.out)
	}
	if r = c.run(t, "", "archive", "files", "main", "web1-1", "no"); r.code != console.ExitFailed || !strings.Contains(r.err, "there is no such path") {
		t.Errorf("missing: exit code %d\n%s", r.code, r.err)
	}
	if got := len(c.specs()); got != 1 {
		t.Errorf("%d jobs", got)
	}
	c = browsing(t, job.Failed)
	if r = c.run(t, "", "archive", "files", "main", "web1-1"); r.code != console.ExitJobFailed || !strings.Contains(r.out, "archive_missing: there is no such archive") {
		t.Errorf("the list failed: exit code %d\n%s%s", r.code, r.out, r.err)
	}
}

// withoutDates are lines of ls without the times, which are local, in single
// blanks.
func withoutDates(text string) (lines []string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 8 { // without a time
			lines = append(lines, strings.Join(words, " "))
			continue
		}
		lines = append(lines, strings.Join(append(words[:5:5], words[7:]...), " "))
	}
	return lines
}

func TestFind(t *testing.T) {
	c := full(t)
	match := fleet.Match{Repository: "main", Archive: "web1-1", Start: at(0), File: conf}
	pages := map[string]fleet.MatchPage{ // one of them empty
		"": {Searched: 1, Cursor: "b"}, "b": {Matches: []fleet.Match{match}, Searched: 2, Cursor: "c"}, "c": {Matches: []fleet.Match{match}, Searched: 2, Cursor: "more"},
	}
	c.answers["GET /find"] = asker(func(r *http.Request, _ string) any { return pages[r.URL.Query().Get("cursor")] })
	r := c.run(t, "", "archive", "find", "NGINX*", "--limit", "2")
	if r.code != 0 || !strings.Contains(r.out, "main        web1-1   1.2 MB") || !strings.Contains(r.out, "etc/nginx.conf  (damaged") || !strings.Contains(r.out, "add --cursor more\n") {
		t.Errorf("exit code %d:\n%s%s", r.code, r.out, r.err)
	}
	c.run(t, "", "archive", "find", "a/b", "--repo", "main", "--archive", "web1-1", "--limit", "5", "--cursor", "x", "--json")
	if diff := cmp.Diff([]string{"GET /find?limit=2&name=NGINX%2A", "GET /find?cursor=b&limit=2&name=NGINX%2A", "GET /find?cursor=c&limit=1&name=NGINX%2A", "GET /find?archive=web1-1&cursor=x&limit=5&name=a%2Fb&repository=main"}, c.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	for want, page := range map[string]fleet.MatchPage{"Nothing found in 2 listed archives.\n": {Searched: 2}, "No archive's files are listed here": {}} {
		c.answers["GET /find"] = page
		if r := c.run(t, "", "archive", "find", "x"); r.code != 0 || !strings.HasPrefix(r.out, want) {
			t.Errorf("exit code %d, want %q:\n%s%s", r.code, want, r.out, r.err)
		}
	}
	c = browsing(t, job.Succeeded)
	asked := false
	c.answers["GET /find"] = asker(func(*http.Request, string) any {
		if !asked {
			asked = true
			return fleet.NotListed("main", "web1-1")
		}
		return fleet.MatchPage{Matches: []fleet.Match{match}, Searched: 1}
	})
	if r = c.run(t, "", "archive", "find", "x", "--repo", "main", "--archive", "web1-1"); r.code != 0 || len(c.specs()) != 1 || !strings.Contains(r.out, "web1-1   1.2 MB") {
		t.Errorf("listed first: exit code %d, %q\n%s%s", r.code, c.specs(), r.out, r.err)
	}
}

func TestHistory(t *testing.T) {
	c := full(t)
	version := func(archive string, changed bool, file *fleet.File) fleet.PathVersion {
		return fleet.PathVersion{Archive: archive, Start: at(1), File: file, Changed: changed}
	}
	c.answers["GET /repositories/main/history"] = fleet.PathHistory{Repository: "main", Path: "etc/nginx.conf", NotListed: 3, Versions: []fleet.PathVersion{
		version("a", true, &conf), version("b", false, &conf), version("c", true, &conf), version("d", true, nil), version("e", false, nil), version("f", true, &conf),
	}}
	r := c.run(t, "", "archive", "history", "main", "/etc/nginx.conf")
	got := []string{}
	for line := range strings.Lines(r.out) {
		if words := strings.Fields(line); len(words) > 4 && len(words[0]) == 1 {
			got = append(got, words[0]+" "+words[3])
		}
	}
	if diff := cmp.Diff([]string{"a –", "b –", "c changed", "d gone", "e not", "f new"}, got); diff != "" || r.code != 0 || !strings.HasSuffix(r.out, "of 3 archives are not listed; to list those of one: borgfleet archive files main ARCHIVE\n") {
		t.Errorf("exit code %d (-want +got):\n%s\n%s%s", r.code, diff, r.out, r.err)
	}
	if diff := cmp.Diff([]string{"GET /repositories/main/history?path=etc%2Fnginx.conf"}, c.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	c.answers["GET /repositories/main/history"] = fleet.PathHistory{}
	if r = c.run(t, "", "archive", "history", "main", "x"); r.out != "There are no archives.\n" {
		t.Errorf("none:\n%s%s", r.out, r.err)
	}
}

package web_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	base   = "/repositories/web1-main"
	oneURL = base + "/archives/" + newest
	unlURL = base + "/archives/unlisted"
	mnt    = "/var/restore/borgfleet/mnt"
)

var nastyURL = base + "/archives/" + escaped(nasty)

func TestArchivePagesTell(t *testing.T) {
	shown := html.EscapeString(nasty)
	for address, want := range map[string][]string{
		base:                               {"the newest of 4", "all archives of web1-main", ">" + newest + "</a>", `href="` + base + `/prune"`, `href="` + base + `/repair"`, "as of ", mnt},
		base + "/archives":                 {"4 archives in web1-main", "as of <b>", "4.1 GB", "nightly", `<option value="web1" selected>`, "archive list web1-main", ">browse</a>", "Delete the chosen"},
		base + "/archives?name=nothing":    {"No archive of web1-main matches", `value="nothing"`, "--glob &#39;*nothing*&#39;"},
		"/repositories/nas/archives":       {"No archives known in nas", "archive list nas --refresh"},
		oneURL:                             {"402 GB", "machine-of-web1", `href="/jobs/` + string(goodBackup) + `"`, "/restore\"", "/mount\"", "/compare\"", "/download\"", "/delete?archive=", "Browse files", "nightly", mnt},
		oneURL + "/files":                  {"Files of " + newest, ">etc/</a>", ">dev/</a>", "new.sql", "1.2 MB", "archive files web1-main " + newest, "tar.zst"},
		oneURL + "/files?path=etc":         {">etc</h1>", "localtime", "/usr/share/zoneinfo/UTC", "symbolic link", "damaged", "-rw-r--r--", "root:4711", "format=file&amp;host=web1&amp;path=etc%2Fhosts", "/history?path=etc%2Fhosts", "/restore?path=etc%2Fhosts", shown},
		oneURL + "/files?path=etc%2Fhosts": {"Parts of it are lost", "101 B", `<dd class="mono">etc/hosts</dd>`, ">Download</a>"},
		oneURL + "/files?path=etc%2Fempty": {"The directory is empty"},
		unlURL + "/files":                  {"are not listed here", "List the files", `&#34;archive&#34;:&#34;unlisted&#34;`, `<option value="db1" selected>`},
		base + "/history?path=etc%2Fhosts": {"in <b>3</b> listed archives", "1 more archive", "changed", "first seen", "102 B", "archive history web1-main etc/hosts"},
		base + "/history?path=new.sql":     {"first seen", "2 archives where nothing had changed left out", "all=1"},
		"/find":                            {"in the <b>3</b> archives whose files are listed", "archive find nginx.conf"},
		"/find?name=hosts":                 {"3 archives looked through", "etc/hosts", `value="hosts"`},
		"/find?name=slow":                  {"Nothing like", "Search on"},
		"/find?name=zzz":                   {"No file like", "No listed archive has one there"},
		"/find?name=x&in=archive&repository=web1-main&archive=unlisted": {"not_listed", "Files of this archive", `<option value="archive" selected>`},
		oneURL + "/download?path=etc&format=tar.zst":                    {`<option value="tar.zst" selected>`, `action="/api/v1` + oneURL + `/download"`, `name="path" value="etc"`, "--continue"},
		"/":           {"Mounted", mnt, "/unmount\"", "/force-unmount"},
		"/hosts/web1": {"Mounted", "/hosts/web1/verify"},
	} {
		wantPage(t, address, rich().get(t, address), statusOf(address), want...)
	}
}

func statusOf(address string) int {
	if strings.Contains(address, "archive=unlisted") {
		return http.StatusConflict
	}
	return http.StatusOK
}

// Whatever a name is made of, the links to it lead to it.
func TestNastyNamesAreReached(t *testing.T) {
	w := rich()
	w.hosts = w.hosts[3:] // the only one reads downloads
	shown := html.EscapeString(nasty)
	wantPage(t, "archive", w.get(t, nastyURL), http.StatusOK, ">"+shown+"</h1>")
	wantPage(t, "file", w.get(t, nastyURL+"/files?path="+url.QueryEscape("etc/"+nasty)), http.StatusOK, ">"+shown+"</h1>", "7 B")
	wantPage(t, "find", w.get(t, "/find?name="+url.QueryEscape(nasty)), http.StatusOK, shown, "Files like")
	page := w.get(t, nastyURL+"/files?path=etc").Body.String()
	link := regexp.MustCompile(`href="(/api/v1[^"]*)"`)
	found := false
	for _, match := range link.FindAllStringSubmatch(page, -1) {
		u, err := url.Parse(html.UnescapeString(match[1]))
		if err != nil {
			t.Fatalf("%s: %v", match[1], err)
		}
		if parts := strings.Split(u.EscapedPath(), "/"); len(parts) == 8 {
			name, err := url.PathUnescape(parts[6])
			found = found || err == nil && name == nasty && u.Query().Get("path") == "etc/"+nasty && u.Query().Get("format") == "file"
		}
	}
	if !found {
		t.Errorf("no link downloads the file %q of the archive", nasty)
	}
}

// Every link of every page leads somewhere.
func TestLinksLead(t *testing.T) {
	w := rich()
	handler := w.handler(t)
	get := func(address string) *httptest.ResponseRecorder {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, address, nil))
		return recorder
	}
	link := regexp.MustCompile(`href="(/[^"#]*)"`)
	seen := map[string]bool{}
	for _, address := range append(archiveAddresses(), "/", base, "/hosts/web1", "/jobs/"+string(mountJob), "/jobs/"+string(diffJob), "/jobs/"+string(dryPruneJob), "/jobs/"+string(dryDeleteJob), "/jobs/"+string(heldPruneJob), "/jobs/"+string(filesJob), "/jobs/"+string(damagedJob)) {
		page := get(address).Body.String()
		for _, match := range link.FindAllStringSubmatch(page, -1) {
			to := html.UnescapeString(match[1])
			if seen[to] || strings.HasPrefix(to, "/api/") || strings.HasPrefix(to, "/static/") {
				continue
			}
			seen[to] = true
			got := get(to)
			known := strings.Contains(got.Body.String(), "There is no page") || strings.Contains(got.Body.String(), "archive_missing") && !strings.Contains(to, "mail-") && !strings.Contains(to, "web1-2026-11-2") && !strings.Contains(to, "/none") && !strings.Contains(to, "web1-2020")
			if got.Code >= http.StatusInternalServerError || known {
				t.Errorf("%s: the link %s leads to status %d", address, to, got.Code)
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("followed only %d links", len(seen))
	}
}

func TestArchiveFilterIsAsked(t *testing.T) {
	w := rich()
	w.get(t, base+"/archives?name=web1&host=web1&from=2026-11-01&to=2026-11-21&cursor=zz")
	want := fleet.ArchiveFilter{Repository: "web1-main", Host: "web1", Glob: "*web1*", Limit: 50, Cursor: "zz", After: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Before: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	if diff := cmp.Diff(want, w.queries[0]); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	wantPage(t, "bad day", w.get(t, base+"/archives?from=tomorrow"), http.StatusBadRequest, "is not a day", `value="tomorrow"`)
	wantPage(t, "bad glob", w.get(t, base+"/archives?name=[a"), http.StatusBadRequest, "is not a glob", `value="[a"`)
}

func TestArchivesAreAskedFor(t *testing.T) {
	w := rich()
	got := w.post(t, base+"/refresh", url.Values{"host": {"db1"}})
	if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || to != base+"/archives" {
		t.Errorf("refresh: status %d to %q", got.Code, to)
	}
	wantPage(t, "follows", w.get(t, base+"/archives"), http.StatusOK, "Borg is asked", "/jobs/"+string(id(901)))
	got = w.post(t, unlURL+"/files", url.Values{"path": {"etc"}})
	if to := got.Header().Get("Location"); got.Code != http.StatusSeeOther || to != unlURL+"/files?path=etc" {
		t.Errorf("list: status %d to %q", got.Code, to)
	}
	want := []job.Request{
		{Host: "db1", Kind: job.List, Repository: "web1-main", Spec: marshal(t, job.ListSpec{})},
		{Host: "db1", Kind: job.List, Repository: "web1-main", Spec: marshal(t, job.ListSpec{Archive: "unlisted"})},
	}
	if diff := cmp.Diff(want, w.submitted); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
	page := w.get(t, unlURL+"/files?path=etc").Body.String()
	if !strings.Contains(page, "Borg is asked") || strings.Contains(page, "List the files") {
		t.Error("the page of files must follow the job, and offer no second one")
	}
	w.refuse = job.Fail(job.Unavailable, "too many jobs wait")
	wantPage(t, "refused", w.post(t, base+"/refresh", nil), http.StatusServiceUnavailable, "Too many jobs wait", `data-live="`+base+`/archives"`)
	wantPage(t, "refused files", w.post(t, unlURL+"/files", nil), http.StatusServiceUnavailable, "Too many jobs wait", `data-live="`+unlURL+`/files"`)
}

// The page of an archive that is being listed shows its files once they are there.
func TestFilesAppear(t *testing.T) {
	w := rich()
	listing := ended(id(800), job.List, "db1", job.Failed, job.ListSpec{Archive: "unlisted"})
	listing.Failure = job.Fail(job.RepositoryLocked, "the repository is locked")
	w.jobs = append([]job.Job{listing}, w.jobs...)
	wantPage(t, "failed", w.get(t, unlURL+"/files"), http.StatusOK, "The repository is locked", "List the files")
	w.jobs[0].State, w.jobs[0].Failure, w.jobs[0].FinishedAt, w.jobs[0].Result = job.Succeeded, nil, pointer(noon), &job.Result{}
	wantPage(t, "stored", w.get(t, unlURL+"/files"), http.StatusOK, "they are being stored")
	messages := w.listen(t, unlURL+"/files")
	until(t, messages, "the beginning", anything)
	w.change(feed.Update{Type: feed.JobChanged, Job: &w.jobs[0], Repository: "web1-main"}, func() { w.files["unlisted"] = w.files[newest] })
	until(t, messages, "the files", func(m message) bool { return strings.Contains(m.Fragments["files-list"], "new.sql") })
}

func marshal(t *testing.T, spec job.Spec) json.RawMessage {
	t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

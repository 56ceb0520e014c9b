package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
)

// withArchives is a server that knows two archives.
func withArchives(t *testing.T) *served {
	t.Helper()
	s := serve(t, nil)
	s.stock()
	return s
}

// stock puts two archives on the shelf.
func (s *served) stock() {
	s.put("web1", "main")
	s.shelf.archives = []fleet.Archive{{Archive: job.Archive{Name: "a2"}, Host: "db1"}, {Archive: job.Archive{Name: "a1"}, Host: "web1"}}
}

func TestArchivesAreReadAsAsked(t *testing.T) {
	s := withArchives(t)
	answer := s.do(request("GET", "/api/v1/repositories/main/archives?host=web1&prefix=a&glob=a*&after=2026-11-22T00:00:00Z&before=2026-11-23T00:00:00Z&limit=7&cursor=x", ""))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	want := fleet.ArchiveFilter{Repository: "main", Host: "web1", Prefix: "a", Glob: "a*", After: day, Before: day.AddDate(0, 0, 1), Limit: 7, Cursor: "x"}
	if diff := cmp.Diff(want, s.shelf.filter); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
	page := decode[fleet.ArchivePage](t, answer.Body.Bytes())
	if len(page.Archives) != 2 || page.Archives[0].ListedAt != nil || page.Archives[1].ListedAt == nil || !page.Archives[1].ListedAt.Equal(exampleDay) {
		t.Errorf("archives %+v", page.Archives)
	}
	one := decode[fleet.Archive](t, s.do(request("GET", "/api/v1/repositories/main/archives/a1", "")).Body.Bytes())
	if one.Name != "a1" || one.ListedAt == nil {
		t.Errorf("archive %+v", one)
	}
	s.do(request("GET", "/api/v1/repositories/main/archives/a1/files?path=srv/d%C3%A4ta&limit=1000&cursor=y", ""))
	if diff := cmp.Diff(fleet.FilesQuery{Repository: "main", Archive: "a1", Path: "srv/däta", Limit: 1000, Cursor: "y"}, s.shelf.files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	s.do(request("GET", "/api/v1/find?name=hosts&repository=main&archive=a1&cursor=z", ""))
	if diff := cmp.Diff(fleet.FindQuery{Repository: "main", Archive: "a1", Name: "hosts", Limit: 200, Cursor: "z"}, s.shelf.find); diff != "" {
		t.Errorf("search (-want +got):\n%s", diff)
	}
}

func TestAnswersAboutArchivesFitTheirSchemas(t *testing.T) {
	s := withArchives(t)
	document := readDocument(t, s)
	for path, route := range map[string]string{
		"/repositories/main/archives":               "/repositories/{repo}/archives",
		"/repositories/main/archives/a1":            "/repositories/{repo}/archives/{archive}",
		"/repositories/main/archives/a1/files":      "/repositories/{repo}/archives/{archive}/files",
		"/find?name=x":                              "/find",
		"/repositories/main/history?path=etc/hosts": "/repositories/{repo}/history",
	} {
		answer := s.do(request("GET", "/api/v1"+path, ""))
		schema := at(document, "paths", route, "get", "responses", "200", "content", "application/json", "schema")
		if answer.Code != http.StatusOK || schema == nil {
			t.Errorf("%s: %d, %s", path, answer.Code, answer.Body)
			continue
		}
		for _, fault := range conforms(document, schema, decode[any](t, answer.Body.Bytes()), "") {
			t.Errorf("%s%s", path, fault)
		}
	}
}

func TestArchiveRequestsThatAreRefused(t *testing.T) {
	s := withArchives(t)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code               job.Code
	}{
		"unknown repository":  {"GET", "/repositories/none/archives", "", 404, job.UnknownRepository},
		"unknown archive":     {"GET", "/repositories/main/archives/a9", "", 404, job.ArchiveMissing},
		"not listed":          {"GET", "/repositories/main/archives/a9/files", "", 409, job.NotListed},
		"too many files":      {"GET", "/repositories/main/archives/a1/files?limit=1001", "", 400, job.InvalidRequest},
		"time that is none":   {"GET", "/repositories/main/archives?after=yesterday", "", 400, job.InvalidRequest},
		"find nothing":        {"GET", "/find", "", 400, job.InvalidRequest},
		"history of nothing":  {"GET", "/repositories/main/history", "", 400, job.InvalidRequest},
		"the same archive":    {"GET", "/repositories/main/archives/a1/diff/a1", "", 422, job.InvalidSpec},
		"diff at no host":     {"GET", "/repositories/main/archives/a1/diff/a2?host=none", "", 404, job.UnknownHost},
		"no such format":      {"GET", "/repositories/main/archives/a1/download?format=zip", "", 400, job.InvalidRequest},
		"negative offset":     {"GET", "/repositories/main/archives/a1/download?offset=-1", "", 400, job.InvalidRequest},
		"verify no host":      {"POST", "/hosts/none/verify", "{}", 404, job.UnknownHost},
		"a look at a diff":    {"HEAD", "/repositories/main/archives/a1/diff/a2", "", 405, job.InvalidRequest},
		"a look at something": {"HEAD", "/repositories/main/archives/a1/download", "", 405, job.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.do(request(c.method, "/api/v1"+c.path, c.body))
			if problem := decode[struct{ Code job.Code }](t, answer.Body.Bytes()); answer.Code != c.status || problem.Code != c.code {
				t.Errorf("%d: %s", answer.Code, answer.Body)
			}
		})
	}
	if len(s.jobs) != 0 {
		t.Errorf("%d jobs were submitted", len(s.jobs))
	}
}

func TestNoOtherSiteStartsAJob(t *testing.T) {
	s := withArchives(t)
	for _, path := range []string{"diff/a2", "download"} {
		asked := request("GET", "/api/v1/repositories/main/archives/a1/"+path, "")
		asked.Header.Set("Sec-Fetch-Site", "cross-site")
		if answer := s.do(asked); answer.Code != http.StatusForbidden || !strings.Contains(answer.Body.String(), "another site") {
			t.Errorf("%s: %d, %s", path, answer.Code, answer.Body)
		}
	}
	if len(s.jobs) != 0 {
		t.Errorf("%d jobs were submitted", len(s.jobs))
	}
}

// played is a backend whose jobs come to an end as they are submitted.
type played struct {
	*backend
	play func(job.Job) job.Job
}

func (p played) Submit(ctx context.Context, by fleet.Actor, request job.Request) (job.Job, error) {
	submitted, err := p.backend.Submit(ctx, by, request)
	if err == nil {
		p.change(p.play(submitted))
	}
	return submitted, err
}

// playing is withArchives over a played backend.
func playing(t *testing.T, play func(job.Job) job.Job) *served {
	t.Helper()
	s := serve(t, func(o *httpapi.Options) { o.Jobs = played{o.Jobs.(*backend), play} })
	s.stock()
	return s
}

func TestADiffIsWaitedFor(t *testing.T) {
	s := playing(t, func(j job.Job) job.Job { return ended(j, job.Result{Diff: &job.Difference{Added: 3}}) })
	answer := s.do(request("GET", "/api/v1/repositories/main/archives/a1/diff/a2?path=etc&path=srv/a,b", ""))
	done := decode[job.Job](t, answer.Body.Bytes())
	if answer.Code != http.StatusOK || done.Result == nil || done.Result.Diff == nil || done.Result.Diff.Added != 3 || done.Host != "web1" {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	if diff := cmp.Diff(job.Spec(job.DiffSpec{Archive: "a1", Other: "a2", Paths: []string{"etc", "srv/a,b"}}), done.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	later := request("GET", "/api/v1/repositories/main/archives/a1/diff/a2", "")
	later.Header.Set("Prefer", "respond-async")
	if answer := s.do(later); answer.Code != http.StatusAccepted || answer.Header().Get("Preference-Applied") != "respond-async" {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}

// TestTheHostThatMadeAnArchiveReadsIt, if it is there and no other is asked for.
func TestTheHostThatMadeAnArchiveReadsIt(t *testing.T) {
	s := withArchives(t)
	s.put("db1", "main")
	ask := func(query string) (status int, host string) {
		asked := request("GET", "/api/v1/repositories/main/archives/a2/diff/a1"+query, "")
		asked.Header.Set("Prefer", "respond-async")
		answer := s.do(asked)
		return answer.Code, decode[struct{ Host string }](t, answer.Body.Bytes()).Host
	}
	if status, _ := ask(""); status != http.StatusBadRequest {
		t.Errorf("two hosts, and the one that made it is away: %d", status)
	}
	s.hosts["db1"] = fleet.HostView{Host: fleet.Host{Name: "db1"}, Online: true}
	if status, host := ask(""); status != http.StatusAccepted || host != "db1" {
		t.Errorf("two hosts, and the one that made it is there: %d, %s", status, host)
	}
	if status, host := ask("?host=web1"); status != http.StatusAccepted || host != "web1" {
		t.Errorf("another one is asked for: %d, %s", status, host)
	}
}

func TestAHostIsVerified(t *testing.T) {
	checks := []job.Finding{{Name: "borg", Good: true}, {Name: "repository", Hint: "mend it"}}
	for name, c := range map[string]struct {
		end    func(job.Job) job.Job
		status int
	}{
		"good": {func(j job.Job) job.Job { return ended(j, job.Result{Checks: checks}) }, http.StatusOK},
		"failed, with what was found": {func(j job.Job) job.Job {
			j = failed(j, job.PassphraseWrong)
			j.Result = &job.Result{Checks: checks}
			return j
		}, http.StatusOK},
		"failed before": {func(j job.Job) job.Job { return failed(j, job.BorgMissing) }, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := playing(t, c.end)
			answer := s.do(request("POST", "/api/v1/hosts/web1/verify", `{"repository":"main"}`))
			if answer.Code != c.status {
				t.Fatalf("%d: %s", answer.Code, answer.Body)
			}
			if c.status != http.StatusOK {
				return
			}
			var done job.Job
			if err := json.Unmarshal(answer.Body.Bytes(), &done); err != nil || done.Result == nil || done.Kind != job.Verify || fmt.Sprint(done.Result.Checks) != fmt.Sprint(checks) {
				t.Errorf("job %s (%v)", answer.Body, err)
			}
		})
	}
}

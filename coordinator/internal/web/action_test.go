package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/job"
)

// post sends a form.
func (w *world) post(t testing.TB, address string, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequest(http.MethodPost, address, strings.NewReader(form.Encode()))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	recorder := httptest.NewRecorder()
	w.handler(t).ServeHTTP(recorder, request)
	return recorder
}

func TestActionsRedirectToTheirJob(t *testing.T) {
	for address, want := range map[string]string{
		"/jobs/" + string(runningBackup) + "/cancel": "/jobs/" + string(runningBackup),
		"/jobs/" + string(failedBackup) + "/retry":   "/jobs/" + string(id(950)),
	} {
		got := rich().post(t, address, nil)
		if got.Code != http.StatusSeeOther || got.Header().Get("Location") != want {
			t.Errorf("%s: status %d to %q, want 303 to %q", address, got.Code, got.Header().Get("Location"), want)
		}
	}
}

func TestRefusedActionIsSaidOnItsJob(t *testing.T) {
	w := rich()
	w.refuse = job.Fail(job.Conflict, "the job is already over").WithHint("retry it with `borgfleet job retry`")
	address := "/jobs/" + string(goodBackup) + "/cancel"
	got := w.post(t, address, nil)
	page := got.Body.String()
	checkMarkup(t, address, page)
	for _, want := range []string{"The job is already over", "<code>borgfleet job retry</code>", "backup of mail", `role="alert"`} {
		if got.Code != http.StatusConflict || !strings.Contains(page, want) {
			t.Errorf("status %d, want 409 with %q", got.Code, want)
		}
	}
	if !strings.Contains(page, `data-live="/jobs/`+string(goodBackup)+`"`) {
		t.Error("the page of a refused action must go on live as the page of its job")
	}
	if got := w.get(t, address); got.Code != http.StatusSeeOther || got.Header().Get("Location") != "/jobs/"+string(goodBackup) {
		t.Errorf("reading the form's address: status %d to %q, want 303 to the job", got.Code, got.Header().Get("Location"))
	}
}

func TestActionOnNothing(t *testing.T) {
	for _, address := range []string{"/jobs/" + string(id(7)) + "/cancel", "/jobs/x/retry", "/hosts/nobody/backup"} {
		if got := rich().post(t, address, url.Values{"paths": {"relative"}}); got.Code != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", address, got.Code)
		}
	}
}

func TestReadingChangesNothing(t *testing.T) {
	w := rich()
	w.refuse = job.Fail(job.Internal, "an action was called")
	before := len(w.jobs)
	for _, address := range append(addresses(), "/hosts/web1/backup", "/repositories/nas/run", "/jobs/"+string(failedBackup)+"/retry") {
		if page := w.get(t, address).Body.String(); strings.Contains(page, "an action was called") {
			t.Errorf("reading %s calls an action", address)
		}
	}
	if len(w.jobs) != before || len(w.submitted) != 0 {
		t.Error("reading has submitted a job")
	}
	for _, address := range []string{"/", "/hosts", "/hosts/web1", "/jobs/" + string(goodBackup), "/nowhere"} {
		if got := w.post(t, address, nil); got.Code != http.StatusMethodNotAllowed || got.Header().Get("Allow") == "" {
			t.Errorf("POST %s: status %d, want 405", address, got.Code)
		}
	}
}

func TestSubmitBackup(t *testing.T) {
	w := rich()
	got := w.post(t, "/hosts/web1/backup", url.Values{
		"key": {"page-1"}, "repository": {"web1-main"}, "paths": {"/etc\r\n\r\n  /srv/my data \r\n"}, "exclude": {"*.tmp\r\n"}, "compression": {"zstd,3"}, "list_files": {"1"},
	})
	if got.Code != http.StatusSeeOther || !strings.HasPrefix(got.Header().Get("Location"), "/jobs/01") {
		t.Fatalf("status %d to %q, want 303 to the job", got.Code, got.Header().Get("Location"))
	}
	want := job.Request{Host: "web1", Kind: job.Backup, Repository: "web1-main", IdempotencyKey: "page-1"}
	want.Spec, _ = json.Marshal(job.BackupSpec{Paths: []string{"/etc", "/srv/my data"}, Exclude: []string{"*.tmp"}, Compression: "zstd,3", ListFiles: true})
	if diff := cmp.Diff([]job.Request{want}, w.submitted); diff != "" {
		t.Errorf("submitted (-want +got):\n%s", diff)
	}
}

func TestRefusedBackupKeepsWhatWasTyped(t *testing.T) {
	form := url.Values{"key": {"page-1"}, "repository": {"web1-main"}, "paths": {"etc\n/srv/<b>"}, "exclude": {"*.tmp"}, "compression": {"zstd,99"}}
	got := rich().post(t, "/hosts/web1/backup", form)
	page := got.Body.String()
	checkMarkup(t, "form", page)
	if got.Code != http.StatusUnprocessableEntity {
		t.Errorf("status %d, want 422", got.Code)
	}
	for _, want := range []string{
		"Nothing was submitted.", "&#34;etc&#34; is relative", "is not a compression", `value="page-1"`, ">etc\n/srv/&lt;b&gt;</textarea>", ">*.tmp</textarea>",
		`<option value="zstd,99" selected>`, `<option value="web1-main" selected>`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the form lacks %q", want)
		}
	}
	if n := strings.Count(page, `class="fault"`); n != 2 {
		t.Errorf("%d fields say what is wrong with them, want 2", n)
	}
}

func TestRefusedByTheService(t *testing.T) {
	w := rich()
	w.refuse = job.Fail(job.Unavailable, "too many jobs wait")
	for address, form := range map[string]url.Values{
		"/hosts/web1/backup":    {"repository": {"nas"}, "paths": {"/etc"}},
		"/repositories/nas/run": {"kind": {"check"}, "host": {"db1"}},
	} {
		got := w.post(t, address, form)
		if got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "too many jobs wait") {
			t.Errorf("%s: status %d, want 503 with the reason", address, got.Code)
		}
	}
}

func TestRunOnRepository(t *testing.T) {
	w := rich()
	got := w.post(t, "/repositories/nas/run", url.Values{"key": {"k"}, "kind": {"check"}, "host": {"db1"}})
	want := []job.Request{{Host: "db1", Kind: job.Check, Repository: "nas", IdempotencyKey: "k"}}
	if diff := cmp.Diff(want, w.submitted); got.Code != http.StatusSeeOther || diff != "" {
		t.Errorf("status %d, submitted (-want +got):\n%s", got.Code, diff)
	}
	got = w.post(t, "/repositories/nas/run", url.Values{"kind": {"explode"}, "host": {"db1"}})
	if page := got.Body.String(); got.Code != http.StatusUnprocessableEntity || !strings.Contains(page, "there is no job kind") || !strings.Contains(page, `<option value="db1" selected>`) {
		t.Errorf("unknown kind: status %d, want 422 with the form as it was sent", got.Code)
	}
}

func TestHugeForm(t *testing.T) {
	got := rich().post(t, "/hosts/web1/backup", url.Values{"paths": {strings.Repeat("/etc\n", 1<<20)}})
	if got.Code != http.StatusRequestEntityTooLarge || !strings.Contains(got.Body.String(), "too_large") {
		t.Errorf("status %d, want 413", got.Code)
	}
}

package httpapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
)

// request is one of an admin, from this machine.
func request(method, path, body string) *http.Request {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, "http://127.0.0.1:8440"+path, reader)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.RemoteAddr = "127.0.0.1:40000"
	return r
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatalf("decode %q: %v", data, err)
	}
	return value
}

const backupBody = `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc","/var/www"],"exclude":["*.log"],"compression":"zstd,3"},"plan":"web1-daily","max_attempts":2,"priority":7}`

func TestSubmitAnswersWithTheJobOfTheContract(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	answer := s.do(request("POST", "/api/v1/jobs", backupBody))
	if answer.Code != http.StatusCreated {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	got := decode[map[string]any](t, answer.Body.Bytes())
	id, _ := got["id"].(string)
	if location := answer.Header().Get("Location"); location != "/api/v1/jobs/"+id {
		t.Errorf("Location %q of job %q", location, id)
	}
	at, _ := got["submitted_at"].(string)
	want := map[string]any{
		"id": id, "kind": "backup", "host": "web1", "repository": "main", "plan": "web1-daily",
		"state": "queued", "reason": "", "attempt": 0.0, "max_attempts": 2.0, "priority": 7.0, "retry_at": nil, "expires_at": nil, "timeout": 0.0,
		"submitted_by": "operator:local", "submitted_at": at, "started_at": nil, "finished_at": nil,
		"spec":     map[string]any{"paths": []any{"/etc", "/var/www"}, "exclude": []any{"*.log"}, "compression": "zstd,3"},
		"progress": nil, "result": nil, "failure": nil, "cancel_requested": false, "attempts": []any{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	again := s.do(request("GET", "/api/v1/jobs/"+id, ""))
	if diff := cmp.Diff(answer.Body.String(), again.Body.String()); diff != "" {
		t.Errorf("GET differs from what POST answered:\n%s", diff)
	}
}

func TestIdempotencyKey(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	with := func(body, key string) *httptest.ResponseRecorder {
		r := request("POST", "/api/v1/jobs", body)
		r.Header.Set("Idempotency-Key", key)
		return s.do(r)
	}
	inBody := strings.Replace(backupBody, "{", `{"idempotency_key":"k1",`, 1)
	first := decode[job.Job](t, s.do(request("POST", "/api/v1/jobs", inBody)).Body.Bytes())
	second := decode[job.Job](t, with(backupBody, "k1").Body.Bytes())
	if first.ID == "" || first.ID != second.ID {
		t.Errorf("the key in the body gave job %q, the same key in the header %q", first.ID, second.ID)
	}
	if answer := with(inBody, "k2"); answer.Code != http.StatusBadRequest {
		t.Errorf("two different keys: status %d, want 400", answer.Code)
	}
}

func TestBadInput(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	id := string(decode[job.Job](t, s.do(request("POST", "/api/v1/jobs", backupBody)).Body.Bytes()).ID)
	huge := `{"host":"` + strings.Repeat("x", 10<<20) + `"}`
	tests := map[string]struct {
		method, path, body string
		status             int
		code               job.Code
		detail             string
	}{
		"malformed JSON":           {"POST", "/api/v1/jobs", `{"host":`, 400, job.InvalidRequest, "malformed JSON at byte 8"},
		"two values":               {"POST", "/api/v1/jobs", `{} {}`, 400, job.InvalidRequest, "malformed JSON"},
		"not an object":            {"POST", "/api/v1/jobs", `[1]`, 400, job.InvalidRequest, "body: expected object"},
		"null":                     {"POST", "/api/v1/jobs", `null`, 400, job.InvalidRequest, "body: expected object"},
		"no body":                  {"POST", "/api/v1/jobs", "", 400, job.InvalidRequest, "body is required"},
		"unknown field":            {"POST", "/api/v1/jobs", `{"hsot":"web1"}`, 400, job.InvalidRequest, "body.hsot: unexpected property"},
		"field in other case":      {"POST", "/api/v1/jobs", `{"Host":"web1"}`, 400, job.InvalidRequest, "body.Host: unexpected property"},
		"wrong type":               {"POST", "/api/v1/jobs", `{"max_attempts":"many"}`, 400, job.InvalidRequest, "body.max_attempts: expected integer"},
		"out of range":             {"POST", "/api/v1/jobs", `{"max_attempts":11}`, 400, job.InvalidRequest, "body.max_attempts: expected number <= 10"},
		"10 MB":                    {"POST", "/api/v1/jobs", huge, 413, job.TooLarge, "larger than 1048576 bytes"},
		"unknown kind":             {"POST", "/api/v1/jobs", `{"host":"web1","kind":"bakup","repository":"main"}`, 422, job.UnknownKind, "bakup"},
		"unknown field of a spec":  {"POST", "/api/v1/jobs", `{"host":"web1","kind":"backup","repository":"main","spec":{"path":["/etc"]}}`, 422, job.InvalidSpec, `unknown field "path"`},
		"relative path":            {"POST", "/api/v1/jobs", `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":["etc"]}}`, 422, job.InvalidSpec, "relative"},
		"empty path list":          {"POST", "/api/v1/jobs", `{"host":"web1","kind":"backup","repository":"main","spec":{"paths":[]}}`, 422, job.InvalidSpec, "empty"},
		"unknown host":             {"POST", "/api/v1/jobs", `{"host":"web9","kind":"info","repository":"main"}`, 404, job.UnknownHost, "web9"},
		"unknown repository":       {"POST", "/api/v1/jobs", `{"host":"web1","kind":"info","repository":"other"}`, 404, job.UnknownRepository, "other"},
		"bad job id":               {"GET", "/api/v1/jobs/42", "", 400, job.InvalidRequest, "path.id: expected string to be a job id"},
		"lower-case job id":        {"GET", "/api/v1/jobs/" + strings.ToLower(id), "", 400, job.InvalidRequest, "path.id"},
		"unknown job":              {"GET", "/api/v1/jobs/01JD9X7Q2M4T6W8Y0ABCDEFGHJ", "", 404, job.UnknownJob, "01JD9X7Q2M4T6W8Y0ABCDEFGHJ"},
		"unknown state":            {"GET", "/api/v1/jobs?state=done", "", 400, job.InvalidRequest, "query.state: expected value to be one of"},
		"jobs of an unknown kind":  {"GET", "/api/v1/jobs?kind=copy", "", 400, job.InvalidRequest, "query.kind: expected value to be one of"},
		"unknown query parameter":  {"GET", "/api/v1/jobs?colour=red", "", 400, job.InvalidRequest, "query.colour: unknown query parameter"},
		"bad limit":                {"GET", "/api/v1/jobs?limit=501", "", 400, job.InvalidRequest, "query.limit: expected number <= 500"},
		"limit of zero":            {"GET", "/api/v1/jobs?limit=0", "", 400, job.InvalidRequest, "query.limit: expected number >= 1"},
		"bad time":                 {"GET", "/api/v1/jobs?since=yesterday", "", 400, job.InvalidRequest, "query.since: "},
		"bad cursor":               {"GET", "/api/v1/jobs?cursor=x", "", 400, job.InvalidRequest, "cursor: \"x\" did not come from a list"},
		"negative after":           {"GET", "/api/v1/jobs/" + id + "/log?after=-1", "", 400, job.InvalidRequest, "query.after: expected number >= 0"},
		"bad host name":            {"GET", "/api/v1/hosts/Web_1", "", 400, job.InvalidRequest, "path.host: expected string to be a host name"},
		"new host with a bad name": {"POST", "/api/v1/hosts", `{"name":"a.b"}`, 400, job.InvalidRequest, "body.name: expected string to be a host name"},
		"new host without a name":  {"POST", "/api/v1/hosts", `{}`, 400, job.InvalidRequest, "expected required property name"},
		"taken host name":          {"POST", "/api/v1/hosts", `{"name":"web1"}`, 409, job.Conflict, "already"},
		"bad repository location":  {"POST", "/api/v1/repositories", `{"name":"r","location":"relative"}`, 400, job.InvalidRequest, "location"},
		"bad encryption":           {"POST", "/api/v1/repositories", `{"name":"r","location":"/r","encryption":"rot13"}`, 400, job.InvalidRequest, "body.encryption: expected value to be one of"},
		"remove unknown host":      {"DELETE", "/api/v1/hosts/web9", "", 404, job.UnknownHost, "web9"},
		"cancel unknown job":       {"POST", "/api/v1/jobs/01JD9X7Q2M4T6W8Y0ABCDEFGHJ/cancel", "", 404, job.UnknownJob, "01JD"},
		"retry of an open job":     {"POST", "/api/v1/jobs/" + id + "/retry", "", 409, job.Conflict, "not over"},
		"events of unknown job":    {"GET", "/api/v1/events?job=01JD9X7Q2M4T6W8Y0ABCDEFGHJ", "", 404, job.UnknownJob, "01JD"},
		"events of unknown host":   {"GET", "/api/v1/events?host=web9", "", 404, job.UnknownHost, "web9"},
		"unknown route":            {"GET", "/api/v1/nothing", "", 404, job.InvalidRequest, "nothing at this address"},
		"unknown version":          {"GET", "/api/v2/jobs", "", 404, job.InvalidRequest, "nothing at this address"},
		"wrong method":             {"PUT", "/api/v1/jobs", `{}`, 405, job.InvalidRequest, "does not take this method"},
		"wrong method for health":  {"POST", "/healthz", "", 405, job.InvalidRequest, "does not take this method"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := s.do(request(test.method, test.path, test.body))
			checkProblem(t, answer, test.status, test.code)
			if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); !strings.Contains(problem.Detail, test.detail) {
				t.Errorf("detail %q does not say %q", problem.Detail, test.detail)
			}
		})
	}
	if len(s.jobs) != 1 || len(s.hosts) != 1 || len(s.repositories) != 1 {
		t.Errorf("bad input changed something: %d jobs, %d hosts, %d repositories", len(s.jobs), len(s.hosts), len(s.repositories))
	}
}

func checkProblem(t *testing.T, answer *httptest.ResponseRecorder, status int, code job.Code) {
	t.Helper()
	if answer.Code != status {
		t.Fatalf("status %d, want %d: %s", answer.Code, status, answer.Body)
	}
	if got := answer.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	problem := decode[httpapi.Problem](t, answer.Body.Bytes())
	if problem.Code != code || problem.Status != status || problem.Title != http.StatusText(status) || problem.Detail == "" || problem.Type != "about:blank" {
		t.Errorf("problem %+v, want code %s", problem, code)
	}
}

func TestBodyOfAnotherType(t *testing.T) {
	s := serve(t, nil)
	r := request("POST", "/api/v1/hosts", `{"name":"web1"}`)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // what curl -d says
	answer := s.do(r)
	checkProblem(t, answer, http.StatusUnsupportedMediaType, job.InvalidRequest)
	if problem := decode[httpapi.Problem](t, answer.Body.Bytes()); !strings.Contains(problem.Hint, "Content-Type: application/json") {
		t.Errorf("hint %q", problem.Hint)
	}
	r = request("POST", "/api/v1/hosts", `{"name":"web1"}`)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	if answer := s.do(r); answer.Code != http.StatusCreated {
		t.Errorf("with a charset: %d", answer.Code)
	}
}

func TestAllFaultsAreListed(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/jobs", `{"max_attempts":-1,"priority":"high","x":1}`))
	problem := decode[httpapi.Problem](t, answer.Body.Bytes())
	got := map[string]string{}
	for _, fault := range problem.Errors {
		got[fault.Location] = fault.Message
	}
	want := map[string]string{"body.max_attempts": "expected number >= 0", "body.priority": "expected integer", "body.x": "unexpected property"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestWrongMethodSaysWhichAreRight(t *testing.T) {
	s := serve(t, nil)
	for path, want := range map[string]string{"/api/v1/jobs": "GET, POST", "/api/v1/hosts/web1": "GET, PATCH, DELETE", "/healthz": "GET", "/metrics": "GET", "/api/v1/events": "GET"} {
		answer := s.do(request("PUT", path, ""))
		if got := answer.Header().Get("Allow"); answer.Code != 405 || got != want {
			t.Errorf("PUT %s: status %d, Allow %q, want %q", path, answer.Code, got, want)
		}
	}
}

func TestPassphraseIsNeverShown(t *testing.T) {
	s := serve(t, nil)
	const phrase = "hunter2-not-to-be-seen"
	var seen bytes.Buffer
	bodies := map[string]string{
		"good":             `{"name":"good","location":"/r","passphrase":"` + phrase + `"}`,
		"wrong type":       `{"name":"r","location":7,"passphrase":"` + phrase + `"}`,
		"unknown field":    `{"name":"r","location":"/r","passphrase":"` + phrase + `","x":1}`,
		"wrong passphrase": `{"name":"r","location":"/r","passphrase":["` + phrase + `"]}`,
		"malformed":        `{"name":"r","passphrase":"` + phrase + `"`,
	}
	for name, body := range bodies {
		answer := s.do(request("POST", "/api/v1/repositories", body))
		if (name == "good") != (answer.Code == http.StatusCreated) {
			t.Errorf("%s: status %d: %s", name, answer.Code, answer.Body)
		}
		seen.Write(answer.Body.Bytes())
	}
	seen.Write(s.do(request("GET", "/api/v1/repositories", "")).Body.Bytes())
	if strings.Contains(seen.String(), phrase) {
		t.Errorf("the passphrase was shown: %s", &seen)
	}
	if got := string(s.passphrases["good"].Reveal()); got != phrase {
		t.Errorf("stored passphrase %q", got)
	}
}

func TestGeneratedPassphraseIsToldOnce(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/repositories", `{"name":"main","location":"/r","generate_passphrase":true}`))
	if got := decode[map[string]any](t, answer.Body.Bytes()); got["generated_passphrase"] != "made-for-you" || got["has_passphrase"] != true || got["name"] != "main" {
		t.Errorf("answer %v", got)
	}
	if location := answer.Header().Get("Location"); location != "/api/v1/repositories/main" {
		t.Errorf("Location %q", location)
	}
	if again := s.do(request("GET", "/api/v1/repositories/main", "")); strings.Contains(again.Body.String(), "made-for-you") {
		t.Errorf("told again: %s", again.Body)
	}
}

func TestInternalErrorIsAProblem(t *testing.T) {
	s := serve(t, nil)
	s.fail = errors.New("write store: disk full")
	for _, path := range []string{"/status", "/jobs", "/hosts", "/repositories", "/events"} {
		checkProblem(t, s.do(request("GET", "/api/v1"+path, "")), http.StatusInternalServerError, job.Internal)
	}
}

func TestListsArePaged(t *testing.T) {
	s := serve(t, nil)
	for _, name := range []string{"c", "a", "b", "e", "d"} {
		s.put(name, name)
	}
	type page struct {
		Hosts        []struct{ Name string }
		Repositories []struct{ Name string }
		Cursor       string
	}
	for _, what := range []string{"hosts", "repositories"} {
		var names []string
		for cursor, rounds := "", 0; rounds == 0 || cursor != ""; rounds++ {
			answer := s.do(request("GET", "/api/v1/"+what+"?limit=2&cursor="+cursor, ""))
			got := decode[page](t, answer.Body.Bytes())
			for _, item := range append(got.Hosts, got.Repositories...) {
				names = append(names, item.Name)
			}
			cursor = got.Cursor
		}
		if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	if got := s.do(request("GET", "/api/v1/jobs", "")).Body.String(); got != "{\"jobs\":[],\"cursor\":\"\"}\n" {
		t.Errorf("no jobs: %s", got)
	}
}

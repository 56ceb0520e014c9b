package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
)

type object = map[string]any

func at(value any, path ...string) any {
	for _, key := range path {
		within, _ := value.(object)
		value = within[key]
	}
	return value
}

func readDocument(t *testing.T, s *served) object {
	t.Helper()
	answer := s.do(request("GET", "/api/v1/openapi.json", ""))
	if answer.Code != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	return decode[object](t, answer.Body.Bytes())
}

// operations calls f for every operation of the document.
func operations(document object, f func(name string, op object)) {
	for path, methods := range at(document, "paths").(object) {
		for method, op := range methods.(object) {
			f(strings.ToUpper(method)+" "+path, op.(object))
		}
	}
}

func TestDocumentListsTheOperations(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	if got := at(document, "openapi"); got != "3.1.0" {
		t.Errorf("openapi %v", got)
	}
	if got := at(document["servers"].([]any)[0], "url"); got != "/api/v1" {
		t.Errorf("server %v", got)
	}
	var got []string
	ids := map[any]bool{}
	operations(document, func(name string, op object) {
		got = append(got, name)
		ids[op["operationId"]] = true
	})
	slices.Sort(got)
	want := []string{
		"DELETE /enrolment-tokens/{id}", "DELETE /hosts/{host}", "DELETE /nats-credentials/{name}", "DELETE /repositories/{repo}",
		"DELETE /tokens/{id}", "DELETE /users/{user}",
		"GET /audit", "GET /audit/verify", "GET /enrolment-tokens", "GET /events", "GET /hosts", "GET /hosts/{host}",
		"GET /jobs", "GET /jobs/{id}", "GET /jobs/{id}/log", "GET /nats-credentials", "GET /repositories", "GET /repositories/{repo}",
		"GET /status", "GET /tokens", "GET /users", "GET /whoami",
		"PATCH /repositories/{repo}", "PATCH /users/{user}",
		"GET /repositories/{repo}/archives", "GET /repositories/{repo}/archives/{archive}", "GET /repositories/{repo}/archives/{archive}/files",
		"GET /repositories/{repo}/archives/{archive}/diff/{other}", "GET /repositories/{repo}/archives/{archive}/download",
		"GET /repositories/{repo}/history", "GET /find", "POST /hosts/{host}/verify",
		"DELETE /backups/borg/archives/{archive_name}", "GET /backups/borg/archives", "GET /backups/borg/info",
		"POST /backups/borg/check", "POST /backups/borg/compact", "POST /backups/borg/create", "POST /backups/borg/extract/{archive_name}",
		"POST /backups/borg/init", "POST /backups/borg/mount", "POST /backups/borg/prune", "POST /backups/borg/umount",
		"POST /enrolment-tokens", "POST /hosts", "POST /jobs", "POST /jobs/{id}/cancel", "POST /jobs/{id}/retry", "POST /login", "POST /logout",
		"POST /ssh/scan", "GET /ssh/key", "PATCH /hosts/{host}", "POST /hosts/{host}/convert", "GET /depot",
		"PUT /repositories/{repo}/hosts/{host}", "DELETE /repositories/{repo}/hosts/{host}", "GET /repositories/{repo}/transactions",
		"POST /repositories/{repo}/unfreeze", "POST /repositories/{repo}/rollback",
		"POST /apply", "GET /export", "GET /plans", "POST /plans", "GET /plans/{plan}", "PUT /plans/{plan}", "DELETE /plans/{plan}", "POST /plans/{plan}/run",
		"POST /plans/{plan}/pause", "POST /plans/{plan}/resume", "POST /plans/{plan}/accept", "POST /plans/{plan}/restore-test",
		"GET /plans/{plan}/runs", "GET /runs", "GET /runs/{id}", "POST /runs/{id}/cancel", "GET /freshness", "GET /calendar",
		"GET /alerts", "GET /alerts/{id}", "GET /silences", "POST /silences", "DELETE /silences/{id}",
		"GET /targets", "GET /targets/{name}", "PUT /targets/{name}", "DELETE /targets/{name}", "POST /targets/{name}/test", "GET /deliveries",
		"GET /rules", "GET /rules/{name}", "PUT /rules/{name}", "DELETE /rules/{name}",
		"POST /nats-credentials", "POST /password", "POST /repositories", "POST /state", "POST /tokens", "POST /users", "POST /users/{user}/link",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if len(ids) != len(want) {
		t.Errorf("operation ids are not unique: %v", ids)
	}
}

func TestEveryOperationIsDocumented(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	operations(document, func(name string, op object) {
		if summary, _ := op["summary"].(string); summary == "" {
			t.Errorf("%s has no summary", name)
		}
		if tags, _ := op["tags"].([]any); len(tags) != 1 {
			t.Errorf("%s has tags %v", name, op["tags"])
		}
		for _, parameter := range asList(op["parameters"]) {
			if text, _ := at(parameter, "description").(string); text == "" {
				t.Errorf("%s: parameter %v has no description", name, at(parameter, "name"))
			}
		}
		for status, response := range op["responses"].(object) {
			content, _ := at(response, "content").(object)
			if status == "204" {
				continue
			}
			for kind, body := range content {
				example, examples := at(body, "example"), at(body, "examples")
				if example == nil && examples == nil {
					t.Errorf("%s: answer %s has no example", name, status)
				}
				if isError := status >= "400"; isError != (kind == "application/problem+json") {
					t.Errorf("%s: answer %s is %s", name, status, kind)
				}
			}
			if len(content) == 0 {
				t.Errorf("%s: answer %s has no content", name, status)
			}
		}
		for _, status := range []string{"400", "401", "403", "500", "503"} {
			if at(op, "responses", status) == nil {
				t.Errorf("%s does not document %s", name, status)
			}
		}
		if op["requestBody"] == nil {
			return
		}
		if at(op, "requestBody", "content", "application/json", "example") == nil {
			t.Errorf("%s: body without example", name)
		}
		for _, status := range []string{"408", "413", "415"} {
			if at(op, "responses", status) == nil {
				t.Errorf("%s does not document %s", name, status)
			}
		}
	})
}

func asList(value any) []any {
	items, _ := value.([]any)
	return items
}

func TestEveryFieldIsDescribed(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	used := map[string]bool{}
	for name, schema := range at(document, "components", "schemas").(object) {
		properties, _ := at(schema, "properties").(object) // a spec may have none
		for field, property := range properties {
			text, _ := at(property, "description").(string)
			if text == "" {
				t.Errorf("%s.%s has no description: add it to texts", name, field)
			}
			used[name+"."+field], used[field] = true, true
		}
	}
	for key := range httpapi.Texts() {
		if !used[key] {
			t.Errorf("%s is described, but there is no such field", key)
		}
	}
}

// TestExamplesFitTheirSchemas also proves that the examples' Go values, which
// are encoded as answers are, fit what the document promises.
func TestExamplesFitTheirSchemas(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	checked := 0
	operations(document, func(name string, op object) {
		bodies := []any{op["requestBody"]}
		for _, response := range op["responses"].(object) {
			bodies = append(bodies, response)
		}
		for _, body := range bodies {
			content, _ := at(body, "content").(object)
			for kind, media := range content {
				if kind == "text/event-stream" {
					continue
				}
				examples := []any{at(media, "example")}
				if named, ok := at(media, "examples").(object); ok {
					examples = nil
					for _, example := range named {
						examples = append(examples, at(example, "value"))
					}
				}
				for _, example := range examples {
					checked++
					for _, fault := range conforms(document, at(media, "schema"), example, "") {
						t.Errorf("%s: example%s", name, fault)
					}
				}
			}
		}
	})
	if checked < 60 {
		t.Errorf("only %d examples", checked)
	}
}

func TestAnswersFitTheirSchemas(t *testing.T) {
	s := serve(t, nil)
	s.put("web1", "main")
	s.putDepot("kept")
	document := readDocument(t, s)
	id := string(decode[job.Job](t, s.do(request("POST", "/api/v1/jobs", backupBody)).Body.Bytes()).ID)
	for _, call := range []struct{ method, path, route, body string }{
		{"GET", "/status", "/status", ""},
		{"GET", "/hosts", "/hosts", ""},
		{"GET", "/hosts/web1", "/hosts/{host}", ""},
		{"POST", "/hosts", "/hosts", `{"name":"web2"}`},
		{"GET", "/repositories", "/repositories", ""},
		{"GET", "/repositories/main", "/repositories/{repo}", ""},
		{"POST", "/repositories", "/repositories", `{"name":"r2","location":"/r2","generate_passphrase":true}`},
		{"GET", "/jobs", "/jobs", ""},
		{"GET", "/jobs/" + id, "/jobs/{id}", ""},
		{"GET", "/jobs/" + id + "/log", "/jobs/{id}/log", ""},
		{"POST", "/jobs/" + id + "/cancel", "/jobs/{id}/cancel", ""},
		{"POST", "/jobs/" + id + "/retry", "/jobs/{id}/retry", ""},
		{"PATCH", "/repositories/main", "/repositories/{repo}", sealBody},
		{"POST", "/users", "/users", `{"name":"bob","role":"viewer"}`},
		{"GET", "/users", "/users", ""},
		{"PATCH", "/users/bob", "/users/{user}", `{"role":"operator"}`},
		{"POST", "/users/bob/link", "/users/{user}/link", ""},
		{"POST", "/tokens", "/tokens", `{"name":"ci","role":"viewer"}`},
		{"GET", "/tokens", "/tokens", ""},
		{"POST", "/nats-credentials", "/nats-credentials", `{"name":"ci","role":"viewer"}`},
		{"GET", "/nats-credentials", "/nats-credentials", ""},
		{"POST", "/enrolment-tokens", "/enrolment-tokens", `{"host":"web3"}`},
		{"GET", "/enrolment-tokens", "/enrolment-tokens", ""},
		{"POST", "/login", "/login", `{"name":"alice","password":"correct horse"}`},
		{"GET", "/whoami", "/whoami", ""},
		{"GET", "/audit", "/audit", ""},
		{"GET", "/audit/verify", "/audit/verify", ""},
		{"POST", "/hosts", "/hosts", `{"name":"legacy","ssh":{"address":"root@legacy","host_keys":["` + hostKey + `"],"jump":[{"address":"me@gate","host_keys":["` + hostKey + `"]}]}}`},
		{"PATCH", "/hosts/legacy", "/hosts/{host}", `{"disabled":true,"reach":"tunnel"}`},
		{"POST", "/hosts/legacy/convert", "/hosts/{host}/convert", ""},
		{"POST", "/ssh/scan", "/ssh/scan", `{"address":"root@legacy"}`},
		{"GET", "/ssh/key", "/ssh/key", ""},
		{"GET", "/depot", "/depot", ""},
		{"GET", "/repositories/kept", "/repositories/{repo}", ""},
		{"GET", "/repositories/kept/transactions", "/repositories/{repo}/transactions", ""},
		{"PUT", "/repositories/kept/hosts/web1", "/repositories/{repo}/hosts/{host}", ""},
		{"DELETE", "/repositories/kept/hosts/*", "/repositories/{repo}/hosts/{host}", ""},
		{"POST", "/repositories/kept/unfreeze", "/repositories/{repo}/unfreeze", `{"reason":"it is right"}`},
		{"POST", "/repositories/kept/rollback", "/repositories/{repo}/rollback", `{"transaction":41,"reason":"broken into"}`},
		{"POST", "/plans", "/plans", planBody},
		{"GET", "/plans", "/plans", ""},
		{"GET", "/plans/daily", "/plans/{plan}", ""},
		{"PUT", "/plans/daily", "/plans/{plan}", `{"content_from":"dump","repositories":["main"]}`},
		{"POST", "/plans/daily/pause", "/plans/{plan}/pause", `{"reason":"moved"}`},
		{"POST", "/plans/daily/resume", "/plans/{plan}/resume", ""},
		{"POST", "/plans/daily/run", "/plans/{plan}/run", `{"hosts":["web1"]}`},
		{"POST", "/plans/daily/accept", "/plans/{plan}/accept", `{"host":"web1","repository":"main"}`},
		{"POST", "/plans/daily/restore-test", "/plans/{plan}/restore-test", `{"host":"web1","repository":"main"}`},
		{"POST", "/jobs", "/jobs", `{"plan":"daily"}`},
		{"GET", "/plans/daily/runs", "/plans/{plan}/runs", ""},
		{"GET", "/runs", "/runs", ""},
		{"GET", "/runs/" + runID, "/runs/{id}", ""},
		{"POST", "/runs/" + runID + "/cancel", "/runs/{id}/cancel", ""},
		{"GET", "/freshness", "/freshness", ""},
		{"GET", "/calendar", "/calendar", ""},
		{"GET", "/alerts", "/alerts", ""},
		{"GET", "/alerts/" + alertID, "/alerts/{id}", ""},
		{"POST", "/silences", "/silences", `{"host":"web1","until":"2027-01-01T00:00:00Z"}`},
		{"GET", "/silences", "/silences", ""},
		{"PUT", "/targets/ops", "/targets/{name}", `{"url":"ntfy://x/y"}`},
		{"GET", "/targets", "/targets", ""},
		{"GET", "/targets/ops", "/targets/{name}", ""},
		{"POST", "/targets/ops/test", "/targets/{name}/test", ""},
		{"PUT", "/rules/web", "/rules/{name}", `{"severity":"warning","targets":["ops"]}`},
		{"GET", "/rules", "/rules", ""},
		{"GET", "/rules/web", "/rules/{name}", ""},
		{"GET", "/deliveries", "/deliveries", ""},
		{"POST", "/apply", "/apply", `{"manifest":"hosts: {}","dry_run":true}`},
		{"GET", "/export", "/export", ""},
		{"GET", "/jobs/nope", "/jobs/{id}", ""},
		{"POST", "/jobs", "/jobs", `{"x":1}`},
	} {
		answer := s.do(request(call.method, "/api/v1"+call.path, call.body))
		media := strings.Split(answer.Header().Get("Content-Type"), ";")[0]
		if bad := call.path == "/jobs/nope" || call.body == `{"x":1}`; bad != (answer.Code >= 300) {
			t.Errorf("%s %s: status %d: %s", call.method, call.path, answer.Code, answer.Body)
		}
		schema := at(document, "paths", call.route, strings.ToLower(call.method), "responses", fmt.Sprint(answer.Code), "content", media, "schema")
		if schema == nil {
			t.Errorf("%s %s: answer %d %s is not documented", call.method, call.path, answer.Code, media)
			continue
		}
		for _, fault := range conforms(document, schema, decode[any](t, answer.Body.Bytes()), "") {
			t.Errorf("%s %s%s", call.method, call.path, fault)
		}
	}
}

func TestDocsPageShowsEveryOperation(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("GET", "/api/v1/docs", ""))
	page := answer.Body.String()
	if answer.Code != http.StatusOK || !strings.HasPrefix(answer.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("status %d, %s", answer.Code, answer.Header().Get("Content-Type"))
	}
	operations(readDocument(t, s), func(name string, op object) {
		if !strings.Contains(page, fmt.Sprintf(`<article id=%q>`, op["operationId"])) {
			t.Errorf("%s is not on the page", name)
		}
	})
	for _, outside := range []string{"<script", `="http:`, `="https:`, `="//`, "<style", " style="} {
		if strings.Contains(page, outside) {
			t.Errorf("the page contains %q", outside)
		}
	}
	if style := s.do(request("GET", "/api/v1/docs.css", "")); style.Code != http.StatusOK || style.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("style: %d %s", style.Code, style.Header().Get("Content-Type"))
	}
}

func TestDocumentHasNoDanglingReferences(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case object:
			if ref, ok := v["$ref"].(string); ok && resolve(document, ref) == nil {
				t.Errorf("%s leads nowhere", ref)
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(document)
}

func TestEventSchemaNamesEveryType(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	data, err := json.Marshal(at(document, "paths", "/events", "get", "responses", "200", "content", "text/event-stream", "schema"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"snapshot", "job", "progress", "event", "host", "repository", "plan", "alert", "missed"} {
		if !strings.Contains(string(data), fmt.Sprintf(`{"const":%q`, name)) {
			t.Errorf("event %q is not documented", name)
		}
	}
}

package httpapi_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// TestSubmissionHasTheFieldsOfTheBus holds that a submission over HTTP takes
// what one over the bus takes.
func TestSubmissionHasTheFieldsOfTheBus(t *testing.T) {
	names := func(of reflect.Type) (list []string) {
		for _, field := range reflect.VisibleFields(of) {
			list = append(list, field.Tag.Get("json"))
		}
		return list
	}
	if diff := cmp.Diff(names(reflect.TypeFor[job.Request]()), names(reflect.TypeFor[httpapi.SubmitJob]())); diff != "" {
		t.Errorf("fields (-bus +HTTP):\n%s", diff)
	}
}

// TestParametersAreTheContracts also holds that huma saw every parameter: it
// passes over embedded types that are not exported.
func TestParametersAreTheContracts(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	want := map[string][]string{
		"DELETE /enrolment-tokens/{id}":   {"id"},
		"DELETE /nats-credentials/{name}": {"name"},
		"DELETE /tokens/{id}":             {"id"},
		"DELETE /users/{user}":            {"user"},
		"GET /audit":                      {"action", "before", "by", "limit", "object"},
		"PATCH /repositories/{repo}":      {"repo"},
		"PATCH /users/{user}":             {"user"},
		"POST /users/{user}/link":         {"user"},
		"GET /jobs":                       {"cursor", "host", "kind", "limit", "plan", "repository", "since", "state"},
		"POST /jobs":                      {"Idempotency-Key"},
		"GET /jobs/{id}":                  {"id"},
		"GET /jobs/{id}/log":              {"after", "id"},
		"POST /jobs/{id}/cancel":          {"id"},
		"POST /jobs/{id}/retry":           {"id"},
		"GET /hosts":                      {"cursor", "limit"},
		"GET /hosts/{host}":               {"host"},
		"DELETE /hosts/{host}":            {"host"},
		"GET /repositories":               {"cursor", "limit"},
		"GET /repositories/{repo}":        {"repo"},
		"DELETE /repositories/{repo}":     {"repo"},
		"GET /events":                     {"host", "job"},

		"GET /repositories/{repo}/archives":                        {"after", "before", "cursor", "glob", "host", "limit", "prefix", "repo"},
		"GET /repositories/{repo}/archives/{archive}":              {"archive", "repo"},
		"GET /repositories/{repo}/archives/{archive}/files":        {"archive", "cursor", "limit", "path", "repo"},
		"GET /repositories/{repo}/archives/{archive}/diff/{other}": {"Prefer", "archive", "host", "other", "path", "repo"},
		"GET /repositories/{repo}/archives/{archive}/download":     {"Range", "archive", "format", "host", "offset", "path", "repo"},
		"GET /repositories/{repo}/history":                         {"path", "repo"},
		"GET /find":                                                {"archive", "cursor", "limit", "name", "repository"},
		"POST /hosts/{host}/verify":                                {"Prefer", "host"},

		"PATCH /hosts/{host}":                      {"host"},
		"POST /hosts/{host}/convert":               {"host"},
		"PUT /repositories/{repo}/hosts/{host}":    {"host", "repo"},
		"DELETE /repositories/{repo}/hosts/{host}": {"host", "repo"},
		"GET /repositories/{repo}/transactions":    {"repo"},
		"POST /repositories/{repo}/unfreeze":       {"Prefer", "repo"},
		"POST /repositories/{repo}/rollback":       {"repo"},

		"GET /plans":                      {"cursor", "limit"},
		"GET /plans/{plan}":               {"plan"},
		"PUT /plans/{plan}":               {"plan"},
		"DELETE /plans/{plan}":            {"plan"},
		"POST /plans/{plan}/run":          {"Idempotency-Key", "plan"},
		"POST /plans/{plan}/pause":        {"plan"},
		"POST /plans/{plan}/resume":       {"plan"},
		"POST /plans/{plan}/accept":       {"plan"},
		"POST /plans/{plan}/restore-test": {"plan"},
		"GET /plans/{plan}/runs":          {"cursor", "limit", "plan", "since", "state"},
		"GET /runs":                       {"cursor", "limit", "plan", "since", "state"},
		"GET /runs/{id}":                  {"id"},
		"POST /runs/{id}/cancel":          {"id"},
		"GET /freshness":                  {"cursor", "host", "limit", "plan", "repository", "state"},
		"GET /calendar":                   {"from", "to"},
		"GET /alerts":                     {"cursor", "host", "kind", "limit", "open", "plan", "repository", "severity"},
		"GET /alerts/{id}":                {"id"},
		"DELETE /silences/{id}":           {"id"},
		"GET /targets/{name}":             {"name"},
		"PUT /targets/{name}":             {"name"},
		"DELETE /targets/{name}":          {"name"},
		"POST /targets/{name}/test":       {"name"},
		"GET /deliveries":                 {"cursor", "limit", "target"},
		"GET /rules/{name}":               {"name"},
		"PUT /rules/{name}":               {"name"},
		"DELETE /rules/{name}":            {"name"},

		"POST /backups/borg/init":                      {"Prefer"},
		"POST /backups/borg/create":                    {"Prefer"},
		"GET /backups/borg/archives":                   {"Prefer", "X-Borg-Passphrase", "host", "passphrase", "prefix", "repository_path"},
		"POST /backups/borg/extract/{archive_name}":    {"Prefer", "archive_name"},
		"DELETE /backups/borg/archives/{archive_name}": {"Prefer", "X-Borg-Passphrase", "archive_name", "host", "passphrase", "repository_path"},
		"POST /backups/borg/prune":                     {"Prefer"},
		"POST /backups/borg/compact":                   {"Prefer", "X-Borg-Passphrase", "host", "passphrase", "repository_path"},
		"POST /backups/borg/check":                     {"Prefer", "X-Borg-Passphrase", "host", "passphrase", "repository_path", "verify_data"},
		"POST /backups/borg/mount":                     {"Prefer"},
		"POST /backups/borg/umount":                    {"Prefer", "host", "mount_point"},
		"GET /backups/borg/info":                       {"Prefer", "X-Borg-Passphrase", "host", "passphrase", "repository_path"},
	}
	got := map[string][]string{}
	operations(document, func(name string, op object) {
		for _, parameter := range asList(op["parameters"]) {
			got[name] = append(got[name], fmt.Sprint(at(parameter, "name")))
		}
		slices.Sort(got[name])
		if got[name] == nil {
			delete(got, name)
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
}

func TestDocumentedWordsAreTheRealOnes(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	enum := func(name string) (words []string) {
		for _, parameter := range asList(at(document, "paths", "/jobs", "get", "parameters")) {
			if at(parameter, "name") == name {
				for _, word := range asList(at(parameter, "schema", "enum")) {
					words = append(words, fmt.Sprint(word))
				}
			}
		}
		return words
	}
	if diff := cmp.Diff(texts(job.States()), enum("state")); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(texts(job.Kinds()), enum("kind")); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
	var modes, specs []string
	for _, mode := range asList(at(document, "components", "schemas", "NewRepository", "properties", "encryption", "enum")) {
		modes = append(modes, fmt.Sprint(mode))
	}
	if diff := cmp.Diff(texts(job.Encryptions()), modes); diff != "" {
		t.Errorf("encryption modes (-want +got):\n%s", diff)
	}
	for _, spec := range asList(at(document, "components", "schemas", "SubmitJob", "properties", "spec", "anyOf")) {
		specs = append(specs, strings.TrimPrefix(fmt.Sprint(at(spec, "$ref")), "#/components/schemas/"))
	}
	if diff := cmp.Diff([]string{
		"InitSpec", "BackupSpec", "ListSpec", "InfoSpec", "RestoreSpec", "DeleteSpec", "PruneSpec", "CompactSpec", "CheckSpec",
		"MountSpec", "UmountSpec", "DiffSpec", "BreakLockSpec", "VerifySpec", "KeyExportSpec", "DownloadSpec", "RestoreTestSpec",
	}, specs); diff != "" {
		t.Errorf("specs (-want +got):\n%s", diff)
	}
	if len(specs) != len(job.Kinds()) {
		t.Errorf("%d specs for %d kinds", len(specs), len(job.Kinds()))
	}
}

func texts[T ~string](words []T) (list []string) {
	for _, word := range words {
		list = append(list, string(word))
	}
	return list
}

// TestOnlyRequestsAreClosed: answers may get more fields within v1, so their
// schemas must let a client accept them.
func TestOnlyRequestsAreClosed(t *testing.T) {
	var closed []string
	for name, schema := range at(readDocument(t, serve(t, nil)), "components", "schemas").(object) {
		if at(schema, "additionalProperties") == false {
			closed = append(closed, name)
		}
	}
	slices.Sort(closed)
	want := []string{
		"BackupSpec", "BreakLockSpec", "ChangeHost", "ChangeRepository", "CheckSpec", "CompactSpec", "DeleteSpec", "DiffSpec", "DownloadSpec",
		"InfoSpec", "InitSpec", "KeyExportSpec", "ListSpec", "MountSpec",
		"NewAcceptance", "NewBorgArchive", "NewBorgExtract", "NewBorgMount", "NewBorgPrune", "NewBorgRepository", "NewCredentials", "NewDepot", "NewEnrolmentToken", "NewHost", "NewLogin", "NewManifest", "NewPassword", "NewPause", "NewPlan", "NewReason", "NewRepository", "NewRestoreTest", "NewRole", "NewRollback", "NewRule", "NewRun", "NewSSHAccess", "NewSSHHop", "NewSSHHost", "NewSSHScan", "NewSilence", "NewStateBackup", "NewTarget", "NewToken", "NewUser", "NewVerification",
		"PlanSpec", "PruneSpec", "RestoreSpec", "RestoreTestSpec", "SealedPassphrase", "SubmitJob", "UmountSpec", "VerifySpec",
	}
	if diff := cmp.Diff(want, closed); diff != "" {
		t.Errorf("closed schemas (-want +got):\n%s", diff)
	}
}

func TestDocumentedRolesAreTheRealOnes(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	for _, schema := range []string{"NewUser", "NewRole", "NewToken", "NewCredentials", "User", "APIToken", "WhoAmI"} {
		words := asList(at(document, "components", "schemas", schema, "properties", "role", "enum"))
		if diff := cmp.Diff(texts(bus.Roles()), texts(strings.Fields(strings.Trim(fmt.Sprint(words), "[]")))); diff != "" {
			t.Errorf("roles of %s (-want +got):\n%s", schema, diff)
		}
	}
}

// TestOnlyTheLoginIsOpen: every other operation wants the scheme bearer.
func TestOnlyTheLoginIsOpen(t *testing.T) {
	document := readDocument(t, serve(t, nil))
	if at(document, "components", "securitySchemes", "bearer", "scheme") != "bearer" || len(asList(document["security"])) != 1 {
		t.Errorf("no scheme bearer for all: %v", document["security"])
	}
	var open []string
	operations(document, func(name string, op object) {
		if security, ok := op["security"]; ok && len(asList(security)) == 0 {
			open = append(open, name)
		}
	})
	if diff := cmp.Diff([]string{"POST /login"}, open); diff != "" {
		t.Errorf("open operations (-want +got):\n%s", diff)
	}
}

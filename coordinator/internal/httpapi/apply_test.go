package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// manifests takes every text but one that is bad.
type manifests struct{ asked fleet.Manifest }

func (m *manifests) Apply(_ context.Context, by fleet.Actor, asked fleet.Manifest) (fleet.ManifestOutcome, error) {
	m.asked = asked
	if asked.Text == "bad" {
		return fleet.ManifestOutcome{}, &fleet.ManifestError{Faults: []fleet.ManifestFault{
			{Line: 3, Column: 5, Field: "hosts.web1.label", Message: "there is no such key", Hint: "did you mean labels?"}, {Message: "another"},
		}}
	}
	return fleet.ManifestOutcome{
		Changes: []fleet.ManifestChange{{Action: "add", Object: "host/web1"}},
		Unknown: []fleet.UnknownServer{{Host: "web1", Address: "me@web1:22", Jump: []fleet.SSHHop{{Address: "me@gate:22"}}}},
		Applied: !asked.DryRun,
	}, needs(bus.Admin, by)
}

func (*manifests) Export(context.Context) (string, error) { return "hosts: {}\n", nil }

func TestApply(t *testing.T) {
	m := &manifests{}
	s := serve(t, func(o *httpapi.Options) { o.Manifests = m })
	body := `{"manifest":"hosts: {}","secrets":{"/x":"hush"},"host_keys":{"me@web1:22":["` + hostKey + `"]},"prune":true}`
	answer := s.do(request("POST", "/api/v1/apply", body))
	outcome := decode[fleet.ManifestOutcome](t, answer.Body.Bytes())
	if answer.Code != http.StatusOK || !outcome.Applied || strings.Contains(answer.Body.String(), "null") {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	if !m.asked.Secrets["/x"].Equal(secret.FromString("hush")) || !m.asked.Prune || m.asked.DryRun || len(m.asked.HostKeys["me@web1:22"]) != 1 {
		t.Errorf("asked %+v", m.asked)
	}
	large := `{"manifest":"` + strings.Repeat("# large\\n", 1<<18) + `","dry_run":true}`
	if answer := s.do(request("POST", "/api/v1/apply", large)); answer.Code != http.StatusOK {
		t.Errorf("2 MiB: %d %.200s", answer.Code, answer.Body)
	}
}

func TestApplyTellsAllFaults(t *testing.T) {
	answer := serve(t, nil).do(request("POST", "/api/v1/apply", `{"manifest":"bad"}`))
	problem := decode[httpapi.Problem](t, answer.Body.Bytes())
	if answer.Code != http.StatusBadRequest || problem.Code != job.InvalidRequest {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	check(t, "errors", []httpapi.Fault{
		{Location: "body.manifest", Line: 3, Column: 5, Field: "hosts.web1.label", Message: "there is no such key", Hint: "did you mean labels?"},
		{Location: "body.manifest", Message: "another"},
	}, problem.Errors)
}

func TestExport(t *testing.T) {
	answer := serve(t, nil).do(request("GET", "/api/v1/export", ""))
	check(t, "text", httpapi.ManifestText{Manifest: "hosts: {}\n"}, decode[httpapi.ManifestText](t, answer.Body.Bytes()))
}

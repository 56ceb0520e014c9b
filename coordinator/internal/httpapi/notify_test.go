package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/secret"
)

func TestAlertsAreFiltered(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("GET", "/api/v1/alerts?kind=offline&severity=warning&host=web1&repository=main&plan=daily&open=true&limit=3&cursor=c", ""))
	check(t, "filter", fleet.AlertFilter{
		Kind: "offline", Severity: fleet.SeverityWarning, Host: "web1", Repository: "main", Plan: "daily", Open: true, Limit: 3, Cursor: "c",
	}, s.watch.filter)
	page := decode[fleet.AlertPage](t, answer.Body.Bytes())
	if page.Open != 1 || page.Cursor != "more" || len(page.Alerts) != 1 || !strings.Contains(answer.Body.String(), `"told":[]`) {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	if answer := s.do(request("GET", "/api/v1/alerts?severity=bad", "")); answer.Code != http.StatusBadRequest {
		t.Errorf("a severity that there is not: %d", answer.Code)
	}
}

func TestSilences(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/silences", `{"kind":"offline","host":"web1","repository":"main","plan":"daily","reason":"moved","until":"2027-01-01T00:00:00Z"}`))
	check(t, "asked", fleet.Silence{
		Kind: "offline", Host: "web1", Repository: "main", Plan: "daily", Reason: "moved", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	}, s.watch.silence)
	if answer.Code != http.StatusCreated {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	if answer := s.do(request("POST", "/api/v1/silences", `{"host":"web1"}`)); answer.Code != http.StatusBadRequest {
		t.Errorf("for ever: %d: %s", answer.Code, answer.Body)
	}
	s.do(request("DELETE", "/api/v1/silences/"+alertID, ""))
	check(t, "removed", []string{"silence " + alertID}, s.watch.removed)
}

func TestTargetsTakeSecretsAndShowNone(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("PUT", "/api/v1/targets/hook", `{"url":"https://x/TOKEN","kind":"webhook","secret":"KEY","disabled":true}`))
	asked := s.watch.target
	if !asked.URL.Equal(secret.FromString("https://x/TOKEN")) || !asked.Secret.Equal(secret.FromString("KEY")) || asked.Name != "hook" || asked.Kind != "webhook" || !asked.Disabled {
		t.Errorf("asked %+v", asked)
	}
	if answer.Code != http.StatusOK || strings.Contains(answer.Body.String(), "TOKEN") || strings.Contains(answer.Body.String(), "KEY") {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	s.do(request("PUT", "/api/v1/targets/hook", `{}`))
	if !s.watch.target.URL.Empty() || !s.watch.target.Secret.Empty() {
		t.Errorf("what was left out came as %+v", s.watch.target)
	}
	for path, status := range map[string]int{"/targets/ops": 200, "/targets/none": 404, "/rules/none": 404} {
		if answer := s.do(request("GET", "/api/v1"+path, "")); answer.Code != status {
			t.Errorf("%s: %d: %s", path, answer.Code, answer.Body)
		}
	}
	answer = s.do(request("POST", "/api/v1/targets/ops/test", ""))
	if sent := decode[fleet.Delivery](t, answer.Body.Bytes()); sent.Error != "connection refused" || sent.Target != "ops" {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	s.do(request("DELETE", "/api/v1/targets/ops", ""))
	s.do(request("DELETE", "/api/v1/rules/web", ""))
	check(t, "removed", []string{"target ops", "rule web"}, s.watch.removed)
}

func TestARuleTravelsWhole(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("PUT", "/api/v1/rules/web", `{"kinds":["overdue"],"severity":"warning","hosts":["web*"],"plans":["daily"],"labels":{"site":"fra"},"hours":"08:00-18:00","days":["mon"],"timezone":"Europe/Berlin","targets":["ops"],"group":"1m","repeat":"0s","no_resolved":true,"runs":["failure"],"disabled":true}`))
	want := fleet.Rule{
		Name: "web", Kinds: []string{"overdue"}, Severity: fleet.SeverityWarning, Hosts: []string{"web*"}, Plans: []string{"daily"},
		Labels: map[string]string{"site": "fra"}, Hours: "08:00-18:00", Days: []string{"mon"}, Timezone: "Europe/Berlin", Targets: []string{"ops"},
		Group: "1m", Repeat: "0s", NoResolved: true, Runs: []string{"failure"}, Disabled: true,
	}
	check(t, "stored", []fleet.Rule{want}, s.watch.rules)
	check(t, "answer", want, decode[fleet.Rule](t, answer.Body.Bytes()))
	if answer := s.do(request("PUT", "/api/v1/rules/web", `{"targets":[]}`)); answer.Code != http.StatusBadRequest {
		t.Errorf("a rule without targets: %d", answer.Code)
	}
}

func TestDeliveries(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("GET", "/api/v1/deliveries?target=ops&limit=3&cursor=c", ""))
	page := decode[httpapi.DeliveryPage](t, answer.Body.Bytes())
	if s.watch.deliverer != "ops" || page.Cursor != "more" || page.Deliveries[0].Tries != 3 || page.Deliveries[0].Subject != "c" {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}

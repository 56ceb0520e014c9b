package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const legacyBody = `{"name":"legacy","labels":{"site":"fra"},"ssh":{"address":"me@legacy","host_keys":["` + hostKey + `"],` +
	`"jump":[{"address":"me@gate:2222","host_keys":["` + hostKey + `"]}],"sudo":true,"borg":"/opt/borg","dir":"/var/bf","hooks":"/h","slots":3,` +
	`"reach":"tunnel","own_key":true,"key":"PRIVATE"}}`

func TestAddHostOverSSH(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/hosts", legacyBody))
	if answer.Code != http.StatusCreated || answer.Header().Get("Location") != "/api/v1/hosts/legacy" {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	asked := s.outside.asked
	if !asked.Key.Equal(secret.FromString("PRIVATE")) || strings.Contains(answer.Body.String(), "PRIVATE") {
		t.Errorf("the key was not taken in, or is shown: %s", answer.Body)
	}
	check(t, "access", fleet.SSHAccess{
		Address: "me@legacy", HostKeys: []string{hostKey}, Jump: []fleet.SSHHop{{Address: "me@gate:2222", HostKeys: []string{hostKey}}},
		OwnKey: true, Sudo: true, Borg: "/opt/borg", Dir: "/var/bf", Hooks: "/h", Slots: 3,
	}, asked.SSHAccess)
	check(t, "name, label and reach", []string{"legacy", "fra", "tunnel"}, []string{asked.Name, asked.Labels["site"], string(asked.Reach)})
	host := decode[fleet.HostView](t, answer.Body.Bytes())
	if host.Mode != fleet.ModeSSH || !host.Disabled || host.SSH.PublicKey != userKey {
		t.Errorf("host %+v", host)
	}
}

func TestChangeHost(t *testing.T) {
	down := job.Fail(job.HostUnreachable, "host legacy is not reached: connection refused")
	for name, c := range map[string]struct {
		body    string
		refuses error
		status  int
		tried   int
		changed bool
	}{
		"the way to the depot":           {`{"reach":"depot"}`, nil, 200, 0, true},
		"the address":                    {`{"ssh":{"address":"me@other","host_keys":["` + hostKey + `"]}}`, down, 200, 0, true},
		"switched off":                   {`{"disabled":true}`, down, 200, 0, true},
		"switched on":                    {`{"disabled":false}`, nil, 200, 1, true},
		"switched on, but not there":     {`{"disabled":false}`, down, down.Code.HTTPStatus(), 1, false},
		"a field that there is not":      {`{"mode":"agent"}`, nil, 400, 0, false},
		"a way that there is not":        {`{"reach":"boat"}`, nil, 400, 0, false},
		"a key for all cannot be chosen": {`{"ssh":{"address":"me@other","host_keys":["` + hostKey + `"],"own_key":false}}`, nil, 400, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, nil)
			s.put("legacy", "main")
			s.outside.refuses = c.refuses
			answer := s.do(request("PATCH", "/api/v1/hosts/legacy", c.body))
			if answer.Code != c.status || len(s.outside.tried) != c.tried {
				t.Errorf("%d after %d tries: %s", answer.Code, len(s.outside.tried), answer.Body)
			}
			if got := s.outside.changed; (got.SSH != nil || got.Reach != nil || got.Disabled != nil) != c.changed {
				t.Errorf("changed %+v", got)
			}
		})
	}
}

func TestVerifyConnectsFirst(t *testing.T) {
	s := serve(t, nil)
	s.put("legacy", "main")
	s.outside.refuses = job.Fail(job.HostKeyChanged, "host legacy shows another key").WithHint("look who it is")
	answer := s.do(request("POST", "/api/v1/hosts/legacy/verify", `{}`))
	problem := decode[httpapi.Problem](t, answer.Body.Bytes())
	if problem.Code != job.HostKeyChanged || problem.Hint != "look who it is" || len(s.jobs) != 0 {
		t.Errorf("%d jobs, %s", len(s.jobs), answer.Body)
	}
}

func TestScan(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/ssh/scan", `{"address":"me@legacy","jump":[{"address":"me@gate","host_keys":["`+hostKey+`"]}]}`))
	check(t, "keys", []fleet.ShownKey{{Address: "me@legacy", Key: hostKey, Fingerprint: "SHA256:abc"}}, decode[httpapi.ShownKeys](t, answer.Body.Bytes()).Keys)
	check(t, "asked", []fleet.SSHHop{{Address: "me@gate", HostKeys: []string{hostKey}}, {Address: "me@legacy"}}, s.outside.scanned)
	if answer := s.do(request("POST", "/api/v1/ssh/scan", `{"address":"me@legacy","jump":[{"address":"me@gate","host_keys":[]}]}`)); answer.Code != 400 {
		t.Errorf("a server on the way without a key: %d %s", answer.Code, answer.Body)
	}
}

func TestConvert(t *testing.T) {
	lost := job.Fail(job.HostUnreachable, "the agent did not say hello")
	copied := []fleet.ConvertStep{{Name: "copy", Detail: "done"}}
	for name, c := range map[string]struct {
		steps  []fleet.ConvertStep
		err    error
		status int
	}{
		"good":              {copied, nil, 200},
		"failed on the way": {copied, lost, 200},
		"refused at once":   {nil, lost, lost.Code.HTTPStatus()},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, nil)
			s.outside.steps, s.outside.unusable = c.steps, c.err
			answer := s.do(request("POST", "/api/v1/hosts/legacy/convert", ""))
			if answer.Code != c.status {
				t.Fatalf("%d: %s", answer.Code, answer.Body)
			}
			if c.status != 200 {
				return
			}
			done := decode[httpapi.Conversion](t, answer.Body.Bytes())
			check(t, "steps", c.steps, done.Steps)
			if (done.Failure != nil) != (c.err != nil) {
				t.Errorf("failure %v", done.Failure)
			}
		})
	}
}

func TestDepotCalls(t *testing.T) {
	s := serve(t, nil)
	s.putDepot("kept")
	for _, call := range [][3]string{
		{"PUT", "/hosts/web1", ""}, {"DELETE", "/hosts/*", ""}, {"POST", "/rollback", `{"transaction":41,"reason":"bad"}`},
	} {
		answer := s.do(request(call[0], "/api/v1/repositories/kept"+call[1], call[2]))
		if view := decode[fleet.RepositoryView](t, answer.Body.Bytes()); answer.Code != 200 || view.Depot == nil || view.Depot.Frozen == nil {
			t.Errorf("%v: %d %s", call, answer.Code, answer.Body)
		}
	}
	answer := s.do(request("POST", "/api/v1/repositories/kept/unfreeze", `{"reason":"bad"}`))
	if done := decode[job.Job](t, answer.Body.Bytes()); answer.Code != 200 || done.Kind != job.List || done.State != job.Succeeded {
		t.Errorf("unfreeze: %d %s", answer.Code, answer.Body)
	}
	check(t, "done", []string{"allow web1", "deny *", "rollback", "unfreeze"}, s.outside.admission)
	check(t, "rolled back to", 41, s.outside.rolled)
	check(t, "reason", "bad", s.outside.reason)
	for _, bad := range [][2]string{{"/unfreeze", `{}`}, {"/unfreeze", `{"reason":""}`}, {"/rollback", `{"reason":"x"}`}, {"/rollback", `{"transaction":-1,"reason":"x"}`}} {
		if answer := s.do(request("POST", "/api/v1/repositories/kept"+bad[0], bad[1])); answer.Code != 400 {
			t.Errorf("%v: %d %s", bad, answer.Code, answer.Body)
		}
	}
}

func TestAddRepositoryToTheDepot(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/repositories", `{"name":"kept","location":"depot","generate_passphrase":true,"depot":{"quota":5,"append_only":true,"hosts":["web1"]}}`))
	if answer.Code != http.StatusCreated {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	check(t, "asked", &fleet.Depot{Quota: 5, AppendOnly: true, Hosts: []string{"web1"}}, s.outside.depot)
}

func TestWithoutADepot(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.Depot, o.Connections = nil, nil })
	for path, method := range map[string]string{"/depot": "GET", "/ssh/scan": "POST", "/repositories/kept/unfreeze": "POST", "/repositories/kept/transactions": "GET"} {
		body := map[string]string{"/ssh/scan": `{"address":"me@legacy"}`, "/repositories/kept/unfreeze": `{"reason":"x"}`}[path]
		if answer := s.do(request(method, "/api/v1"+path, body)); answer.Code != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %d %s", method, path, answer.Code, answer.Body)
		}
	}
}

func TestDepotMetrics(t *testing.T) {
	b := newBackend()
	metrics := httpapi.NewMetrics(httpapi.MetricsOptions{Snapshot: b, Feed: b.feed, Logger: hclog.NewNullLogger(), Depot: func() []fleet.DepotUse {
		return []fleet.DepotUse{{Repository: "kept", Open: 1, Connections: 3, Refused: 2, Received: 10, Sent: 20}}
	}})
	families, err := metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if name, found := strings.CutPrefix(family.GetName(), "borgfleet_depot_"); found {
			for _, m := range family.GetMetric() {
				got[name+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	check(t, "metrics", map[string]float64{
		"connections kept": 1, "connections_total kept": 3, "refused_total kept": 2, "received_bytes_total kept": 10, "sent_bytes_total kept": 20,
	}, got)
}

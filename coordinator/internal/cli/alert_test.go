package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/console"
)

const alertID = "01JD9X7R0000000000ABCDEFGH"

// alarmed is a coordinator with an alert, a silence, a target and a rule.
func alarmed(t *testing.T) *coordinator {
	t.Helper()
	c := full(t)
	alert := fleet.Alert{
		ID: alertID, RaisedAt: at(0), Told: []string{"ops"},
		Condition: fleet.Condition{Kind: "overdue", Severity: fleet.SeverityCritical, Host: "web1", Plan: "daily", Message: "daily is \x1b[31moverdue", Hint: "is web1 online?"},
	}
	over := alert
	over.ResolvedAt = pointer(at(30))
	rule := fleet.Rule{
		Name: "web", Severity: fleet.SeverityWarning, Hosts: []string{"web*"}, Labels: map[string]string{"site": "fra"}, Targets: []string{"ops"},
		Hours: "08:00-18:00", Days: []string{"mon", "tue"}, Timezone: "Europe/Berlin", Runs: []string{"failure"},
	}
	silence := fleet.Silence{ID: alertID, Host: "web1", Until: at(30), By: "operator:alice", Reason: "moved"}
	target := fleet.Target{Name: "ops", Kind: "ntfy", Shown: "ntfy://…", Trouble: "connection refused", TroubleSince: pointer(at(0))}
	sent := fleet.Delivery{ID: alertID, At: at(0), Target: "ops", Rule: "web", Subject: "daily is overdue", SentAt: pointer(at(1)), Tries: 1}
	failed := fleet.Delivery{ID: alertID, At: at(0), Target: "ops", Subject: "test", Error: "connection refused", Tries: 3}
	for call, answer := range map[string]any{
		"GET /alerts": fleet.AlertPage{Alerts: []fleet.Alert{alert, over}, Cursor: "more"}, "GET /alerts/" + alertID: alert,
		"GET /silences": map[string]any{"silences": []fleet.Silence{silence}}, "POST /silences": silence, "DELETE /silences/" + alertID: nil,
		"GET /targets": map[string]any{"targets": []fleet.Target{target}}, "PUT /targets/ops": target, "DELETE /targets/ops": nil,
		"POST /targets/ops/test": failed, "POST /targets/good/test": sent,
		"GET /rules": map[string]any{"rules": []fleet.Rule{rule}}, "PUT /rules/web": rule, "DELETE /rules/web": nil,
		"GET /deliveries": map[string]any{"deliveries": []fleet.Delivery{sent, failed}, "cursor": "more"},
	} {
		c.answers[call] = answer
	}
	return c
}

func TestAlertCommandsSay(t *testing.T) {
	c := alarmed(t)
	for args, wants := range map[string][]string{
		"alert list":                     {"PLAN   HOST  REPOSITORY", alertID + "  critical  overdue  daily  web1  –", "open", "over ", "--cursor more"},
		"alert show " + alertID:          {"daily is ", "hint: is web1 online?", "told", "ops"},
		"alert silences":                 {"web1", "all", "moved"},
		"alert silence --host web1":      {"Silent until", "alert unsilence " + alertID},
		"alert unsilence " + alertID:     {"is over"},
		"alert list --json":              {`"kind": "overdue"`},
		"notify target list":             {"ops", "ntfy://…", "fails since", "connection refused"},
		"notify target remove ops":       {"Removed target ops"},
		"notify target test good":        {"taken there"},
		"notify rule list":               {"at least warning, hosts web*, runs: failure, site=fra", "mon tue 08:00-18:00 Europe/Berlin"},
		"notify rule set web --target x": {"Rule web", "to ops"},
		"notify rule remove web":         {"Removed rule web"},
		"notify log":                     {"daily is overdue", "sent", "tried 3 times: connection refused", "(test)", "--cursor more"},
		"notify log --json":              {`"deliveries": [`},
	} {
		t.Run(args, func(t *testing.T) {
			r := c.run(t, "", strings.Fields(args)...)
			for _, want := range wants {
				if r.code != 0 || !strings.Contains(r.out, want) {
					t.Errorf("exit code %d, no %q in:\n%s%s", r.code, want, r.out, r.err)
				}
			}
			if strings.Contains(r.out, "\x1b") {
				t.Errorf("an escape of the coordinator's reaches the terminal: %q", r.out)
			}
		})
	}
}

func TestAlertCommandsAsk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("KEY\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := alarmed(t)
	for _, step := range []struct{ stdin, args, want string }{
		{"", "alert list --kind overdue --severity critical --host web1 --repo main --plan daily --limit 3", `GET /alerts?host=web1&kind=overdue&limit=3&open=true&plan=daily&repository=main&severity=critical`},
		{"", "alert list --all", `GET /alerts?limit=50`},
		{"", "alert unsilence " + alertID, "DELETE /silences/" + alertID},
		{"https://x/TOKEN\n", "notify target set ops --url-file - --kind webhook --secret-file " + file + " --off", `PUT /targets/ops {"url":"https://x/TOKEN","kind":"webhook","secret":"KEY","disabled":true}`},
		{"", "notify target add ops --keep", `PUT /targets/ops {}`},
		{"", "notify rule set web --target ops --target night --kind overdue --severity warning --host web* --plan daily --label site=fra --runs failure --hours 08:00-18:00 --day mon --timezone Europe/Berlin --group 1m --repeat 0s --no-resolved --off",
			`PUT /rules/web {"kinds":["overdue"],"severity":"warning","hosts":["web*"],"plans":["daily"],"labels":{"site":"fra"},"hours":"08:00-18:00","days":["mon"],"timezone":"Europe/Berlin","targets":["ops","night"],"group":"1m","repeat":"0s","no_resolved":true,"runs":["failure"],"disabled":true}`},
		{"", "notify log --target ops --cursor c", `GET /deliveries?cursor=c&limit=50&target=ops`},
	} {
		if r := c.run(t, step.stdin, strings.Fields(step.args)...); r.code != 0 {
			t.Errorf("%s: exit code %d: %s", step.args, r.code, r.err)
			continue
		}
		if diff := cmp.Diff(step.want, c.asked[len(c.asked)-1]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.args, diff)
		}
	}
}

func TestASilenceEnds(t *testing.T) {
	c := alarmed(t)
	for args, want := range map[string]map[string]any{
		"alert silence --host web1 --kind offline --reason moved --for 8h": {"host": "web1", "kind": "offline", "reason": "moved"},
		"alert silence --all --for 8h":                                     {"kind": "*"},
	} {
		if r := c.run(t, "", strings.Fields(args)...); r.code != 0 {
			t.Fatalf("%s: exit code %d: %s", args, r.code, r.err)
		}
		got := c.body(t, "POST /silences")
		until, err := time.Parse(time.RFC3339, got["until"].(string))
		if left := time.Until(until); err != nil || left > 8*time.Hour || left < 7*time.Hour {
			t.Errorf("%s: until %v, %v", args, got["until"], err)
		}
		delete(got, "until")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}

func TestMistakesWithAlerts(t *testing.T) {
	c := alarmed(t)
	for name, test := range map[string]struct {
		args, says string
		code       int
	}{
		"which alerts":           {"alert silence", "which alerts", console.ExitUsage},
		"all of some":            {"alert silence --all --host web1", "which alerts", console.ExitUsage},
		"no address":             {"notify target set ops", "--url-file", console.ExitUsage},
		"two of standard input":  {"notify target set ops --url-file - --secret-file -", "cannot both", console.ExitUsage},
		"a rule to nobody":       {"notify rule set web", "--target", console.ExitUsage},
		"a test that fails":      {"notify target test ops", "", console.ExitFailed},
		"no such kind of target": {"notify target set ops --kind mail", "--kind", console.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.run(t, "", strings.Fields(test.args)...)
			if r.code != test.code || !strings.Contains(r.err, test.says) {
				t.Errorf("exit code %d: %s%s", r.code, r.out, r.err)
			}
		})
	}
}

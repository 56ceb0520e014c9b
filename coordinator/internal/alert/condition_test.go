package alert_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/alert"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

func TestConditionsOfHosts(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	backup := &fleet.BackupSummary{}
	host := func(mode fleet.Mode, facts fleet.Facts) fleet.HostView {
		return fleet.HostView{Host: fleet.Host{Name: "web1", Mode: mode, Facts: &facts}, Online: true}
	}
	away := func(d time.Duration, backup *fleet.BackupSummary) fleet.HostView {
		return fleet.HostView{Host: fleet.Host{Name: "web1", Mode: fleet.ModeAgent}, Since: now.Add(-d), LastBackup: backup}
	}
	for name, test := range map[string]struct {
		host fleet.HostView
		want []string
	}{
		"fine":                 {host(fleet.ModeAgent, fleet.Facts{AgentVersion: "0.6.0", FreeBytes: 1 << 40}), nil},
		"older agent":          {host(fleet.ModeAgent, fleet.Facts{AgentVersion: "0.5.12"}), []string{"agent_outdated"}},
		"newer agent":          {host(fleet.ModeAgent, fleet.Facts{AgentVersion: "v0.10.0-3-gabc"}), nil},
		"agent of no release":  {host(fleet.ModeAgent, fleet.Facts{AgentVersion: "dev"}), nil},
		"no agent":             {host(fleet.ModeSSH, fleet.Facts{AgentVersion: "0.1.0"}), nil},
		"full disk":            {host(fleet.ModeAgent, fleet.Facts{FreeBytes: 1<<30 - 1}), []string{"disk_low"}},
		"unknown disk":         {host(fleet.ModeSSH, fleet.Facts{}), nil},
		"away":                 {away(11*time.Minute, backup), []string{"offline"}},
		"away for a short one": {away(9*time.Minute, backup), nil},
		"away without backups": {away(time.Hour, nil), nil},
		"the coordinator's":    {fleet.HostView{Host: fleet.Host{Mode: fleet.ModeLocal}, LastBackup: backup, Since: now.Add(-time.Hour)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var kinds []string
			for _, c := range alert.HostConditions(now, []fleet.HostView{test.host}, fleet.Status{}, "0.6.0") {
				kinds = append(kinds, c.Kind)
				if c.Host != "web1" || c.Message == "" || c.Hint == "" || c.Severity == "" {
					t.Errorf("%+v", c)
				}
			}
			if diff := cmp.Diff(test.want, kinds); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConditionsOfKeys(t *testing.T) {
	got := alert.HostConditions(time.Now(), nil, fleet.Status{KeysNotExported: []string{"main"}}, "0.6.0")
	if len(got) != 1 || got[0].Kind != "key_not_exported" || got[0].Repository != "main" {
		t.Errorf("%+v", got)
	}
}

func TestAttentionBecomesConditions(t *testing.T) {
	since := time.Now()
	got := alert.FromAttention([]fleet.Attention{
		{Kind: "failed", Severity: fleet.SeverityCritical, Host: "web1", Repository: "main", Plan: "daily", Job: "J", Message: "m", Hint: "h", Since: since},
		{Kind: "clock", Host: "web1", Since: since},
	})
	alert.Label(got, map[string]map[string]string{"web1": {"site": "a", "team": "x"}}, map[string]map[string]string{"daily": {"team": "web"}})
	want := []fleet.Condition{
		{Kind: "failed", Severity: fleet.SeverityCritical, Host: "web1", Repository: "main", Plan: "daily", Job: "J", Message: "m", Hint: "h", Since: since, Labels: map[string]string{"site": "a", "team": "web"}},
		{Kind: "clock", Severity: fleet.SeverityWarning, Host: "web1", Since: since, Labels: map[string]string{"site": "a", "team": "x"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

package notify_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

func want(t *testing.T, r *rig, subjects ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, subjects...), r.told()); diff != "" {
		t.Error(diff)
	}
}

func TestAlertsOfOneTimeAreToldTogether(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		first := r.raise(fleet.Condition{Plan: "daily"})
		pass(20 * time.Second)
		r.raise(fleet.Condition{Plan: "weekly", Severity: fleet.SeverityWarning})
		want(t, r)
		pass(15 * time.Second)
		want(t, r, "[borgfleet] critical: 2 alerts: 2 new")
		r.raise(fleet.Condition{Plan: "hourly"})
		pass(25 * time.Second)
		want(t, r)
		pass(10 * time.Second)
		want(t, r, "[borgfleet] critical: hourly is overdue")
		r.resolve(first)
		pass(time.Minute)
		want(t, r, "[borgfleet] resolved: daily is overdue")
		alert, _, err := r.store.Alert(first)
		if err != nil || !slices.Equal(alert.Told, []string{"ops"}) || alert.ToldAt == nil {
			t.Errorf("%+v, %v", alert, err)
		}
	})
}

func TestWhatHoldsIsToldAgain(t *testing.T) {
	for name, test := range map[string]struct {
		repeat fleet.Span
		want   int
	}{"by itself each day": {"", 2}, "each six hours": {"6h", 9}, "never": {"0s", 0}} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, r *rig) {
				r.webhook("ops")
				r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}, Repeat: test.repeat, Group: "0s"})
				r.raise(fleet.Condition{Plan: "daily"})
				pass(time.Minute)
				want(t, r, "[borgfleet] critical: daily is overdue")
				pass(55 * time.Hour)
				want(t, r, slices.Repeat([]string{"[borgfleet] still critical: daily is overdue"}, test.want)...)
			})
		})
	}
}

func TestWhatIsNotTold(t *testing.T) {
	for name, test := range map[string]struct {
		rule  fleet.Rule
		alert fleet.Condition
		told  bool
	}{
		"everything":            {fleet.Rule{}, fleet.Condition{Severity: fleet.SeverityInfo}, true},
		"too mild":              {fleet.Rule{Severity: fleet.SeverityCritical}, fleet.Condition{Severity: fleet.SeverityWarning}, false},
		"bad enough":            {fleet.Rule{Severity: fleet.SeverityWarning}, fleet.Condition{}, true},
		"of another kind":       {fleet.Rule{Kinds: []string{"failed", "miss*"}}, fleet.Condition{Kind: "overdue"}, false},
		"of a kind":             {fleet.Rule{Kinds: []string{"failed", "miss*"}}, fleet.Condition{Kind: "missed"}, true},
		"of another host":       {fleet.Rule{Hosts: []string{"db*"}}, fleet.Condition{Host: "web1"}, false},
		"of no host":            {fleet.Rule{Hosts: []string{"db*"}}, fleet.Condition{}, false},
		"of a host":             {fleet.Rule{Hosts: []string{"db*"}}, fleet.Condition{Host: "db7"}, true},
		"of another plan":       {fleet.Rule{Plans: []string{"daily"}}, fleet.Condition{Plan: "weekly"}, false},
		"with another label":    {fleet.Rule{Labels: map[string]string{"a": "1", "b": "2"}}, fleet.Condition{Labels: map[string]string{"a": "1"}}, false},
		"with the labels":       {fleet.Rule{Labels: map[string]string{"a": "1"}}, fleet.Condition{Labels: map[string]string{"a": "1", "c": "3"}}, true},
		"about the target":      {fleet.Rule{}, fleet.Condition{Kind: "target_failing", Target: "ops"}, false},
		"about another target":  {fleet.Rule{}, fleet.Condition{Kind: "target_failing", Target: "mail"}, true},
		"by a rule that is off": {fleet.Rule{Disabled: true}, fleet.Condition{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, r *rig) {
				r.webhook("ops")
				test.rule.Name, test.rule.Targets = "some", []string{"ops"}
				r.rule(test.rule)
				r.raise(test.alert)
				pass(time.Minute)
				if got := r.told(); (len(got) == 1) != test.told {
					t.Errorf("told %q", got)
				}
			})
		})
	}
}

func TestWithoutRulesEverythingOfWarningAndAboveGoesToAll(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		r.webhook("mail")
		r.raise(fleet.Condition{Plan: "mild", Severity: fleet.SeverityInfo})
		r.raise(fleet.Condition{Plan: "bad", Severity: fleet.SeverityWarning})
		pass(time.Minute)
		want(t, r, "[borgfleet] warning: bad is overdue", "[borgfleet] warning: bad is overdue")
	})
}

func TestWhatComesAndGoesInBetweenIsNotTold(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		id := r.raise(fleet.Condition{Plan: "daily"})
		pass(10 * time.Second)
		r.resolve(id)
		pass(time.Hour)
		want(t, r)
	})
}

func TestWhatGetsWorseIsToldAtOnce(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		id := r.raise(fleet.Condition{Plan: "daily", Severity: fleet.SeverityWarning})
		pass(time.Minute)
		want(t, r, "[borgfleet] warning: daily is overdue")
		alert, _, err := r.store.Alert(id)
		if err != nil {
			t.Fatal(err)
		}
		worse := alert.Condition
		worse.Severity = fleet.SeverityCritical
		r.change(id, store.UpdateAlert(id, worse))
		pass(10 * time.Second)
		want(t, r, "[borgfleet] critical: daily is overdue")
		r.change(id, store.UpdateAlert(id, alert.Condition))
		pass(time.Hour)
		want(t, r)
	})
}

func TestASilencedAlertIsToldWhenTheSilenceEnds(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		id := r.raise(fleet.Condition{Plan: "daily"})
		r.change(id, store.SetSilenced(id, "S"))
		pass(48 * time.Hour)
		want(t, r)
		r.change(id, store.SetSilenced(id, ""))
		pass(10 * time.Second)
		want(t, r, "[borgfleet] critical: daily is overdue")
	})
}

func TestResolvedIsLeftOutWhereARuleSaysSo(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		r.rule(fleet.Rule{Name: "all", Targets: []string{"ops"}, NoResolved: true})
		id := r.raise(fleet.Condition{Plan: "daily"})
		pass(time.Minute)
		r.resolve(id)
		pass(time.Hour)
		want(t, r, "[borgfleet] critical: daily is overdue")
	})
}

func TestOutsideItsHoursARuleWaits(t *testing.T) {
	// The fake clock begins at midnight UTC of Saturday, 1 January 2000: 01:00 in Berlin.
	for name, test := range map[string]struct {
		rule  fleet.Rule
		hours int // until it is told
	}{
		"day":                     {fleet.Rule{Hours: "08:00-18:00"}, 8},
		"day, elsewhere":          {fleet.Rule{Hours: "08:00-18:00", Timezone: "Europe/Berlin"}, 7},
		"night":                   {fleet.Rule{Hours: "22:00-06:00"}, 0},
		"weekdays":                {fleet.Rule{Days: []string{"mon", "tue"}}, 48},
		"weekday hours":           {fleet.Rule{Days: []string{"mon"}, Hours: "09:00-17:00"}, 57},
		"the night of a day":      {fleet.Rule{Days: []string{"fri"}, Hours: "22:00-06:00"}, 0},
		"the night of a weekday":  {fleet.Rule{Days: []string{"mon"}, Hours: "22:00-06:00"}, 70},
		"weekend, and the others": {fleet.Rule{Days: []string{"sat", "sun"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(t *testing.T, r *rig) {
				begin := time.Now()
				r.webhook("ops")
				test.rule.Name, test.rule.Targets, test.rule.Group = "some", []string{"ops"}, "0s"
				r.rule(test.rule)
				r.raise(fleet.Condition{Plan: "daily"})
				posts := r.web.got()
				for i := 0; len(posts) == 0 && i < 100; i++ {
					pass(time.Hour)
					posts = r.web.got()
				}
				if len(posts) == 0 || int(posts[0].at.Sub(begin).Hours()) != test.hours {
					t.Errorf("%d messages, the first after %v", len(posts), posts)
				}
			})
		})
	}
}

func TestAMessageListsSoManyAlerts(t *testing.T) {
	simulate(t, func(t *testing.T, r *rig) {
		r.webhook("ops")
		for i := range 150 {
			r.raise(fleet.Condition{Plan: fmt.Sprintf("plan-%03d", i)})
		}
		pass(time.Minute)
		posts := r.web.got()
		if len(posts) != 1 {
			t.Fatalf("%d messages", len(posts))
		}
		m := posts[0].message(t)
		if len(m.Alerts) != 100 || m.More != 50 || !strings.Contains(m.Text, "and 50 more alerts") || m.URL != "https://backup.example.net/alerts" {
			t.Errorf("%d alerts, and %d more: %s", len(m.Alerts), m.More, m.Text)
		}
		if n := len(r.deliveries("ops")[0].Alerts); n != 150 {
			t.Errorf("%d alerts in the delivery", n)
		}
	})
}

package client_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

const someID = "01JD9X7P0000000000ABCDEFGH"

// planner remembers what it was asked of plans.
type planner struct {
	calls     []string
	spec      fleet.PlanSpec
	until     *time.Time
	request   fleet.RunRequest
	filter    fleet.RunFilter
	freshness []fleet.Freshness
	from, to  time.Time
}

func (p *planner) view(name, format string, args ...any) (fleet.PlanView, error) {
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
	return fleet.PlanView{Plan: fleet.Plan{Name: name, PlanSpec: p.spec}, State: fleet.Fresh}, nil
}

func (p *planner) AddPlan(_ context.Context, _ fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	p.spec = spec
	return p.view(name, "add %s", name)
}

func (p *planner) ChangePlan(_ context.Context, _ fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	p.spec = spec
	return p.view(name, "change %s", name)
}

func (p *planner) RemovePlan(_ context.Context, _ fleet.Actor, name string) error {
	_, err := p.view(name, "remove %s", name)
	return err
}

func (p *planner) PausePlan(_ context.Context, _ fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error) {
	p.until = until
	return p.view(name, "pause %s: %s", name, reason)
}

func (p *planner) ResumePlan(_ context.Context, _ fleet.Actor, name string) (fleet.PlanView, error) {
	return p.view(name, "resume %s", name)
}

func (p *planner) Plan(_ context.Context, name string) (fleet.PlanView, error) {
	if strings.HasPrefix(name, "plan-") { // one of many
		return fleet.PlanView{Plan: fleet.Plan{Name: name}}, nil
	}
	return p.view(name, "show %s", name)
}

func (p *planner) PlanNames(context.Context) (all []string, err error) {
	for i := range 501 {
		all = append(all, fmt.Sprintf("plan-%03d", i))
	}
	return all, nil
}

func (p *planner) AcceptBackup(_ context.Context, _ fleet.Actor, plan, host, repository, reason string) error {
	_, err := p.view(plan, "accept %s %s %s: %s", plan, host, repository, reason)
	return err
}

func (p *planner) TestRestore(_ context.Context, _ fleet.Actor, plan, host, repository string) (job.Job, error) {
	_, err := p.view(plan, "restore-test %s %s %s", plan, host, repository)
	return job.Job{ID: someID, Kind: job.TestRestore, Spec: job.RestoreTestSpec{Archive: "a"}}, err
}

func (p *planner) run() fleet.Run {
	return fleet.Run{ID: someID, Plan: "daily", State: fleet.RunRunning, Tasks: []fleet.Task{{Host: "web1", Kind: job.Backup}}}
}

func (p *planner) RunPlan(_ context.Context, _ fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error) {
	p.request = asked
	_, err := p.view(name, "run %s", name)
	return p.run(), []job.Job{{ID: someID, Kind: job.Backup, Run: someID, Spec: job.BackupSpec{Paths: []string{"/etc"}}}}, err
}

func (p *planner) PlanRun(_ context.Context, id string) (fleet.Run, error) { return p.run(), nil }

func (p *planner) PlanRuns(_ context.Context, filter fleet.RunFilter) (fleet.RunPage, error) {
	p.filter = filter
	return fleet.RunPage{Runs: []fleet.Run{p.run()}, Cursor: "more"}, nil
}

func (p *planner) CancelRun(_ context.Context, _ fleet.Actor, id string) (fleet.Run, error) {
	_, err := p.view("", "cancel %s", id)
	return p.run(), err
}

func (p *planner) Freshness(context.Context) ([]fleet.Freshness, error) { return p.freshness, nil }

func (p *planner) Calendar(_ context.Context, from, to time.Time) ([]fleet.Occurrence, error) {
	p.from, p.to = from, to
	return []fleet.Occurrence{{Plan: "daily", Host: "web1", At: from}}, nil
}

func TestPlansTravelUnchanged(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	spec := fleet.PlanSpec{
		Hosts: []string{"web1"}, Repositories: []string{"main"}, Selector: map[string]string{"site": "fra"}, ArchivePrefix: "x-",
		Dumps: []fleet.Dump{{Hook: "dump"}}, Order: fleet.Sequential, StopOnFailure: true, Schedule: &fleet.Schedule{Every: "6h", WindowEnds: true},
		Retention: &fleet.Retention{KeepDaily: 7}, After: []job.Kind{job.Prune}, Check: &fleet.CheckPolicy{Every: "7d"},
		RestoreTest: &fleet.RestoreTest{Every: "30d", Size: "1GiB", Canary: true}, Retry: &fleet.Retry{Attempts: 3, Wait: "5m"},
		MaxAge: "36h", Timeout: "6h", Priority: 3, Suspicion: fleet.SuspectAlert, Labels: map[string]string{"a": "b"},
	}
	spec.Paths, spec.Compression, spec.Hooks = []string{"/etc"}, "zstd,3", &job.Hooks{Before: []string{"dump"}, Timeout: 5}
	added := must[fleet.PlanView](t)(c.AddPlan(t.Context(), "daily", spec))
	equal(t, "added", spec, b.planner.spec)
	equal(t, "answer", spec, added.PlanSpec)
	b.planner.spec = fleet.PlanSpec{}
	must[fleet.PlanView](t)(c.ChangePlan(t.Context(), "daily", spec))
	equal(t, "changed", spec, b.planner.spec)
	equal(t, "shown", spec, must[fleet.PlanView](t)(c.Plan(t.Context(), "daily")).PlanSpec)
	if plans := must[[]fleet.PlanView](t)(c.Plans(t.Context())); len(plans) != 501 {
		t.Errorf("%d plans", len(plans))
	}
	if err := c.RemovePlan(t.Context(), "daily"); err != nil {
		t.Error(err)
	}
	until := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	must[fleet.PlanView](t)(c.PausePlan(t.Context(), "daily", until, "moved"))
	equal(t, "until", &until, b.planner.until)
	must[fleet.PlanView](t)(c.PausePlan(t.Context(), "daily", time.Time{}, ""))
	if b.planner.until != nil {
		t.Errorf("paused until %s", b.planner.until)
	}
	must[fleet.PlanView](t)(c.ResumePlan(t.Context(), "daily"))
	must[fleet.PlanView](t)(c.AcceptBackup(t.Context(), "daily", "web1", "main", "right"))
	equal(t, "job", job.ID(someID), must[job.Job](t)(c.TestRestore(t.Context(), "daily", "web1", "main")).ID)
	equal(t, "calls", []string{
		"add daily", "change daily", "show daily", "remove daily", "pause daily: moved", "pause daily: ", "resume daily",
		"accept daily web1 main: right", "show daily", "restore-test daily web1 main",
	}, b.planner.calls)
}

func equalTime(t *testing.T, what string, want, got time.Time) {
	t.Helper()
	if !want.Equal(got) {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestRunsTravel(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	asked := fleet.RunRequest{Hosts: []string{"web1"}, IdempotencyKey: "k"}
	start := must[client.PlanStart](t)(c.RunPlan(t.Context(), "daily", asked))
	equal(t, "asked", asked, b.planner.request)
	equal(t, "run", b.planner.run(), start.Run)
	equal(t, "job", job.ID(someID), start.Jobs[0].ID)
	filter := fleet.RunFilter{Plan: "daily", State: fleet.RunFailed, Since: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), Limit: 3, Cursor: "c"}
	equal(t, "page", fleet.RunPage{Runs: []fleet.Run{b.planner.run()}, Cursor: "more"}, must[fleet.RunPage](t)(c.Runs(t.Context(), filter)))
	equal(t, "filter", filter, b.planner.filter)
	equal(t, "run", b.planner.run(), must[fleet.Run](t)(c.Run(t.Context(), someID)))
	equal(t, "run", b.planner.run(), must[fleet.Run](t)(c.CancelRun(t.Context(), someID)))
	for i := range 501 {
		b.planner.freshness = append(b.planner.freshness, fleet.Freshness{Plan: "daily", Host: fmt.Sprintf("web%03d", i), Repository: "main", State: fleet.Fresh})
	}
	equal(t, "freshness", b.planner.freshness, must[[]fleet.Freshness](t)(c.Freshness(t.Context(), client.FreshnessFilter{Plan: "daily"})))
	one := must[[]fleet.Freshness](t)(c.Freshness(t.Context(), client.FreshnessFilter{Host: "web007", Repository: "main", State: fleet.Fresh}))
	equal(t, "one", b.planner.freshness[7:8], one)
	from := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	calendar := must[client.Calendar](t)(c.Calendar(t.Context(), from, from.Add(time.Hour)))
	equalTime(t, "from", from, b.planner.from)
	equalTime(t, "to", from.Add(time.Hour), b.planner.to)
	equal(t, "occurrences", 1, len(calendar.Occurrences))
}

func TestPlansAndAlertsAreEvents(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	var seen []string
	for event, err := range c.Events(t.Context(), client.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch event.Type {
		case client.EventSnapshot:
			b.feed.Publish(feed.Update{Type: feed.PlanChanged, Plan: "daily"})
			b.feed.Publish(feed.Update{Type: feed.AlertChanged, Alert: &fleet.Alert{ID: someID}})
		case client.EventPlan:
			seen = append(seen, event.Plan)
		case client.EventAlert:
			seen = append(seen, event.Alert.ID)
		}
		if len(seen) == 2 {
			break
		}
	}
	equal(t, "seen", []string{"daily", someID}, seen)
}

// watchman remembers what it was asked of alerts and notifications.
type watchman struct {
	calls   []string
	filter  fleet.AlertFilter
	silence fleet.Silence
	target  fleet.NewTarget
	rule    fleet.Rule
}

func (w *watchman) call(format string, args ...any) error {
	w.calls = append(w.calls, fmt.Sprintf(format, args...))
	return nil
}

func (w *watchman) Alerts(_ context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error) {
	w.filter = filter
	return fleet.AlertPage{Alerts: []fleet.Alert{{ID: someID, Told: []string{}}}, Open: 4, Cursor: "more"}, nil
}

func (w *watchman) Alert(_ context.Context, id string) (fleet.Alert, error) {
	return fleet.Alert{ID: id}, nil
}

func (w *watchman) Silences(context.Context) ([]fleet.Silence, error) {
	return []fleet.Silence{w.silence}, nil
}

func (w *watchman) AddSilence(_ context.Context, _ fleet.Actor, asked fleet.Silence) (fleet.Silence, error) {
	w.silence = asked
	return asked, nil
}

func (w *watchman) RemoveSilence(_ context.Context, _ fleet.Actor, id string) error {
	return w.call("remove silence %s", id)
}

func (w *watchman) Targets(context.Context) ([]fleet.Target, error) {
	return []fleet.Target{{Name: "ops"}}, nil
}

func (w *watchman) PutTarget(_ context.Context, _ fleet.Actor, asked fleet.NewTarget) (fleet.Target, error) {
	w.target = asked
	return fleet.Target{Name: asked.Name}, nil
}

func (w *watchman) RemoveTarget(_ context.Context, _ fleet.Actor, name string) error {
	return w.call("remove target %s", name)
}

func (w *watchman) TestTarget(_ context.Context, _ fleet.Actor, name string) (fleet.Delivery, error) {
	return fleet.Delivery{Target: name, Error: "refused", Alerts: []string{}}, nil
}

func (w *watchman) Rules(context.Context) ([]fleet.Rule, error) { return []fleet.Rule{w.rule}, nil }

func (w *watchman) PutRule(_ context.Context, _ fleet.Actor, rule fleet.Rule) (fleet.Rule, error) {
	w.rule = rule
	return rule, nil
}

func (w *watchman) RemoveRule(_ context.Context, _ fleet.Actor, name string) error {
	return w.call("remove rule %s", name)
}

func (w *watchman) Deliveries(_ context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error) {
	return []fleet.Delivery{{Target: target, Tries: limit, Subject: cursor}}, "more", nil
}

func TestAlertsTravel(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	filter := fleet.AlertFilter{Kind: "offline", Severity: fleet.SeverityInfo, Host: "web1", Repository: "main", Plan: "daily", Open: true, Limit: 3, Cursor: "c"}
	page := must[fleet.AlertPage](t)(c.Alerts(t.Context(), filter))
	equal(t, "filter", filter, b.watch.filter)
	if page.Open != 4 || page.Cursor != "more" || page.Alerts[0].ID != someID {
		t.Errorf("page %+v", page)
	}
	equal(t, "alert", someID, must[fleet.Alert](t)(c.Alert(t.Context(), someID)).ID)
	silence := fleet.Silence{Kind: "k", Host: "h", Repository: "r", Plan: "p", Reason: "why", Until: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	equal(t, "silence", silence, must[fleet.Silence](t)(c.AddSilence(t.Context(), silence)))
	equal(t, "silences", []fleet.Silence{silence}, must[[]fleet.Silence](t)(c.Silences(t.Context())))
	if err := c.RemoveSilence(t.Context(), someID); err != nil {
		t.Error(err)
	}
	equal(t, "calls", []string{"remove silence " + someID}, b.watch.calls)
}

func TestNotificationsTravel(t *testing.T) {
	b := newBackend()
	c := connect(t, b)
	must[fleet.Target](t)(c.PutTarget(t.Context(), fleet.NewTarget{
		Name: "ops", URL: secret.FromString("https://x"), Kind: "webhook", Secret: secret.FromString("KEY"), Disabled: true,
	}))
	if got := b.watch.target; got.Name != "ops" || !got.URL.Equal(secret.FromString("https://x")) || !got.Secret.Equal(secret.FromString("KEY")) || got.Kind != "webhook" || !got.Disabled {
		t.Errorf("target %+v", got)
	}
	must[fleet.Target](t)(c.PutTarget(t.Context(), fleet.NewTarget{Name: "ops"}))
	if got := b.watch.target; !got.URL.Empty() || !got.Secret.Empty() {
		t.Errorf("what is to stay was sent: %+v", got)
	}
	equal(t, "targets", "ops", must[[]fleet.Target](t)(c.Targets(t.Context()))[0].Name)
	equal(t, "test", fleet.Delivery{Target: "ops", Error: "refused", Alerts: []string{}}, must[fleet.Delivery](t)(c.TestTarget(t.Context(), "ops")))
	rule := fleet.Rule{
		Name: "web", Kinds: []string{"overdue"}, Severity: fleet.SeverityWarning, Hosts: []string{"web*"}, Plans: []string{"d"}, Labels: map[string]string{"a": "b"},
		Hours: "08:00-18:00", Days: []string{"mon"}, Timezone: "UTC", Targets: []string{"ops"}, Group: "1m", Repeat: "0s", NoResolved: true, Runs: []string{"start"}, Disabled: true,
	}
	equal(t, "rule", rule, must[fleet.Rule](t)(c.PutRule(t.Context(), rule)))
	equal(t, "rules", []fleet.Rule{rule}, must[[]fleet.Rule](t)(c.Rules(t.Context())))
	for _, err := range []error{c.RemoveTarget(t.Context(), "ops"), c.RemoveRule(t.Context(), "web")} {
		if err != nil {
			t.Error(err)
		}
	}
	equal(t, "calls", []string{"remove target ops", "remove rule web"}, b.watch.calls)
	sent, cursor, err := c.Deliveries(t.Context(), "ops", 3, "c")
	equal(t, "deliveries", []fleet.Delivery{{Target: "ops", Tries: 3, Subject: "c", Alerts: []string{}}}, sent)
	if cursor != "more" || err != nil {
		t.Errorf("cursor %q, %v", cursor, err)
	}
}

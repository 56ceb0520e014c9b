package web_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Secrets that somebody types.
const (
	typedAddress = "ntfy://user:SECRET-ADDRESS@ntfy.example.net/topic"
	typedKey     = "SECRET-KEY"
)

// Runs, alerts and messages of the rich world.
var (
	openRun  = string(id(70))
	goodRun  = string(id(69))
	badRun   = string(id(68))
	alertOne = string(id(80))
	silently = string(id(85))
	tested   = string(id(90))
)

// planning is the part of the world that is about plans, alerts and notifications.
type planning struct {
	plans      []fleet.PlanView
	runs       []fleet.Run // newest first
	calendar   []fleet.Occurrence
	alerts     []fleet.Alert // open ones first
	silences   []fleet.Silence
	targets    []fleet.Target
	rules      []fleet.Rule
	deliveries []fleet.Delivery
	unplanned  bool // there is nothing of all this

	specs    []fleet.PlanSpec // that were stored
	asked    []fleet.RunRequest
	quiet    []fleet.Silence
	put      []fleet.NewTarget
	putRules []fleet.Rule
	until    []*time.Time
}

func (w *world) AddPlan(_ context.Context, _ fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	w.specs = append(w.specs, spec)
	return fleet.PlanView{}, w.note("add plan", name)
}

func (w *world) ChangePlan(_ context.Context, _ fleet.Actor, name string, spec fleet.PlanSpec) (fleet.PlanView, error) {
	w.specs = append(w.specs, spec)
	return fleet.PlanView{}, w.note("change plan", name)
}

func (w *world) RemovePlan(_ context.Context, _ fleet.Actor, name string) error {
	return w.note("remove plan", name)
}

func (w *world) PausePlan(_ context.Context, _ fleet.Actor, name string, until *time.Time, reason string) (fleet.PlanView, error) {
	w.until = append(w.until, until)
	return fleet.PlanView{}, w.note("pause", name, reason)
}

func (w *world) ResumePlan(_ context.Context, _ fleet.Actor, name string) (fleet.PlanView, error) {
	return fleet.PlanView{}, w.note("resume", name)
}

func (w *world) RunPlan(_ context.Context, _ fleet.Actor, name string, asked fleet.RunRequest) (fleet.Run, []job.Job, error) {
	if err := w.note("run", name); err != nil {
		return fleet.Run{}, nil, err
	}
	w.asked = append(w.asked, asked)
	return fleet.Run{ID: goodRun, Plan: name}, nil, nil
}

func (w *world) CancelRun(_ context.Context, _ fleet.Actor, id string) (fleet.Run, error) {
	return fleet.Run{}, w.note("cancel run", id)
}

func (w *world) AcceptBackup(_ context.Context, _ fleet.Actor, plan, host, repository, reason string) error {
	return w.note("accept", plan, host, repository, reason)
}

func (w *world) TestRestore(_ context.Context, _ fleet.Actor, plan, host, repository string) (job.Job, error) {
	return job.Job{ID: goodBackup}, w.note("test", plan, host, repository)
}

func (w *world) Plan(_ context.Context, name string) (fleet.PlanView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.plans {
		if p.Name == name {
			return p, w.broken
		}
	}
	return fleet.PlanView{}, fleet.UnknownPlan(name)
}

func (w *world) Plans(context.Context) ([]fleet.PlanView, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plans, w.broken
}

func (w *world) PlanRun(_ context.Context, id string) (fleet.Run, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		if r.ID == id {
			return r, w.broken
		}
	}
	return fleet.Run{}, job.Fail(job.NotFound, "there is no run %q", id)
}

func (w *world) PlanRuns(_ context.Context, f fleet.RunFilter) (page fleet.RunPage, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		if (f.Plan != "" && r.Plan != f.Plan) || (f.Cursor != "" && r.ID >= f.Cursor) {
			continue
		}
		if len(page.Runs) == f.Limit {
			page.Cursor = page.Runs[f.Limit-1].ID
			break
		}
		page.Runs = append(page.Runs, r)
	}
	return page, w.broken
}

func (w *world) Freshness(context.Context) (rows []fleet.Freshness, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.plans {
		rows = append(rows, p.Freshness...)
	}
	return rows, w.broken
}

func (w *world) Calendar(_ context.Context, from, to time.Time) ([]fleet.Occurrence, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calendar) > 20_000 {
		return nil, job.Invalid("to", "more than 20000 runs until then")
	}
	return slices.DeleteFunc(slices.Clone(w.calendar), func(o fleet.Occurrence) bool { return o.At.Before(from) || !o.At.Before(to) }), w.broken
}

func (w *world) Alerts(_ context.Context, f fleet.AlertFilter) (page fleet.AlertPage, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.alerts {
		if a.ResolvedAt == nil {
			page.Open++
		}
		if (f.Host != "" && a.Host != f.Host) || (f.Kind != "" && a.Kind != f.Kind) || (f.Plan != "" && a.Plan != f.Plan) || (f.Open && a.ResolvedAt != nil) {
			continue
		}
		if len(page.Alerts) == f.Limit {
			page.Cursor = "resolved-x"
			continue
		}
		page.Alerts = append(page.Alerts, a)
	}
	if f.Severity != "" && !slices.Contains(fleet.Severities(), f.Severity) {
		return page, job.Invalid("severity", "%q is none", f.Severity)
	}
	return page, w.broken
}

func (w *world) Silences(context.Context) ([]fleet.Silence, error) { return w.silences, w.broken }

func (w *world) AddSilence(_ context.Context, _ fleet.Actor, asked fleet.Silence) (fleet.Silence, error) {
	w.quiet = append(w.quiet, asked)
	return asked, w.note("silence", asked.Kind, asked.Host)
}

func (w *world) RemoveSilence(_ context.Context, _ fleet.Actor, id string) error {
	return w.note("unsilence", id)
}

func (w *world) Targets(context.Context) ([]fleet.Target, error) { return w.targets, w.broken }

func (w *world) PutTarget(_ context.Context, _ fleet.Actor, asked fleet.NewTarget) (fleet.Target, error) {
	w.put = append(w.put, asked)
	if strings.Contains(asked.Name, " ") {
		return fleet.Target{}, job.Invalid("name", "%q is not a name", asked.Name)
	}
	return fleet.Target{}, w.note("put target", asked.Name)
}

func (w *world) RemoveTarget(_ context.Context, _ fleet.Actor, name string) error {
	return w.note("remove target", name)
}

func (w *world) TestTarget(_ context.Context, _ fleet.Actor, name string) (fleet.Delivery, error) {
	return fleet.Delivery{ID: tested}, w.note("test target", name)
}

func (w *world) Rules(context.Context) ([]fleet.Rule, error) { return w.rules, w.broken }

func (w *world) PutRule(_ context.Context, _ fleet.Actor, rule fleet.Rule) (fleet.Rule, error) {
	w.putRules = append(w.putRules, rule)
	return rule, w.note("put rule", rule.Name)
}

func (w *world) RemoveRule(_ context.Context, _ fleet.Actor, name string) error {
	return w.note("remove rule", name)
}

func (w *world) Deliveries(_ context.Context, target string, limit int, cursor string) (list []fleet.Delivery, next string, err error) {
	for _, d := range w.deliveries {
		if (target == "" || d.Target == target) && (cursor == "" || d.ID < cursor) {
			if len(list) == limit {
				return list, list[limit-1].ID, w.broken
			}
			list = append(list, d)
		}
	}
	return list, "", w.broken
}

// aPlan is a plan on some hosts.
func aPlan(name string, state fleet.FreshState, hosts ...string) fleet.PlanView {
	p := fleet.PlanView{State: state, On: hosts, Next: []time.Time{noon.Add(4 * time.Hour), noon.Add(28 * time.Hour), noon.Add(52 * time.Hour)}}
	p.Name, p.CreatedAt, p.ChangedAt = name, noon.AddDate(0, -1, 0), noon.AddDate(0, 0, -3)
	p.PlanSpec = fleet.PlanSpec{
		Description: "the shop", Hosts: hosts, Repositories: []string{"web1-main"}, BackupSpec: job.BackupSpec{Paths: []string{"/etc", "/srv"}},
		Schedule: &fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin", Jitter: "15m"}, Retention: &fleet.Retention{KeepDaily: 7, KeepWeekly: 4},
		After: []job.Kind{job.Prune, job.Compact}, Check: &fleet.CheckPolicy{Every: "7d"}, RestoreTest: &fleet.RestoreTest{Every: "30d", Canary: true},
		Dumps: []fleet.Dump{{Hook: "postgres-dump", Name: "shop"}},
	}
	for i := range 12 {
		p.Runs = append(p.Runs, fleet.RunMark{ID: string(id(10 + i)), State: fleet.RunSucceeded, Due: noon.Add(time.Duration(i-12) * 24 * time.Hour)})
	}
	for _, host := range hosts {
		last := noon.Add(-12 * time.Hour)
		p.Freshness = append(p.Freshness, fleet.Freshness{
			Plan: name, Host: host, Repository: "web1-main", State: state, LastSuccess: &fleet.BackupSummary{Job: goodBackup, Host: host, FinishedAt: last},
			MaxAge: 49 * 3600, NextRun: pointer(noon.Add(4 * time.Hour)), LastCheck: &last, LastRestoreTest: &last, RestoreTestJob: checkedJob,
		})
	}
	return p
}

func richPlanning() planning {
	late, odd, off := aPlan("db-hourly", fleet.Overdue, "db1", "db2"), aPlan("web1-daily", fleet.Suspicious, "web1"), aPlan("laptops", fleet.PlanPaused, "laptop-anna")
	late.Freshness[1].LastSuccess, late.Freshness[1].Message, late.Runs[11].State, late.Runs[10].State = nil, "no good backup for 2 d 1 h", fleet.RunFailed, fleet.RunMissed
	odd.Freshness[0].Suspicion = &fleet.Suspicion{Job: warnedBackup, At: noon.Add(-time.Hour), Message: "3 files, usually 14,200 to 14,400", Holds: true}
	odd.Open = openRun
	off.Pause = &fleet.Pause{Since: noon.Add(-time.Hour), Until: pointer(noon.Add(72 * time.Hour)), By: "operator:anna", Reason: "on holiday"}
	p := planning{plans: []fleet.PlanView{late, off, odd}}
	end := noon.Add(-time.Hour)
	p.runs = []fleet.Run{
		{ID: openRun, Plan: "web1-daily", Trigger: fleet.TriggerManual, By: "operator:bob", Due: noon, StartedAt: noon.Add(-90 * time.Second), State: fleet.RunRunning, Tasks: []fleet.Task{
			{Host: "web1", Repository: "web1-main", Kind: job.Backup, Dump: "postgres-dump", Job: goodBackup, State: fleet.RunSucceeded, FinishedAt: &end},
			{Host: "web1", Repository: "web1-main", Kind: job.Backup, Job: runningBackup, State: fleet.RunRunning},
			{Host: "web1", Repository: "web1-main", Kind: job.Prune, State: fleet.RunSkipped, Reason: "the backup looks suspicious", FinishedAt: &end},
			{Host: "web1", Repository: "web1-main", Kind: job.Check, State: fleet.RunRunning, NotBefore: noon.Add(time.Hour)},
		}},
		{ID: goodRun, Plan: "web1-daily", Trigger: fleet.TriggerSchedule, Due: end, StartedAt: end, FinishedAt: &noon, State: fleet.RunSucceeded},
		{ID: badRun, Plan: "web1-daily", Trigger: fleet.TriggerCatchUp, Due: end, StartedAt: end, FinishedAt: &noon, State: fleet.RunFailed, Tasks: []fleet.Task{
			{Host: "web1", Repository: "web1-main", Kind: job.Backup, State: fleet.RunFailed, Reason: "its run of 02:00 is not over"},
		}},
	}
	for i, host := range []string{"db1", "db2"} {
		p.calendar = append(p.calendar, fleet.Occurrence{Plan: "db-hourly", Host: host, At: noon.Add(time.Duration(20+5*i) * time.Minute), Due: noon, Seconds: 131})
	}
	p.calendar = append(p.calendar, fleet.Occurrence{Plan: "web1-daily", Host: "web1", At: noon.Add(12 * time.Hour), Due: noon})
	p.alerts = []fleet.Alert{
		{ID: alertOne, Condition: fleet.Condition{Kind: "overdue", Severity: fleet.SeverityCritical, Host: "db2", Repository: "web1-main", Plan: "db-hourly", Message: "no good backup for 2 d 1 h", Hint: "see its last run"}, RaisedAt: noon.Add(-time.Hour), Told: []string{"ops"}, ToldAt: &end},
		{ID: string(id(79)), Condition: fleet.Condition{Kind: "disk_low", Severity: fleet.SeverityWarning, Host: "db1", Message: "db1 has 0.4 GB left"}, RaisedAt: noon.Add(-time.Hour), Silenced: silently},
		{ID: string(id(78)), Condition: fleet.Condition{Kind: "failed", Severity: fleet.SeverityCritical, Host: "db2", Job: failedBackup, Message: "backup of db2 failed"}, RaisedAt: noon.AddDate(0, 0, -2), ResolvedAt: &end},
	}
	p.silences = []fleet.Silence{{ID: silently, Kind: "disk_low", Host: "db1", Reason: "new disk is ordered", By: "operator:bob", CreatedAt: end, Until: noon.Add(8 * time.Hour)}}
	p.targets = []fleet.Target{{Name: "ops", Kind: "ntfy", Shown: "ntfy://ntfy.example.net/…"}, {Name: "pager", Kind: "pagerduty", Shown: "pagerduty://…", Trouble: "it answers 403", TroubleSince: &end}}
	p.rules = []fleet.Rule{{Name: "nights", Kinds: []string{"overdue", "disk_low"}, Severity: fleet.SeverityWarning, Hosts: []string{"web*"}, Labels: map[string]string{"site": "berlin"}, Hours: "20:00-08:00", Days: []string{"mon"}, Timezone: "Europe/Berlin", Targets: []string{"ops"}, Repeat: "0s", NoResolved: true, Runs: []string{"failure"}}}
	p.deliveries = []fleet.Delivery{
		{ID: tested, At: noon, Target: "ops", Subject: "A test", Tries: 1, SentAt: &noon}, {ID: string(id(89)), At: noon, Target: "pager", Rule: "nights", Subject: "db2 is overdue", Tries: 4, Error: "it answers 403"},
		{ID: string(id(88)), At: end, Target: "pager", Rule: "nights", Subject: "old", Tries: 40, Error: "it answers 403", GivenUp: true},
	}
	return p
}

// planAddresses are the pages about plans, alerts and notifications.
var planAddresses = []string{
	"/plans", "/plans?q=web&state=suspicious", "/plans?q=nothing", "/plans/web1-daily", "/plans/db-hourly", "/plans/laptops", "/plans/laptops/pause", "/plans/laptops/remove",
	"/plans/nothing", "/new-plan", "/new-plan?like=laptops", "/plans/web1-daily/change", "/runs/" + openRun, "/runs/" + badRun, "/runs/nothing", "/calendar", "/calendar?plan=web1-daily&host=x",
	"/alerts", "/alerts?show=open&severity=warning", "/alerts?severity=nonsense", "/alerts/silence?kind=overdue&host=db2", "/notifications", "/notifications?change-target=ops&tested=" + tested,
	"/notifications?change-rule=nights&target=pager", "/notifications/targets/ops/remove", "/notifications/rules/nights/remove",
}

// spoil makes all that is known of plans hostile.
func (p *planning) spoil(evil string) {
	for i := range p.plans {
		v := &p.plans[i]
		v.Description, v.Hosts, v.Repositories, v.Paths, v.Labels, v.ArchivePrefix = evil, []string{evil}, []string{evil}, []string{evil}, map[string]string{evil: evil}, evil
		v.Schedule = &fleet.Schedule{Cron: evil, Timezone: evil, Window: evil}
		v.Dumps, v.Pause = []fleet.Dump{{Hook: evil, Name: evil}}, &fleet.Pause{By: evil, Reason: evil}
		for j := range v.Freshness {
			v.Freshness[j].Message, v.Freshness[j].Host, v.Freshness[j].Repository = evil, fmt.Sprint(evil, j), evil
			v.Freshness[j].Suspicion = &fleet.Suspicion{Message: evil}
		}
	}
	for i := range p.runs {
		p.runs[i].By, p.runs[i].Trigger = evil, fleet.TriggerManual
		for j := range p.runs[i].Tasks {
			t := &p.runs[i].Tasks[j]
			t.Host, t.Repository, t.Reason, t.Dump = evil, evil, evil, evil
		}
	}
	for i := range p.alerts {
		a := &p.alerts[i]
		a.Kind, a.Severity, a.Host, a.Repository, a.Plan, a.Condition.Target, a.Message, a.Hint, a.Told = evil, fleet.Severity(evil), evil, evil, evil, evil, evil, evil, []string{evil}
	}
	for i := range p.silences {
		p.silences[i].Host, p.silences[i].Reason, p.silences[i].By = evil, evil, evil
	}
	for i := range p.targets {
		p.targets[i].Shown, p.targets[i].Trouble = evil, evil
	}
	for i := range p.rules {
		p.rules[i].Kinds, p.rules[i].Targets, p.rules[i].Labels = []string{evil}, []string{evil}, map[string]string{evil: evil}
	}
	for i := range p.deliveries {
		p.deliveries[i].Subject, p.deliveries[i].Error, p.deliveries[i].Target, p.deliveries[i].Rule = evil, evil, evil, evil
	}
	for i := range p.calendar {
		p.calendar[i].Plan, p.calendar[i].Host = evil, evil
	}
}

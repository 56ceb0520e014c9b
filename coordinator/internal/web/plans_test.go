package web_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestPlanPagesTell(t *testing.T) {
	for address, want := range map[string][]string{
		"/": {`href="/plans">3 plans: 1 overdue, 1 suspicious, 1 paused</a>`, `href="/calendar"`, `<span class="count">2<span class="sr"> open</span></span>`},
		"/plans": {
			"<h1>3 plans: 1 overdue, 1 suspicious, 1 paused</h1>", "No good backup for 2 d 1 h", `aria-label="last 12 runs: 10 succeeded, 1 failed, 1 missed"`,
			`href="/plans/laptops"`, `action="/plans/laptops/resume"`, `href="/plans/db-hourly/pause"`, `action="/plans/db-hourly/run"`, `href="/runs/` + openRun + `"`, "borgfleet --data /srv/borgfleet export &gt; fleet.yaml",
		},
		"/hosts/db2":          {`href="/plans/db-hourly"`, "No good backup for 2 d 1 h", `href="/calendar?host=db2"`},
		"/plans?state=paused": {"laptops", `<option value="paused" selected>`},
		"/plans/db-hourly": {
			"overdue", "every day at 02:00, Europe/Berlin", ">0 2 * * *</span>", "15m", "7 daily, 4 weekly", "prune, then compact", "20 files or 1GiB, and a canary", "postgres-dump as shop", `href="/jobs/` + string(checkedJob) + `"`,
			"at most 2 d 1 h", "No good backup for 2 d 1 h", `<option value="db2">`, "plan run db-hourly --watch", "the shop", "next ", "18:07", "It has not run yet",
		},
		"/plans/web1-daily": {
			"looks suspicious:</b> 3 files, usually 14,200 to 14,400", "Nothing is pruned there", `name="reason" required`, `href="/runs/` + goodRun + `"`, "to make up for the one of", "its run of 02:00 is not over", "by operator:bob",
			`href="/plans/web1-daily/change"`, `href="/plans/web1-daily/remove"`, `action="/plans/web1-daily/restore-test"`,
		},
		"/plans/laptops": {"<b>Paused</b> since", "by operator:anna", "on holiday", ">Resume</button>"},
		"/runs/" + openRun: {
			"Run of web1-daily", "<b>2</b> of 4 tasks done", "dump postgres-dump", `href="/jobs/` + string(runningBackup) + `"`, "the backup looks suspicious", "waiting", "begins at", `action="/runs/` + openRun + `/cancel"`, "run watch " + openRun,
		},
		"/calendar":              {"<b>3</b> backups of hosts are due", "db1, db2", "2 min 11 s", `href="/plans/web1-daily"`, ">2 backups</span>"},
		"/calendar?plan=nothing": {"Nothing of that is due"},
		"/alerts": {
			"<h1>2 open alerts</h1>", "No good backup for 2 d 1 h", `href="/plans/db-hourly"`, `href="/alerts/silence?host=db2&amp;kind=overdue&amp;plan=db-hourly&amp;repository=web1-main"`, "told ops at", "silenced", "Backup of db2 failed",
			`href="/jobs/` + string(failedBackup) + `"`, "host db1", "new disk is ordered", `action="/silences/` + silently + `/end"`, `href="/notifications"`,
		},
		"/alerts?show=open&host=db2": {"only open ones", `value="db2"`},
		"/notifications?tested=" + tested: {
			"ntfy://ntfy.example.net/…", "it answers 403", "taken by ops", "overdue, disk low; warning and above; hosts web*; labels site=berlin; and runs of plans: failure", "mon 20:00-08:00 Europe/Berlin, once, not when it is over",
			"tried 4 times", "given up", "a test", "notify target set NAME", "notify rule set NAME --target ops",
		},
		"/notifications?change-rule=nights": {`value="20:00-08:00"`, `value="overdue disk_low"`, ">site=berlin</textarea>", `value="0s"`},
	} {
		wantPage(t, address, rich().get(t, address), http.StatusOK, want...)
	}
}

func TestJobsLeadToTheirPlan(t *testing.T) {
	planned := rich()
	planned.jobs[0].Plan, planned.jobs[0].Run = "web1-daily", openRun
	wantPage(t, "job of a plan", planned.get(t, "/jobs/"+string(planned.jobs[0].ID)), http.StatusOK, `href="/plans/web1-daily"`, `href="/runs/`+openRun+`"`)
	wantPage(t, "jobs", planned.get(t, "/jobs"), http.StatusOK, `href="/runs/`+openRun+`"`, `name="plan"`)
	queued := rich()
	queued.runs[0].Tasks[1].Job = waitingBackup
	wantPage(t, "a job that waits", queued.get(t, "/runs/"+openRun), http.StatusOK, "queued", "repository web1-main is busy with job")
	fresh := rich()
	fresh.plans = []fleet.PlanView{aPlan("a", fleet.Fresh, "web1"), aPlan("b", fleet.Fresh, "db1")}
	wantPage(t, "all fresh", fresh.get(t, "/"), http.StatusOK, "2 plans: all fresh")
}

func TestNoPlans(t *testing.T) {
	wantPage(t, "no plans", empty().get(t, "/plans"), http.StatusOK, "No plans yet", "borgfleet --data /srv/borgfleet apply -f fleet.yaml", "keep_daily: 7", "plan add web1-daily")
	wantPage(t, "no plans, viewer", empty().as(bus.Viewer).get(t, "/plans"), http.StatusOK, "An admin can add some")
	wantPage(t, "no alerts", empty().get(t, "/alerts"), http.StatusOK, "No open alerts", "Nothing has needed a person yet")
	wantPage(t, "nothing due", empty().get(t, "/calendar"), http.StatusOK, "Nothing is due")
	wantPage(t, "no targets", empty().get(t, "/notifications"), http.StatusOK, "Nobody is notified", "everything of warning and above")
	none := rich()
	none.unplanned = true
	for _, address := range []string{"/plans", "/plans/web1-daily", "/runs/" + openRun, "/calendar", "/alerts", "/notifications"} {
		wantPage(t, address, none.get(t, address), http.StatusNotFound)
	}
	if page := none.get(t, "/").Body.String(); strings.Contains(page, `href="/plans"`) || strings.Contains(page, `href="/alerts"`) {
		t.Error("the menu leads to pages that are not there")
	}
}

func TestPlanActions(t *testing.T) {
	w := rich()
	wantRedirect(t, "run", w.post(t, "/plans/web1-daily/run", url.Values{"key": {"k"}}), "/runs/"+goodRun)
	wantRedirect(t, "run one", w.post(t, "/plans/web1-daily/run", url.Values{"key": {"k"}, "host": {"web1"}}), "/runs/"+goodRun)
	if len(w.asked) != 2 || w.asked[0].IdempotencyKey != "k" || w.asked[0].Hosts != nil || !cmp.Equal(w.asked[1].Hosts, []string{"web1"}) || w.asked[1].IdempotencyKey == "k" {
		t.Errorf("asked for %+v", w.asked)
	}
	wantRedirect(t, "resume", w.post(t, "/plans/laptops/resume", nil), "/plans/laptops")
	wantRedirect(t, "accept", w.post(t, "/plans/web1-daily/accept", url.Values{"host": {"web1"}, "repository": {"web1-main"}, "reason": {" cleaned up "}}), "/plans/web1-daily")
	wantRedirect(t, "test", w.post(t, "/plans/web1-daily/restore-test", url.Values{"host": {"web1"}, "repository": {"web1-main"}}), "/jobs/"+string(goodBackup))
	wantRedirect(t, "cancel", w.post(t, "/runs/"+openRun+"/cancel", nil), "/runs/"+openRun)
	wantRedirect(t, "pause", w.post(t, "/plans/web1-daily/pause", url.Values{"for": {"7d"}, "reason": {"moving"}}), "/plans/web1-daily")
	wantRedirect(t, "pause without end", w.post(t, "/plans/web1-daily/pause", nil), "/plans/web1-daily")
	wantRedirect(t, "pause until", w.post(t, "/plans/web1-daily/pause", url.Values{"until": {"2026-12-01 14:00"}}), "/plans/web1-daily")
	week, day := noon.Add(7*24*time.Hour), time.Date(2026, 12, 1, 14, 0, 0, 0, time.UTC)
	if diff := cmp.Diff([]*time.Time{&week, nil, &day}, w.until); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	wantPage(t, "remove, not typed", w.post(t, "/plans/web1-daily/remove", url.Values{"confirm": {"web"}}), http.StatusBadRequest, "to confirm")
	wantRedirect(t, "remove", w.post(t, "/plans/web1-daily/remove", url.Values{"confirm": {"web1-daily"}}), "/plans")
	want := []string{
		"run web1-daily", "run web1-daily", "resume laptops", "accept web1-daily web1 web1-main cleaned up", "test web1-daily web1 web1-main", "cancel run " + openRun,
		"pause web1-daily moving", "pause web1-daily ", "pause web1-daily ", "remove plan web1-daily",
	}
	if diff := cmp.Diff(want, w.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	for address, form := range map[string]url.Values{"both": {"for": {"7d"}, "until": {"2026-12-01"}}, "past": {"until": {"2026-01-01"}}, "words": {"for": {"long"}}, "nonsense": {"until": {"soon"}}} {
		if got := w.post(t, "/plans/web1-daily/pause", form); got.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", address, got.Code)
		}
	}
}

func TestRefusedPlanActions(t *testing.T) {
	w := rich()
	w.refuse = job.Fail(job.Conflict, "the run is already over")
	for address, text := range map[string]string{
		"/plans/web1-daily/run": "web1-daily", "/plans/web1-daily/resume": "web1-daily", "/runs/" + openRun + "/cancel": "Run of web1-daily",
		"/silences/" + silently + "/end": "open alerts", "/notifications/targets/ops/test": "Notifications",
	} {
		wantPage(t, address, w.post(t, address, nil), http.StatusConflict, "The run is already over", text, `role="alert"`)
	}
	w.refuse = job.Fail(job.NotAllowed, "a viewer may not do that")
	for _, address := range []string{"/plans/web1-daily/run", "/runs/" + openRun + "/cancel", "/silences/" + silently + "/end", "/notifications/targets/ops/test"} {
		wantPage(t, address, w.post(t, address, nil), http.StatusForbidden, "viewer may not do that")
	}
	for address, to := range map[string]string{
		"/plans/web1-daily/run": "/plans/web1-daily", "/plans/web1-daily/accept": "/plans/web1-daily", "/runs/" + openRun + "/cancel": "/runs/" + openRun,
		"/silences/x/end": "/alerts", "/notifications/targets/ops/test": "/notifications", "/notifications/rules": "/notifications",
	} {
		wantRedirect(t, address, w.get(t, address), to)
	}
	wantPage(t, "nothing", rich().post(t, "/plans/nothing/pause", nil), http.StatusNotFound, "unknown_plan")
	w = rich()
	w.broken = errors.New("store: disk on fire")
	for _, address := range []string{"/plans", "/plans/web1-daily", "/runs/" + openRun, "/calendar", "/alerts", "/notifications"} {
		wantPage(t, address, w.get(t, address), http.StatusInternalServerError, "disk on fire")
	}
}

func TestPlanAsText(t *testing.T) {
	w := rich()
	page := w.get(t, "/plans/web1-daily/change")
	wantPage(t, "change", page, http.StatusOK, "Change web1-daily", "keep_daily: 7", "hook: postgres-dump", "plan change web1-daily -f plan.yaml")
	spec := w.plans[2].PlanSpec
	text := page.Body.String()
	text = text[strings.Index(text, `autocapitalize="none">`)+len(`autocapitalize="none">`):]
	text = strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(text[:strings.Index(text, "</textarea>")])
	wantRedirect(t, "as it was", w.post(t, "/plans/web1-daily/change", url.Values{"text": {strings.ReplaceAll(text, "\n", "\r\n")}}), "/plans/web1-daily")
	if diff := cmp.Diff([]fleet.PlanSpec{spec}, w.specs); diff != "" {
		t.Errorf("what the page shows is another plan (-want +got):\n%s", diff)
	}
	wantRedirect(t, "new", w.post(t, "/new-plan", url.Values{"name": {"x"}, "text": {"hosts: [a]\nrepositories: [b]\npaths: [/c]"}}), "/plans/x")
	for name, test := range map[string]struct{ text, want string }{
		"no YAML":       {"hosts: [a\n\tb: *", "is no YAML"},
		"misspelt":      {"host: [<a>]", "unknown field"},
		"wrong type":    {"hosts: 7", "expected"},
		"several words": {"- a", "expected"},
	} {
		got := w.post(t, "/new-plan", url.Values{"name": {"y"}, "text": {test.text}})
		wantPage(t, name, got, http.StatusBadRequest, "Nothing was changed", test.want, `value="y"`, strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(test.text))
	}
	w.refuse = errors.Join(job.Invalid("schedule.cron", "31 February never comes"), job.Invalid("name", "%q is not a plan's name", "y"))
	wantPage(t, "all faults", w.post(t, "/new-plan", url.Values{"name": {"y"}, "text": {"hosts: [a]"}}), http.StatusBadRequest, "31 February never comes", "is not a plan&#39;s name", `class="fault"`)
	wantPage(t, "like another", rich().get(t, "/new-plan?like=db-hourly"), http.StatusOK, "hosts:\n- db1\n- db2")
}

func TestPlansArePaged(t *testing.T) {
	w := rich()
	w.plans, w.runs = nil, nil
	for i := range 250 {
		w.plans = append(w.plans, aPlan("plan-"+string(id(1000 + i))[20:], fleet.Fresh, "web1"))
		w.runs = append(w.runs, fleet.Run{ID: string(id(2000 - i)), Plan: w.plans[0].Name, State: fleet.RunSucceeded, Due: noon, StartedAt: noon, FinishedAt: &noon})
	}
	for first, want := range map[string]int{"/plans": 3, "/plans/" + w.plans[0].Name: 13} {
		address, pages, seen := first, 0, map[string]bool{}
		for ; address != "" && pages < 100; pages++ {
			page := w.get(t, address).Body.String()
			checkMarkup(t, address, page)
			for _, match := range anyID.FindAllStringSubmatch(page, -1) {
				if strings.HasPrefix(match[1], "plan-plan-") || strings.HasPrefix(match[1], "run-0") {
					seen[match[1]] = true
				}
			}
			address = ""
			if _, rest, more := strings.Cut(page, `rel="next" href="`); more {
				address, _, _ = strings.Cut(rest, `"`)
				address = strings.ReplaceAll(strings.TrimSuffix(address, "#plan-runs"), "&amp;", "&")
			}
		}
		if pages != want || len(seen) != 250 {
			t.Errorf("%s: %d pages with %d rows, want %d with 250", first, pages, len(seen), want)
		}
	}
	w.calendar = make([]fleet.Occurrence, 20_001)
	wantPage(t, "too much is due", w.get(t, "/calendar"), http.StatusBadRequest, "more than 20000 runs")
}

func TestScheduleInWords(t *testing.T) {
	for cron, want := range map[string]string{
		"0 2 * * *": "every day at 02:00, UTC", "@daily": "every day at 00:00, UTC", "5 * * * *": "every hour, at minute 5, UTC", "*/15 * * * *": "every 15 minutes, UTC",
		"30 22 * * 1-5": "Monday to Friday at 22:30, UTC", "0 4 * * 0": "every Sunday at 04:00, UTC", "0 4 * * 7": "every Sunday at 04:00, UTC", "0 4 1 * *": "on day 1 of every month at 04:00, UTC",
		"0 4 1 1 *": "by the cron expression 0 4 1 1 *, UTC", "0,30 4 * * *": "by the cron expression", "0 4 1 * 1": "by the cron expression", "0 */6 * * *": "by the cron expression", "x": "by the cron expression x",
	} {
		w := rich()
		w.plans[0].Schedule = &fleet.Schedule{Cron: cron}
		wantPage(t, cron, w.get(t, "/plans/db-hourly"), http.StatusOK, want)
	}
	for want, schedule := range map[string]*fleet.Schedule{"only when somebody runs it": nil, "every 6h": {Every: "6h"}} {
		w := rich()
		w.plans[0].Schedule = schedule
		wantPage(t, want, w.get(t, "/plans/db-hourly"), http.StatusOK, want)
	}
}

func TestSilence(t *testing.T) {
	w := rich()
	wantPage(t, "form", w.get(t, "/alerts/silence?kind=overdue&host=db2"), http.StatusOK, `value="overdue"`, `value="db2"`, "alert silence --kind overdue --host db2 --for 8h")
	wantRedirect(t, "silence", w.post(t, "/alerts/silence?kind=overdue", url.Values{"kind": {""}, "host": {"db2"}, "for": {"2d"}, "reason": {"known"}}), "/alerts")
	wantRedirect(t, "by default", w.post(t, "/alerts/silence", url.Values{"plan": {"web*"}, "reason": {"known"}}), "/alerts")
	want := []fleet.Silence{{Host: "db2", Reason: "known", Until: noon.Add(48 * time.Hour)}, {Plan: "web*", Reason: "known", Until: noon.Add(8 * time.Hour)}}
	if diff := cmp.Diff(want, w.quiet); diff != "" {
		t.Errorf("silences (-want +got):\n%s", diff)
	}
	w.refuse = job.Invalid("host", "says nothing")
	wantPage(t, "refused", w.post(t, "/alerts/silence", url.Values{"reason": {"all of <it>"}}), http.StatusBadRequest, "says nothing", `value="all of &lt;it&gt;"`)
	w.refuse = nil
	wantRedirect(t, "end", w.post(t, "/silences/"+silently+"/end", nil), "/alerts")
}

// What somebody types of a target's secrets is passed on, and never shown again.
func TestSecretsOfTargets(t *testing.T) {
	w := rich()
	form := url.Values{"name": {"ops"}, "kind": {"webhook"}, "url": {" " + typedAddress + " "}, "secret": {typedKey}, "off": {"1"}}
	wantRedirect(t, "target", w.post(t, "/notifications/targets", form), "/notifications")
	if got := w.put[0]; string(got.URL.Reveal()) != typedAddress || string(got.Secret.Reveal()) != typedKey || got.Name != "ops" || got.Kind != "webhook" || !got.Disabled {
		t.Errorf("put %+v", got)
	}
	form.Set("name", "not a name")
	for _, refuse := range []error{nil, job.Fail(job.Conflict, "a rule needs it"), errors.New("store: disk on fire")} {
		w.refuse = refuse
		if refuse != nil {
			form.Set("name", "ops")
		}
		got := w.post(t, "/notifications/targets", form)
		page := got.Body.String()
		checkMarkup(t, "refused", page)
		if got.Code < 400 || strings.Contains(page, "SECRET-") {
			t.Errorf("status %d; the page must refuse, and repeat no secret", got.Code)
		}
		if got.Code < 500 && (got.Header().Get("Cache-Control") != "no-store" || !strings.Contains(page, `value="`+form.Get("name")+`"`) || !strings.Contains(page, `<option value="webhook" selected>`)) {
			t.Error("the form must keep what is no secret, and nobody may keep the form")
		}
	}
}

func TestNotificationForms(t *testing.T) {
	w := rich()
	wantRedirect(t, "test", w.post(t, "/notifications/targets/ops/test", nil), "/notifications?tested="+tested)
	wantRedirect(t, "rule", w.post(t, "/notifications/rules", url.Values{
		"name": {"nights"}, "targets": {"ops, pager"}, "severity": {"critical"}, "kinds": {"overdue failed"}, "labels": {"site = berlin\r\nrole=db"}, "days": {"mon tue"}, "hours": {"20:00-08:00"},
		"repeat": {"0s"}, "runs": {"start failure"}, "no_resolved": {"1"},
	}), "/notifications")
	want := []fleet.Rule{{
		Name: "nights", Targets: []string{"ops", "pager"}, Severity: fleet.SeverityCritical, Kinds: []string{"overdue", "failed"}, Labels: map[string]string{"site": "berlin", "role": "db"},
		Days: []string{"mon", "tue"}, Hours: "20:00-08:00", Repeat: "0s", Runs: []string{"start", "failure"}, NoResolved: true, Hosts: []string{}, Plans: []string{},
	}}
	if diff := cmp.Diff(want, w.putRules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	wantPage(t, "bad label", w.post(t, "/notifications/rules", url.Values{"name": {"x"}, "labels": {"alone"}}), http.StatusBadRequest, "has no value", ">alone</textarea>", `class="fault"`)
	wantRedirect(t, "remove rule", w.post(t, "/notifications/rules/nights/remove", nil), "/notifications")
	wantRedirect(t, "remove target", w.post(t, "/notifications/targets/pager/remove", nil), "/notifications")
	wantPage(t, "no rule", w.get(t, "/notifications/rules/x/remove"), http.StatusNotFound, "There is no rule")
	wantPage(t, "no target", w.get(t, "/notifications/targets/x/remove"), http.StatusNotFound, "There is no target")
	wantPage(t, "operator", rich().as(bus.Operator).get(t, "/alerts"), http.StatusOK)
	if page := rich().as(bus.Operator).get(t, "/alerts").Body.String(); strings.Contains(page, `href="/notifications"`) {
		t.Error("an operator is led to a page for admins")
	}
	if got := rich().as(bus.Operator).post(t, "/notifications/targets", url.Values{"name": {"a b"}}); got.Code != http.StatusForbidden {
		t.Errorf("an operator who sends the form: status %d, want 403", got.Code)
	}
}

func TestPlansAreLive(t *testing.T) {
	w := rich()
	list, one, elsewhere := w.listen(t, "/plans"), w.listen(t, "/plans/db-hourly"), w.listen(t, "/hosts/web1")
	for _, messages := range []<-chan message{list, one, elsewhere} {
		until(t, messages, "the beginning", anything)
	}
	w.change(feed.Update{Type: feed.PlanChanged, Plan: "db-hourly"}, func() { w.plans[0].State = fleet.Fresh })
	until(t, list, "the plan", func(m message) bool { return strings.Contains(m.Fragments["plans-summary"], "1 suspicious") })
	until(t, one, "the plan", func(m message) bool { return strings.Contains(m.Fragments["plan-head"], ">fresh</span>") })
	w.change(feed.Update{Type: feed.AlertChanged, Alert: &fleet.Alert{ID: alertOne}}, func() { w.alerts[0].ResolvedAt = &noon })
	m := until(t, elsewhere, "the count", func(m message) bool { return m.Fragments["nav-alerts"] != "" })
	if !strings.Contains(m.Fragments["nav-alerts"], ">1<") || len(m.Fragments) != 1 {
		t.Errorf("got %s", m.raw)
	}
}

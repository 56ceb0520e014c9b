package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/httpapi"
	"github.com/borgfleet/borgfleet/shared/job"
)

const planBody = `{"name":"daily","hosts":["web1"],"repositories":["main"],"paths":["/etc"],"schedule":{"cron":"0 2 * * *"},"retention":{"keep_daily":7},"hooks":{"before":["dump"]}}`

func TestAPlanTravelsWhole(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/plans", planBody))
	if answer.Code != http.StatusCreated || answer.Header().Get("Location") != "/api/v1/plans/daily" {
		t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	want := fleet.PlanSpec{
		Hosts: []string{"web1"}, Repositories: []string{"main"}, Schedule: &fleet.Schedule{Cron: "0 2 * * *"}, Retention: &fleet.Retention{KeepDaily: 7},
	}
	want.Paths, want.Hooks = []string{"/etc"}, &job.Hooks{Before: []string{"dump"}}
	check(t, "spec", want, s.planner.plans["daily"].PlanSpec)
	answer = s.do(request("PUT", "/api/v1/plans/daily", `{"content_from":"dump","repositories":["main"],"hosts":["web1"]}`))
	view := decode[fleet.PlanView](t, answer.Body.Bytes())
	if answer.Code != http.StatusOK || view.ContentFrom != "dump" || view.Schedule != nil {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
	if answer := s.do(request("DELETE", "/api/v1/plans/daily", "")); answer.Code != http.StatusNoContent {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}

func TestAllFaultsOfAPlanAreTold(t *testing.T) {
	s := serve(t, nil)
	answer := s.do(request("POST", "/api/v1/plans", `{"name":"daily","repositories":[]}`))
	problem := decode[httpapi.Problem](t, answer.Body.Bytes())
	if answer.Code != http.StatusBadRequest || problem.Detail != "repositories: is empty; hosts: is empty" || problem.Hint != "name at least one" || len(problem.Errors) != 2 {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}

func TestBadPlanRequests(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"an unknown key":          {"POST", "/plans", `{"name":"x","repositorys":["main"]}`, 400, "repositorys"},
		"an unknown key inside":   {"PUT", "/plans/daily", `{"schedule":{"chron":"0 2 * * *"}}`, 400, "chron"},
		"of the wrong type":       {"PUT", "/plans/daily", `{"paths":"/etc"}`, 400, "paths"},
		"no such plan":            {"GET", "/plans/weekly", "", 404, `there is no plan`},
		"no plan's name":          {"GET", "/plans/Daily", "", 400, "a plan's name"},
		"no such run":             {"GET", "/runs/01JD9X7Q2M4T6W8Y0ABCDEFGHJ", "", 404, "there is no run"},
		"no run's id":             {"POST", "/runs/x/cancel", "", 400, "a run's id"},
		"runs of no plan":         {"GET", "/plans/weekly/runs", "", 404, "there is no plan"},
		"no state of runs":        {"GET", "/runs?state=done", "", 400, "state"},
		"no state of freshness":   {"GET", "/freshness?state=old", "", 400, "state"},
		"a calendar backwards":    {"GET", "/calendar?from=2026-11-23T00:00:00Z&to=2026-11-22T00:00:00Z", "", 400, "query.to"},
		"a calendar of a year":    {"GET", "/calendar?from=2026-11-23T00:00:00Z&to=2027-11-22T00:00:00Z", "", 400, "query.to"},
		"two keys":                {"POST", "/plans/daily/run", `{"idempotency_key":"a"}`, 400, "idempotency_key"},
		"accepting without which": {"POST", "/plans/daily/accept", `{"reason":"so"}`, 400, "host"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, nil)
			s.planner.put("daily")
			r := request(c.method, "/api/v1"+c.path, c.body)
			if name == "two keys" {
				r.Header.Set("Idempotency-Key", "b")
			}
			answer := s.do(r)
			if answer.Code != c.status || !strings.Contains(answer.Body.String(), c.says) {
				t.Errorf("%d: %s", answer.Code, answer.Body)
			}
			for _, asked := range s.planner.asked {
				if asked != "show daily" {
					t.Errorf("asked for: %s", asked)
				}
			}
		})
	}
}

// A plan is run in three ways, which come to the same.
func TestRunAPlan(t *testing.T) {
	for name, c := range map[string]struct {
		path, body string
		want       fleet.RunRequest
	}{
		"at the plan":                {"/plans/daily/run", `{"hosts":["web1"],"idempotency_key":"k"}`, fleet.RunRequest{Hosts: []string{"web1"}, IdempotencyKey: "k"}},
		"at the plan without a body": {"/plans/daily/run", "", fleet.RunRequest{}},
		"as a job":                   {"/jobs", `{"plan":"daily","idempotency_key":"k"}`, fleet.RunRequest{IdempotencyKey: "k"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, nil)
			s.planner.put("daily")
			answer := s.do(request("POST", "/api/v1"+c.path, c.body))
			if answer.Code != http.StatusCreated || answer.Header().Get("Location") != "/api/v1/runs/"+runID {
				t.Fatalf("%d: %s", answer.Code, answer.Body)
			}
			start := decode[httpapi.PlanStart](t, answer.Body.Bytes())
			if start.Run.ID != runID || len(start.Jobs) != 1 || start.Jobs[0].Run != runID || start.Run.Tasks == nil {
				t.Errorf("answer %s", answer.Body)
			}
			check(t, "request", c.want, s.planner.request)
		})
	}
}

// What names a plan beside other things is for the job service to refuse.
func TestAPlanExcludesOtherFields(t *testing.T) {
	s := serve(t, nil)
	s.planner.put("daily")
	s.put("web1", "main")
	answer := s.do(request("POST", "/api/v1/jobs", `{"plan":"daily","host":"web1","kind":"backup","repository":"main","spec":{"paths":["/etc"]}}`))
	if len(s.planner.asked) != 0 || decode[job.Job](t, answer.Body.Bytes()).Plan != "daily" {
		t.Errorf("the plan ran: %q; %s", s.planner.asked, answer.Body)
	}
}

func TestPauseAcceptAndTest(t *testing.T) {
	s := serve(t, nil)
	s.planner.put("daily")
	for _, call := range []struct{ path, body string }{
		{"pause", `{"reason":"moved","until":"2026-12-01T00:00:00Z"}`}, {"pause", ""}, {"resume", ""},
		{"accept", `{"host":"web1","repository":"main","reason":"right"}`}, {"restore-test", `{"host":"web1","repository":"main"}`},
	} {
		if answer := s.do(request("POST", "/api/v1/plans/daily/"+call.path, call.body)); answer.Code >= 300 {
			t.Errorf("%s: %d: %s", call.path, answer.Code, answer.Body)
		}
		if strings.Contains(call.body, "until") && !s.planner.until.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("paused until %v", s.planner.until)
		}
	}
	check(t, "asked", []string{
		"pause (moved) daily", "pause () daily", "resume daily", "accept web1 main (right) of daily", "show daily", "restore-test web1 main of daily",
	}, s.planner.asked)
}

func TestRunsAreFiltered(t *testing.T) {
	s := serve(t, nil)
	s.planner.put("daily")
	s.planner.runs = []fleet.Run{{ID: runID, Plan: "daily", State: fleet.RunFailed}}
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	want := fleet.RunFilter{Plan: "daily", State: fleet.RunFailed, Since: since, Limit: 7, Cursor: "c"}
	for _, path := range []string{"/runs?plan=daily&", "/plans/daily/runs?"} {
		answer := s.do(request("GET", "/api/v1"+path+"state=failed&since=2026-11-01T00:00:00Z&limit=7&cursor=c", ""))
		check(t, "filter", want, s.planner.filter)
		if page := decode[fleet.RunPage](t, answer.Body.Bytes()); page.Cursor != "more" || len(page.Runs) != 1 {
			t.Errorf("%d: %s", answer.Code, answer.Body)
		}
	}
	answer := s.do(request("POST", "/api/v1/runs/"+runID+"/cancel", ""))
	if run := decode[fleet.Run](t, answer.Body.Bytes()); run.State != fleet.RunCancelled {
		t.Errorf("%d: %s", answer.Code, answer.Body)
	}
}

func TestFreshnessIsPagedAndFiltered(t *testing.T) {
	s := serve(t, nil)
	for _, host := range []string{"web2", "web1"} {
		for _, plan := range []string{"b", "a"} {
			state := map[string]fleet.FreshState{"a": fleet.Fresh, "b": fleet.Overdue}[plan]
			s.planner.freshness = append(s.planner.freshness, fleet.Freshness{Plan: plan, Host: host, Repository: "main", State: state})
		}
	}
	for name, c := range map[string]struct {
		query, cursor string
		want          []string
	}{
		"all":       {"", "", []string{"a web1", "a web2", "b web1", "b web2"}},
		"a page":    {"?limit=3", "b/web1/main", []string{"a web1", "a web2", "b web1"}},
		"the next":  {"?limit=3&cursor=b/web1/main", "", []string{"b web2"}},
		"overdue":   {"?state=overdue", "", []string{"b web1", "b web2"}},
		"of a host": {"?host=web2&plan=a&repository=main", "", []string{"a web2"}},
	} {
		t.Run(name, func(t *testing.T) {
			page := decode[httpapi.FreshnessPage](t, s.do(request("GET", "/api/v1/freshness"+c.query, "")).Body.Bytes())
			var got []string
			for _, f := range page.Freshness {
				got = append(got, f.Plan+" "+f.Host)
			}
			check(t, "freshness", c.want, got)
			check(t, "cursor", c.cursor, page.Cursor)
		})
	}
}

func TestCalendarIsOfADayAndBounded(t *testing.T) {
	s := serve(t, nil)
	s.planner.occurrences = make([]fleet.Occurrence, 10_003)
	answer := decode[httpapi.Calendar](t, s.do(request("GET", "/api/v1/calendar?from=2026-11-22T00:00:00Z", "")).Body.Bytes())
	if len(answer.Occurrences) != 10_000 || answer.Omitted != 3 || s.planner.to.Sub(s.planner.from) != 24*time.Hour || !answer.To.Equal(s.planner.to) {
		t.Errorf("%d and %d more, of %s to %s", len(answer.Occurrences), answer.Omitted, s.planner.from, s.planner.to)
	}
}

func TestPlansAndAlertsAreEvents(t *testing.T) {
	s := serve(t, nil)
	stream := openStream(t, s.url+"/api/v1/events")
	stream.next(t)
	s.feed.Publish(feed.Update{Type: feed.PlanChanged, Plan: "daily"})
	check(t, "plan", message{"2", "plan", `{"plan":"daily"}`}, stream.next(t))
	alert := s.watch.alert()
	s.feed.Publish(feed.Update{Type: feed.AlertChanged, Alert: &alert})
	if got := stream.next(t); got.Event != "alert" || !strings.Contains(got.Data, `"told":[]`) || !strings.Contains(got.Data, alertID) {
		t.Errorf("alert %+v", got)
	}
}

// A reader of one host's events is told of its alerts, and of no plans.
func TestAlertsOfAHost(t *testing.T) {
	s := serve(t, nil)
	s.put("web2", "main")
	stream := openStream(t, s.url+"/api/v1/events?host=web2")
	stream.next(t)
	for _, host := range []string{"web1", "web2"} {
		alert := s.watch.alert()
		alert.Host = host
		s.feed.Publish(feed.Update{Type: feed.PlanChanged, Plan: "daily"})
		alert.ID = host // else the second replaces the first
		s.feed.Publish(feed.Update{Type: feed.AlertChanged, Alert: &alert})
	}
	if got := stream.next(t); got.Event != "alert" || !strings.Contains(got.Data, `"host":"web2"`) {
		t.Errorf("%+v", got)
	}
}

// A coordinator without plans has no addresses for them.
func TestWithoutPlans(t *testing.T) {
	s := serve(t, func(o *httpapi.Options) { o.Plans, o.Alerts, o.Notifications = nil, nil, nil })
	for _, path := range []string{"/plans", "/alerts", "/targets"} {
		if answer := s.do(request("GET", "/api/v1"+path, "")); answer.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, answer.Code)
		}
	}
}

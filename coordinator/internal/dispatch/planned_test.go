package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/dispatch"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// planned is a backup that belongs to a run of a plan.
func planned(host, repository, run string) dispatch.Planned {
	p := dispatch.Planned{Request: backup(host, repository), Run: run, Series: host + "-daily-"}
	p.Plan, p.IdempotencyKey = "daily", fmt.Sprintf("run/%s/%s/%s/backup", run, host, repository)
	return p
}

func (w *world) plan(all ...dispatch.Planned) []dispatch.Submitted {
	w.t.Helper()
	answer, err := w.dispatch().SubmitPlanned(context.Background(), fleet.Actor{Name: "plan:daily"}, all)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

func TestSubmitPlanned(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		bad := planned("web9", "web", "R1")
		worse := planned("web2", "web", "R1")
		worse.Spec = json.RawMessage(`{"paths":["etc"]}`)
		all := []dispatch.Planned{planned("web1", "web", "R1"), bad, worse, planned("web2", "web", "R2"), planned("web1", "web", "R1")}
		all[0].RetryWait, all[0].Window = 90*time.Second, &job.Window{Hours: "00:00-23:59"}
		answer := w.plan(all...)
		for i, code := range []job.Code{"", job.UnknownHost, job.InvalidSpec, "", ""} {
			f, failed := errors.AsType[*job.Failure](answer[i].Err)
			if failed != (code != "") || failed && f.Code != code {
				t.Errorf("job %d: %v, want code %q", i, answer[i].Err, code)
			}
		}
		one := answer[0].Job
		if one.ID == "" || one.ID != answer[4].Job.ID || one.ID == answer[3].Job.ID {
			t.Errorf("jobs %s, %s and %s, want the first and the last alike", one.ID, answer[3].Job.ID, answer[4].Job.ID)
		}
		if one.Plan != "daily" || one.Run != "R1" || one.Series != "web1-daily-" || one.RetryWait != 90 || one.Window == nil {
			t.Errorf("it has lost something: %+v", one)
		}
		w.restart()
		again := w.plan(all...)
		for i := range again {
			if again[i].Job.ID != answer[i].Job.ID {
				t.Errorf("asked again, job %d is %s, and was %s", i, again[i].Job.ID, answer[i].Job.ID)
			}
		}
		if page, err := w.dispatch().Jobs(context.Background(), job.Filter{Plan: "daily"}); err != nil || len(page.Jobs) != 2 {
			t.Errorf("%d jobs of the plan, %v", len(page.Jobs), err)
		}
	})
}

func TestSubmitPlannedRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(p *dispatch.Planned)
		word   string
	}{
		"no plan":              {func(p *dispatch.Planned) { p.Plan = "" }, "plan"},
		"no key":               {func(p *dispatch.Planned) { p.IdempotencyKey = "" }, "key"},
		"hours of no clock":    {func(p *dispatch.Planned) { p.Window = &job.Window{Hours: "25:00-06:00"} }, "25:00"},
		"an unknown zone":      {func(p *dispatch.Planned) { p.Window = &job.Window{Hours: "22:00-06:00", Timezone: "Mars/Base"} }, "Mars"},
		"braces":               {func(p *dispatch.Planned) { p.Series = "{hostname}-" }, "braces"},
		"a slash":              {func(p *dispatch.Planned) { p.Series = "web/1-" }, "archive"},
		"a key of another run": {func(p *dispatch.Planned) { p.IdempotencyKey = "taken" }, "run"},
	}
	scenario(t, func(t *testing.T, w *world) {
		taken := planned("web1", "web", "R0")
		taken.IdempotencyKey = "taken"
		w.plan(taken)
		for name, test := range tests {
			p := planned("web1", "web", "R1")
			test.change(&p)
			if got := w.plan(p)[0]; got.Err == nil || !strings.Contains(got.Err.Error(), test.word) || got.Job.ID != "" {
				t.Errorf("%s: %v, want the word %q", name, got.Err, test.word)
			}
		}
	})
}

// TestSubmitPlannedAgainAfterAFault: nobody knows whether jobs were stored when the
// database does not answer, and asking again makes none twice.
func TestSubmitPlannedAgainAfterAFault(t *testing.T) {
	for name, stored := range map[string]bool{"stored": true, "not stored": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, []string{"web1", "web2"}, []string{"web"})
				broken := true
				w.dispatch().WrapApply(func(apply func(...store.Change) (uint64, error)) func(...store.Change) (uint64, error) {
					return func(changes ...store.Change) (uint64, error) {
						if !broken {
							return apply(changes...)
						}
						if stored {
							_, _ = apply(changes...)
						}
						return 0, syscall.EIO
					}
				})
				all := []dispatch.Planned{planned("web1", "web", "R1"), planned("web2", "web", "R1")}
				_, err := w.dispatch().SubmitPlanned(context.Background(), fleet.Actor{Name: "plan:daily"}, all)
				if err == nil {
					t.Fatal("no error")
				}
				broken = false
				w.plan(all...)
				page, err := w.dispatch().Jobs(context.Background(), job.Filter{})
				if err != nil || len(page.Jobs) != 2 {
					t.Errorf("%d jobs, %v, want 2", len(page.Jobs), err)
				}
			})
		})
	}
}

// TestArchivesOfSeries: names of two plans that begin in the same second never meet.
func TestArchivesOfSeries(t *testing.T) {
	scenario(t, func(t *testing.T, w *world) {
		other := planned("web1", "db", "R2")
		other.Plan, other.Series = "hourly", "web1-hourly-"
		third := planned("web1", "db", "R3")
		answer := w.plan(planned("web1", "db", "R1"), other, third)
		names := map[string]bool{}
		for range answer {
			synctest.Wait()
			for _, s := range answer {
				j := w.job(s.Job.ID)
				if j.State != job.Sent && j.State != job.Running {
					continue
				}
				name := j.Attempts[0].Archive
				if !strings.HasPrefix(name, j.Series+"2000-01-01T") || names[name] {
					t.Errorf("archive %s of series %s, among %v", name, j.Series, names)
				}
				names[name] = true
				w.agents["web1"].tell(first(j), succeeded())
				w.mustDeliver()
				break
			}
		}
		if len(names) != len(answer) {
			t.Errorf("archives %v", names)
		}
	})
}

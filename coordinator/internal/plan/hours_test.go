package plan_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestExpiry(t *testing.T) {
	evening := fleet.Schedule{Cron: "0 20 * * *", Window: "22:00-06:00", CatchUp: "1h"}
	hours := fleet.Schedule{Every: "1h", Window: "22:00-06:00"}
	for name, c := range map[string]struct {
		schedule   fleet.Schedule
		first, now time.Time
		delay      time.Duration
		want       time.Duration
	}{
		"no hours, made up until the next":    {fleet.Schedule{Every: "6h"}, day(1, "06:00"), day(1, "06:00"), 0, 6 * time.Hour},
		"no hours, later in its time":         {fleet.Schedule{Every: "6h"}, day(1, "06:00"), day(1, "09:00"), 0, 3 * time.Hour},
		"no hours, at most as long as said":   {fleet.Schedule{Every: "6h", CatchUp: "2h"}, day(1, "06:00"), day(1, "06:30"), 0, 90 * time.Minute},
		"never made up, it gets its turn":     {fleet.Schedule{Every: "6h", CatchUp: "0s"}, day(1, "06:00"), day(1, "06:00"), 0, 15 * time.Minute},
		"never made up, the next is due":      {fleet.Schedule{Every: "5m", CatchUp: "0s"}, day(1, "06:00"), day(1, "06:00"), 0, 5 * time.Minute},
		"made up from when its hours begin":   {evening, day(1, "20:00"), day(1, "20:00"), 0, 3 * time.Hour},
		"in its hours":                        {evening, day(1, "20:00"), day(1, "22:30"), 0, 30 * time.Minute},
		"at the end of its time":              {evening, day(1, "20:00"), day(1, "23:30"), 0, 15 * time.Minute},
		"not beyond the next":                 {hours, day(1, "12:00"), day(1, "12:00"), 0, time.Hour},
		"not beyond the next of its own host": {hours, day(1, "12:20"), day(1, "12:20"), 20 * time.Minute, time.Hour},
		"by hand, until the next":             {fleet.Schedule{Every: "6h"}, time.Time{}, day(1, "07:00"), 0, 5 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			table := timetable(t, c.schedule)
			late := table.CatchUp(table.Last(c.now.Add(-c.delay)))
			if got := plan.Expiry(table, c.first, c.now, c.delay, late); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestHours runs plans in their hours only: what is due before them waits, and what
// would wait until the next is due is left out, which is no fault.
func TestHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(t, 2, monday)
		evening, often := hourly(), hourly()
		evening.Schedule = &fleet.Schedule{Cron: "0 20 * * *", Window: "22:00-23:00", WindowEnds: true, CatchUp: "1h"}
		often.Schedule, often.Repositories, often.MaxAge = &fleet.Schedule{Every: "4h", Window: "03:00-09:00"}, []string{"main"}, "2d"
		s.add("evening", evening)
		s.add("often", often)
		s.until(day(0, "23:59"))
		var got []string
		for _, run := range s.runs("often") {
			got = append(got, run.Due.Format("15:04 ")+string(run.State))
		}
		if diff := cmp.Diff([]string{"04:00 succeeded", "08:00 succeeded", "12:00 skipped", "16:00 skipped", "20:00 skipped"}, got); diff != "" {
			t.Error(diff)
		}
		runs := s.runs("evening")
		if len(runs) != 1 || runs[0].State != fleet.RunSucceeded {
			t.Fatalf("%+v", runs)
		}
		for _, m := range s.machines() {
			for _, r := range m.ran {
				if r.Plan == "evening" && (r.at.Before(day(0, "22:00")) || r.at.Add(time.Duration(r.Timeout)*time.Second).After(day(0, "23:00"))) {
					t.Errorf("%s began at %s for %d seconds", m.name, r.at, r.Timeout)
				}
			}
		}
		if found := s.conditions(); len(found) > 0 {
			t.Errorf("%q", found)
		}
	})
}

// TestSequence runs hosts one after the other, the dumps and repositories of each
// one after the other, and leaves out those that come after a failure.
func TestSequence(t *testing.T) {
	for name, c := range map[string]struct {
		fails string // the host whose backups to the second repository fail
		want  []string
	}{
		"all goes well": {want: []string{
			"web02 second pg", "web02 second ", "web02 main pg", "web02 main ", "web01 second pg", "web01 second ", "web01 main pg", "web01 main ",
			"web03 second pg", "web03 second ", "web03 main pg", "web03 main ",
		}},
		"one fails": {fails: "web01", want: []string{
			"web02 second pg", "web02 second ", "web02 main pg", "web02 main ", "web01 second pg", "web01 second ", "web01 main pg", "web01 main ",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := simulate(t, 3, monday)
				var order []string
				s.fate = func(m *machine, o bus.Order) fate {
					order = append(order, fmt.Sprint(m.name, " ", o.Repository.Name, " ", dumpOf(decoded(t, o))))
					if m.name == c.fails && o.Repository.Name == "second" {
						return fate{length: time.Minute, state: job.Failed, failure: job.Fail(job.RefusedByHost, "refused")}
					}
					return fate{length: 10 * time.Minute, state: job.Succeeded, files: 9}
				}
				p := hourly()
				p.Hosts, p.Repositories, p.Dumps = []string{"web02", "web01", "web03"}, []string{"second", "main"}, []fleet.Dump{{Hook: "pg"}}
				p.Order, p.StopOnFailure, p.Schedule = fleet.Sequential, true, &fleet.Schedule{Every: "8h", Jitter: "20m"}
				s.add("one-by-one", p)
				s.until(day(0, "15:00"))
				if diff := cmp.Diff(c.want, order); diff != "" {
					t.Error(diff)
				}
				if runs := s.runs("one-by-one"); len(runs) != 1 || runs[0].FinishedAt == nil || (runs[0].State == fleet.RunSucceeded) != (c.fails == "") {
					t.Errorf("%+v", runs)
				}
			})
		})
	}
}

// decoded is the job of an order.
func decoded(t *testing.T, o bus.Order) job.Job {
	t.Helper()
	spec, err := job.ParseSpec(o.Kind, o.Spec)
	if err != nil {
		t.Error(err)
	}
	return job.Job{Kind: o.Kind, Spec: spec}
}

package plan_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

func nightly() fleet.PlanSpec {
	return fleet.PlanSpec{
		Selector: map[string]string{"role": "web"}, Repositories: []string{"main"}, BackupSpec: job.BackupSpec{Paths: []string{"/srv"}},
		Schedule:  &fleet.Schedule{Cron: "30 2 * * *", Timezone: "Europe/Berlin", Jitter: "30m"},
		Retention: &fleet.Retention{KeepDaily: 7}, After: []job.Kind{job.Prune, job.Compact},
		Check: &fleet.CheckPolicy{Every: "60h"}, RestoreTest: &fleet.RestoreTest{Every: "30d", Canary: true},
	}
}

func hourly() fleet.PlanSpec {
	return fleet.PlanSpec{
		Hosts: []string{"web01", "web02"}, Repositories: []string{"second"}, BackupSpec: job.BackupSpec{Paths: []string{"/etc"}},
		Schedule: &fleet.Schedule{Every: "4h"},
	}
}

// monday is the first day of the week in which clocks go forward in Berlin.
var monday = time.Date(2026, 3, 23, 0, 0, 0, 0, time.UTC)

func day(n int, clock string) time.Time {
	at, err := time.Parse("15:04", clock)
	if err != nil {
		panic(err) // a fault of the test
	}
	return monday.AddDate(0, 0, n).Add(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
}

// TestWeek is a week of twenty hosts: a plan for all of them each night, and one for
// two of them every four hours. One host is off for two days, and the coordinator
// dies at bad moments.
func TestWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(t, 20, monday)
		s.add("nightly", nightly())
		s.add("hourly", hourly())
		quiet := func(at time.Time) {
			t.Helper()
			s.until(at)
			if found := s.conditions(); len(found) > 0 {
				t.Errorf("at %s: %q", at, found)
			}
		}
		quiet(day(1, "12:00"))
		s.turn("web07", false) // Tuesday at noon
		quiet(day(2, "12:00"))
		s.kill() // on Wednesday, as a run begins, and over 16:00 and 20:00
		time.Sleep(day(2, "21:30").Sub(s.now()))
		s.open()
		s.start()
		quiet(day(2, "23:00"))
		s.until(day(3, "04:00")) // Wednesday's run of web07 was not taken until Thursday's was due
		want := []string{"missed nightly web07", "overdue nightly web07"}
		if diff := cmp.Diff(want, s.conditions()); diff != "" {
			t.Errorf("while web07 is away:\n%s", diff)
		}
		s.until(day(3, "12:00"))
		s.turn("web07", true)
		quiet(day(3, "13:00"))
		quiet(day(4, "01:00"))
		s.crash(false) // on Friday, the run is stored and its jobs are not
		quiet(day(4, "12:00"))
		quiet(day(5, "01:00"))
		s.crash(true) // on Saturday, the jobs are stored and the run does not know
		quiet(day(6, "23:50"))
		checkNights(t, s)
		checkHours(t, s)
		checkCare(t, s)
		if err := s.store.Check(); err != nil {
			t.Error(err)
		}
	})
}

// checkNights checks the runs of all hosts.
func checkNights(t *testing.T, s *simulation) {
	t.Helper()
	var got, want []string
	delays := map[string]time.Duration{}
	for _, run := range s.runs("nightly") {
		got = append(got, fmt.Sprint(run.Due.Format("Mon 15:04"), " ", run.Trigger, " ", run.State, " ", count(run, job.Backup), " ", count(run, job.Prune)))
		for _, task := range run.Tasks {
			if task.Kind != job.Backup {
				continue
			}
			delay := task.NotBefore.Sub(run.Due)
			if before, known := delays[task.Host]; known && before != delay || delay < 0 || delay >= 30*time.Minute {
				t.Errorf("%s begins %s after %s, and %s on another day", task.Host, delay, run.Due, before)
			}
			delays[task.Host] = delay
		}
	}
	for i, name := range []string{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"} {
		clock, state, backups := "01:30", "succeeded", 20
		if i == 2 { // web07 was away; the day after it was made up
			state, backups = "warning", 19
		}
		if i == 6 { // half past two is not there: it runs when the clock has gone forward
			clock = "01:00"
		}
		want = append(want, fmt.Sprint(name, " ", clock, " schedule ", state, " ", backups, " ", backups))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the nights:\n%s", diff)
	}
	slots := map[time.Duration]bool{}
	for _, delay := range delays {
		slots[delay] = true
	}
	if len(slots) < 15 {
		t.Errorf("%d hosts begin at %d moments", len(delays), len(slots))
	}
	for _, m := range s.machines() {
		expected := 7
		if m.name == "web07" {
			expected = 6
		}
		if got := s.backups(m.name, "nightly"); got != expected {
			t.Errorf("%s has run %d backups, want %d", m.name, got, expected)
		}
	}
}

func count(run fleet.Run, kind job.Kind) (good int) {
	for _, task := range run.Tasks {
		if task.Kind == kind && task.State == fleet.RunSucceeded {
			good++
		}
	}
	return good
}

// checkHours checks the runs of two hosts, during which the coordinator was away.
func checkHours(t *testing.T, s *simulation) {
	t.Helper()
	var got, want []string
	for _, run := range s.runs("hourly") {
		got = append(got, fmt.Sprint(run.Due.Format("Mon 15:04"), " ", run.Trigger, " ", run.State, " ", len(run.Tasks)))
	}
	for at := monday.Add(4 * time.Hour); at.Before(day(7, "00:00")); at = at.Add(4 * time.Hour) {
		trigger, state := "schedule", "succeeded"
		switch {
		case at.Equal(day(2, "16:00")): // not made up, as the one after it is
			continue
		case at.Equal(day(2, "20:00")):
			trigger = "catch_up"
		case at.Equal(day(2, "12:00")): // the coordinator died in it: what had not begun by 16:00 was missed
			state = "warning"
		}
		want = append(want, fmt.Sprint(at.Format("Mon 15:04"), " ", trigger, " ", state, " 2"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the hours:\n%s", diff)
	}
}

// checkCare checks what followed the nights' backups: space is freed each time, but
// for the run that ends soon after another had waited a day for web07, the
// repository is checked each third time, and each host's restoring is tested once.
func checkCare(t *testing.T, s *simulation) {
	t.Helper()
	got := map[job.Kind]int{}
	for _, run := range s.runs("nightly") {
		for _, kind := range []job.Kind{job.Compact, job.Check, job.TestRestore} {
			got[kind] += count(run, kind)
		}
	}
	if diff := cmp.Diff(map[job.Kind]int{job.Compact: 6, job.Check: 3, job.TestRestore: 20}, got); diff != "" {
		t.Error(diff)
	}
}

// TestAutumn goes over the night in which clocks go back: what is due in the hour
// that is there twice runs once, and what is due every so often does not care.
func TestAutumn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simulate(t, 2, time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC))
		s.add("nightly", nightly())
		s.add("hourly", hourly())
		s.until(time.Date(2026, 10, 26, 11, 30, 0, 0, time.UTC))
		var got []string
		for _, run := range s.runs("nightly") {
			got = append(got, run.Due.Format("Mon 15:04"))
		}
		if diff := cmp.Diff([]string{"Sun 00:30", "Mon 01:30"}, got); diff != "" {
			t.Errorf("the nights:\n%s", diff)
		}
		if runs := s.runs("hourly"); len(runs) != 11 {
			t.Errorf("%d runs every four hours, want 11", len(runs))
		}
		if found := s.conditions(); len(found) > 0 {
			t.Errorf("%q", found)
		}
	})
}

package schedule_test

import (
	"slices"
	"testing"
	"time"

	"github.com/adhocore/gronx"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
)

// samples are expressions of all sorts, with zones that change their clocks.
func samples() []fleet.Schedule {
	var all []fleet.Schedule
	for _, zone := range []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"} {
		for _, cron := range []string{"30 2 * * *", "*/7 * * * *", "0 */5 * * *", "17 1,2,3 * * 0", "*/13 2 * 3,10,11 *", "0 0 1 * *", "59 23 31 * *", "@hourly", "15 0-3 29 2,3 *"} {
			all = append(all, fleet.Schedule{Cron: cron, Timezone: zone})
		}
		all = append(all, fleet.Schedule{Every: "90m", Timezone: zone}, fleet.Schedule{Every: "61s", Timezone: zone})
	}
	return all
}

// TestProperties walks through three years of each sample in uneven steps.
func TestProperties(t *testing.T) {
	for _, s := range samples() {
		table := parse(t, s)
		end := at(t, "2028-03-10 00:00 +0000")
		step := 11*time.Hour + 7*time.Minute + 13*time.Second
		var before time.Time
		for now := at(t, "2025-09-01 00:00 +0000"); now.Before(end); now = now.Add(step) {
			next, last := table.Next(now), table.Last(now)
			if !next.After(now) || next.Before(before) {
				t.Fatalf("%+v: after %s comes %s, and before came %s", s, now, next, before)
			}
			if last.After(now) || last.IsZero() || !table.Next(last).Equal(next) {
				t.Fatalf("%+v: at %s the last was %s, after which %s comes, and not %s", s, now, last, table.Next(last), next)
			}
			if again := table.Last(next); !again.Equal(next) {
				t.Fatalf("%+v: the last at %s was %s", s, next, again)
			}
			if earlier := table.Last(next.Add(-1)); !earlier.Equal(last) {
				t.Fatalf("%+v: before %s was %s, and not %s", s, next, earlier, last)
			}
			before = next
		}
	}
}

// TestAgreesWithTheParser compares with the times that the parser's own search
// finds, in a zone that never changes its clocks.
func TestAgreesWithTheParser(t *testing.T) {
	for _, cron := range []string{"30 2 * * *", "*/7 * * * *", "17 1,2,3 * * 0", "*/13 2 * 3,10,11 *", "0 0 1 * mon", "59 23 31 * *", "15 0-3 29 2,3 *", "0 */5 */3 * 1-5"} {
		table := parse(t, fleet.Schedule{Cron: cron})
		due := at(t, "2026-01-30 12:00 +0000")
		for range 50 {
			want, err := gronx.NextTickAfter(cron, due, false)
			if err != nil {
				t.Fatal(err)
			}
			if due = table.Next(due); !due.Equal(want) {
				t.Fatalf("%s: %s, and not %s", cron, due, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.Cron, string(s.Every), s.Timezone, "15m", "1h", "22:00-06:00")
	}
	f.Add("0 0 31 2 *", "", "", "", "", "")
	f.Add("@every 1h", "1ns", "UTC+1", "-1s", "9999d", "24:00-24:00")
	f.Fuzz(func(t *testing.T, cron, every, zone, jitter, catchUp, window string) {
		s := fleet.Schedule{
			Cron: cron, Every: fleet.Span(every), Timezone: zone, Jitter: fleet.Span(jitter), CatchUp: fleet.Span(catchUp), Window: window,
		}
		table, err := schedule.Parse(s)
		if err != nil {
			if !slices.Contains(fields(t, err), "") {
				return
			}
			t.Fatalf("a fault without a field: %v", err)
		}
		now := time.Date(2026, 10, 24, 22, 58, 59, 0, time.UTC)
		for range 5 {
			next := table.Next(now)
			if next.IsZero() {
				return // it came for the last time long ago
			}
			if !next.After(now) || !table.Last(next).Equal(next) || table.CatchUp(next) < 0 {
				t.Fatalf("%+v: after %s comes %s, the last then is %s", s, now, next, table.Last(next))
			}
			if opens := table.Window().Opens(next); opens.Before(next) || !table.Window().Open(opens) {
				t.Fatalf("%+v: the window opens %s", s, opens)
			}
			now = next
		}
	})
}

func BenchmarkParse(b *testing.B) {
	s := fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin", Jitter: "15m", CatchUp: "12h", Window: "22:00-06:00"}
	for b.Loop() {
		parse(b, s)
	}
}

func BenchmarkNext(b *testing.B) {
	table := parse(b, fleet.Schedule{Cron: "0 2 * * *", Timezone: "Europe/Berlin"})
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		table.Next(now)
	}
}

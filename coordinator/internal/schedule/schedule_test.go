package schedule_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/shared/job"
)

func parse(t testing.TB, s fleet.Schedule) *schedule.Timetable {
	t.Helper()
	table, err := schedule.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func in(t testing.TB, zone string) *time.Location {
	t.Helper()
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	return location
}

// at reads a moment as 2026-03-29 01:30 +0100.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	moment, err := time.Parse("2006-01-02 15:04 -0700", text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// dues lists what is due after a moment until another one, by the clocks of a zone.
func dues(table *schedule.Timetable, from, to time.Time, zone *time.Location) []string {
	var all []string
	for due := table.Next(from); !due.IsZero() && !due.After(to); due = table.Next(due) {
		all = append(all, due.In(zone).Format("02 15:04 -0700"))
	}
	return all
}

func TestDaylightSaving(t *testing.T) {
	tests := map[string]struct {
		schedule fleet.Schedule
		from, to string
		want     []string
	}{
		"Berlin forward, a skipped hour": {
			fleet.Schedule{Cron: "30 2 * * *", Timezone: "Europe/Berlin"}, "2026-03-28 00:00 +0100", "2026-03-31 00:00 +0200",
			[]string{"28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"},
		},
		"Berlin forward, some minutes of a skipped hour run once": {
			fleet.Schedule{Cron: "*/20 2 * * *", Timezone: "Europe/Berlin"}, "2026-03-28 12:00 +0100", "2026-03-30 02:30 +0200",
			[]string{"29 03:00 +0200", "30 02:00 +0200", "30 02:20 +0200"},
		},
		"Berlin forward, hours around": {
			fleet.Schedule{Cron: "0 1,2,3 * * *", Timezone: "Europe/Berlin"}, "2026-03-29 00:00 +0100", "2026-03-29 12:00 +0200",
			[]string{"29 01:00 +0100", "29 03:00 +0200"},
		},
		"Berlin forward, each hour": {
			fleet.Schedule{Cron: "15 * * * *", Timezone: "Europe/Berlin"}, "2026-03-29 00:30 +0100", "2026-03-29 04:30 +0200",
			[]string{"29 01:15 +0100", "29 03:15 +0200", "29 04:15 +0200"},
		},
		"Berlin back, a repeated hour": {
			fleet.Schedule{Cron: "30 2 * * *", Timezone: "Europe/Berlin"}, "2026-10-24 00:00 +0200", "2026-10-27 00:00 +0100",
			[]string{"24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"},
		},
		"Berlin back, each hour": {
			fleet.Schedule{Cron: "15 * * * *", Timezone: "Europe/Berlin"}, "2026-10-25 00:30 +0200", "2026-10-25 03:30 +0100",
			[]string{"25 01:15 +0200", "25 02:15 +0200", "25 02:15 +0100", "25 03:15 +0100"},
		},
		"Berlin back, every second hour": {
			fleet.Schedule{Cron: "0 */2 * * *", Timezone: "Europe/Berlin"}, "2026-10-25 00:30 +0200", "2026-10-25 05:00 +0100",
			[]string{"25 02:00 +0200", "25 02:00 +0100", "25 04:00 +0100"},
		},
		"Berlin back, every 12 hours": {
			fleet.Schedule{Every: "12h", Timezone: "Europe/Berlin"}, "2026-10-24 12:00 +0200", "2026-10-26 12:00 +0100",
			[]string{"24 14:00 +0200", "25 02:00 +0200", "25 13:00 +0100", "26 01:00 +0100"},
		},
		"New York forward, a skipped hour": {
			fleet.Schedule{Cron: "15 2 * * *", Timezone: "America/New_York"}, "2026-03-07 12:00 -0500", "2026-03-09 12:00 -0400",
			[]string{"08 03:00 -0400", "09 02:15 -0400"},
		},
		"New York back, a repeated hour": {
			fleet.Schedule{Cron: "0,30 1 * * *", Timezone: "America/New_York"}, "2026-11-01 00:00 -0400", "2026-11-02 01:10 -0500",
			[]string{"01 01:00 -0400", "01 01:30 -0400", "02 01:00 -0500"},
		},
		"Lord Howe forward, a skipped half hour": {
			fleet.Schedule{Cron: "15 2 * * *", Timezone: "Australia/Lord_Howe"}, "2026-10-03 12:00 +1030", "2026-10-05 12:00 +1100",
			[]string{"04 02:30 +1100", "05 02:15 +1100"},
		},
		"Lord Howe forward, each quarter": {
			fleet.Schedule{Cron: "*/15 * * * *", Timezone: "Australia/Lord_Howe"}, "2026-10-04 01:20 +1030", "2026-10-04 03:00 +1100",
			[]string{"04 01:30 +1030", "04 01:45 +1030", "04 02:30 +1100", "04 02:45 +1100", "04 03:00 +1100"},
		},
		"Lord Howe back, a repeated half hour": {
			fleet.Schedule{Cron: "45 1 * * *", Timezone: "Australia/Lord_Howe"}, "2026-04-04 12:00 +1100", "2026-04-06 12:00 +1030",
			[]string{"05 01:45 +1100", "06 01:45 +1030"},
		},
		"Lord Howe back, each quarter": {
			fleet.Schedule{Cron: "*/15 * * * *", Timezone: "Australia/Lord_Howe"}, "2026-04-05 01:20 +1100", "2026-04-05 02:00 +1030",
			[]string{"05 01:30 +1100", "05 01:45 +1100", "05 01:30 +1030", "05 01:45 +1030", "05 02:00 +1030"},
		},
		"Beirut forward, at midnight": {
			fleet.Schedule{Cron: "@daily", Timezone: "Asia/Beirut"}, "2026-03-28 12:00 +0200", "2026-03-30 12:00 +0300",
			[]string{"29 01:00 +0300", "30 00:00 +0300"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			table := parse(t, test.schedule)
			got := dues(table, at(t, test.from), at(t, test.to), in(t, test.schedule.Timezone))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExpressions(t *testing.T) {
	tests := map[string]struct {
		schedule fleet.Schedule
		want     []string // the next after 2026-01-30 12:00 UTC
	}{
		"weekdays by name":       {fleet.Schedule{Cron: "0 2 * * mon-fri"}, []string{"2026-02-02 02:00", "2026-02-03 02:00"}},
		"Sunday as 7":            {fleet.Schedule{Cron: "0 2 * * 7"}, []string{"2026-02-01 02:00", "2026-02-08 02:00"}},
		"a date or a weekday":    {fleet.Schedule{Cron: "0 0 13 * fri"}, []string{"2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00"}},
		"a date and a weekday":   {fleet.Schedule{Cron: "0 0 */31 * sun"}, []string{"2026-02-01 00:00", "2026-03-01 00:00"}},
		"the 31st":               {fleet.Schedule{Cron: "0 0 31 * *"}, []string{"2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"}},
		"29 February":            {fleet.Schedule{Cron: "0 0 29 feb *"}, []string{"2028-02-29 00:00", "2032-02-29 00:00"}},
		"lists, ranges, steps":   {fleet.Schedule{Cron: "5,50-59/5 22-23 * JAN *"}, []string{"2026-01-30 22:05", "2026-01-30 22:50", "2026-01-30 22:55", "2026-01-30 23:05"}},
		"many spaces":            {fleet.Schedule{Cron: "  0  3 * * *  "}, []string{"2026-01-31 03:00"}},
		"midnight":               {fleet.Schedule{Cron: "@midnight"}, []string{"2026-01-31 00:00"}},
		"yearly":                 {fleet.Schedule{Cron: "@yearly"}, []string{"2027-01-01 00:00", "2028-01-01 00:00"}},
		"every six hours":        {fleet.Schedule{Every: "6h"}, []string{"2026-01-30 18:00", "2026-01-31 00:00"}},
		"every seven days":       {fleet.Schedule{Every: "7d"}, []string{"2026-02-05 00:00", "2026-02-12 00:00"}},
		"all hours said one way": {fleet.Schedule{Cron: "0 0-23 * * *"}, []string{"2026-01-30 13:00", "2026-01-30 14:00"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			table, due := parse(t, test.schedule), at(t, "2026-01-30 12:00 +0000")
			for _, want := range test.want {
				due = table.Next(due)
				if got := due.UTC().Format("2006-01-02 15:04"); got != want {
					t.Errorf("due %s, want %s", got, want)
				}
				if last := table.Last(due); !last.Equal(due) {
					t.Errorf("the last at %s is %s", due, last)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	cron := func(text string) fleet.Schedule { return fleet.Schedule{Cron: text} }
	tests := map[string]struct {
		schedule fleet.Schedule
		fields   []string
	}{
		"nothing":                   {fleet.Schedule{}, []string{"schedule.cron"}},
		"both":                      {fleet.Schedule{Cron: "@daily", Every: "1h"}, []string{"schedule.every"}},
		"31 February":               {cron("0 0 31 2 *"), []string{"schedule.cron"}},
		"30 or 31 February":         {cron("0 0 30,31 feb *"), []string{"schedule.cron"}},
		"31 of short months":        {cron("0 0 31 4,6,9,11 *"), []string{"schedule.cron"}},
		"four fields":               {cron("0 2 * *"), []string{"schedule.cron"}},
		"six fields":                {cron("0 0 2 * * *"), []string{"schedule.cron"}},
		"minute 60":                 {cron("60 2 * * *"), []string{"schedule.cron"}},
		"minute 60, with a step":    {cron("60/5 2 * * *"), []string{"schedule.cron"}},
		"hour 24":                   {cron("0 24 * * *"), []string{"schedule.cron"}},
		"day 0":                     {cron("0 0 0 * *"), []string{"schedule.cron"}},
		"month 13":                  {cron("0 0 * 13 *"), []string{"schedule.cron"}},
		"weekday 8":                 {cron("0 0 * * 8"), []string{"schedule.cron"}},
		"a range that goes back":    {cron("0 22-6 * * *"), []string{"schedule.cron"}},
		"a step of 0":               {cron("*/0 * * * *"), []string{"schedule.cron"}},
		"a name in the wrong place": {cron("mon 2 * * *"), []string{"schedule.cron"}},
		"a long name":               {cron("0 2 * * monday"), []string{"schedule.cron"}},
		"an empty item":             {cron("0,,5 2 * * *"), []string{"schedule.cron"}},
		"a range of three":          {cron("1-2-3 2 * * *"), []string{"schedule.cron"}},
		"what only others know":     {cron("0 2 L * *"), []string{"schedule.cron"}},
		"@reboot":                   {cron("@reboot"), []string{"schedule.cron"}},
		"a tag of the parser's":     {cron("@everysecond"), []string{"schedule.cron"}},
		"a very long one":           {cron(strings.Repeat("1,", 400) + "1 * * * *"), []string{"schedule.cron"}},
		"too often":                 {fleet.Schedule{Every: "59s"}, []string{"schedule.every"}},
		"hardly ever":               {fleet.Schedule{Every: "400d"}, []string{"schedule.every"}},
		"parts of a second":         {fleet.Schedule{Every: "60.5s"}, []string{"schedule.every"}},
		"no length":                 {fleet.Schedule{Every: "soon"}, []string{"schedule.every"}},
		"a zone that is none":       {fleet.Schedule{Every: "1h", Timezone: "Europe/Atlantis"}, []string{"schedule.timezone"}},
		"the machine's zone":        {fleet.Schedule{Every: "1h", Timezone: "Local"}, []string{"schedule.timezone"}},
		"a path as a zone":          {fleet.Schedule{Every: "1h", Timezone: "../../etc/passwd"}, []string{"schedule.timezone"}},
		"a window of no hours":      {fleet.Schedule{Every: "1h", Window: "22-6"}, []string{"schedule.window"}},
		"a window of nothing":       {fleet.Schedule{Every: "1h", Window: "22:00-22:00"}, []string{"schedule.window"}},
		"an end of no window":       {fleet.Schedule{Every: "1h", WindowEnds: true}, []string{"schedule.window_ends"}},
		"a window below jitter":     {fleet.Schedule{Cron: "@daily", Window: "22:00-22:30", Jitter: "1h"}, []string{"schedule.window"}},
		"catch-up above period":     {fleet.Schedule{Every: "6h", CatchUp: "7h"}, []string{"schedule.catch_up"}},
		"catch-up above a day":      {fleet.Schedule{Cron: "0 2 * * *", CatchUp: "25h"}, []string{"schedule.catch_up"}},
		"jitter above period":       {fleet.Schedule{Cron: "@hourly", Jitter: "2h"}, []string{"schedule.jitter"}},
		"negative jitter":           {fleet.Schedule{Cron: "@hourly", Jitter: "-2h"}, []string{"schedule.jitter"}},
		"all at once": {
			fleet.Schedule{Cron: "x", Timezone: "x", Jitter: "x", CatchUp: "x", Window: "x"},
			[]string{"schedule.timezone", "schedule.cron", "schedule.jitter", "schedule.catch_up", "schedule.window"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := schedule.Parse(test.schedule)
			if diff := cmp.Diff(test.fields, fields(t, err)); diff != "" {
				t.Errorf("%v: %s", err, diff)
			}
		})
	}
}

// fields returns what the faults of an error are about.
func fields(t *testing.T, err error) []string {
	t.Helper()
	var named []string
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		many = errors.Join(err).(interface{ Unwrap() []error })
	}
	for _, one := range many.Unwrap() {
		f, ok := one.(*job.Failure)
		if !ok || f.Code != job.InvalidRequest || f.Message == "" {
			t.Fatalf("%v is no failure that a person can read", one)
		}
		field, _, _ := strings.Cut(f.Message, ":")
		named = append(named, field)
	}
	return named
}

func TestCatchUpAndPeriod(t *testing.T) {
	tests := map[string]struct {
		schedule        fleet.Schedule
		due             string
		catchUp, period time.Duration
	}{
		"nothing said":          {fleet.Schedule{Every: "6h"}, "2026-01-05 06:00 +0000", 6 * time.Hour, 6 * time.Hour},
		"nothing said, weekly":  {fleet.Schedule{Cron: "@weekly"}, "2026-01-04 00:00 +0000", 24 * time.Hour, 7 * 24 * time.Hour},
		"said":                  {fleet.Schedule{Cron: "0 2 * * *", CatchUp: "12h"}, "2026-01-05 02:00 +0000", 12 * time.Hour, 24 * time.Hour},
		"never":                 {fleet.Schedule{Cron: "0 2 * * *", CatchUp: "0s"}, "2026-01-05 02:00 +0000", 0, 24 * time.Hour},
		"a weekly one's week":   {fleet.Schedule{Cron: "@weekly", CatchUp: "7d"}, "2026-01-04 00:00 +0000", 7 * 24 * time.Hour, 7 * 24 * time.Hour},
		"not beyond the next":   {fleet.Schedule{Cron: "0 2,3 * * *", CatchUp: "12h"}, "2026-01-05 02:00 +0000", time.Hour, time.Hour},
		"a short day":           {fleet.Schedule{Cron: "0 12 * * *", Timezone: "Europe/Berlin", CatchUp: "24h"}, "2026-03-28 12:00 +0100", 23 * time.Hour, 23 * time.Hour},
		"a long day":            {fleet.Schedule{Cron: "0 12 * * *", Timezone: "Europe/Berlin", CatchUp: "24h"}, "2026-10-24 12:00 +0200", 24 * time.Hour, 25 * time.Hour},
		"working days, Friday":  {fleet.Schedule{Cron: "0 2 * * 1-5", CatchUp: "36h"}, "2026-01-09 02:00 +0000", 36 * time.Hour, 72 * time.Hour},
		"working days, Tuesday": {fleet.Schedule{Cron: "0 2 * * 1-5", CatchUp: "36h"}, "2026-01-06 02:00 +0000", 24 * time.Hour, 24 * time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			table, due := parse(t, test.schedule), at(t, test.due)
			if got := table.CatchUp(due); got != test.catchUp {
				t.Errorf("catch-up of %s, want %s", got, test.catchUp)
			}
			if got := table.Period(due); got != test.period {
				t.Errorf("period of %s, want %s", got, test.period)
			}
		})
	}
}

// TestRareOnes: what comes once in many years has a period, and nothing within five
// years before may be too far away to be found.
func TestRareOnes(t *testing.T) {
	table := parse(t, fleet.Schedule{Cron: "0 0 29 2 */7", CatchUp: "1000d"})
	due := table.Next(at(t, "2026-01-01 00:00 +0000"))
	if due.Year() != 2032 || due.Weekday() != time.Sunday {
		t.Errorf("a Sunday that is a 29 February is due %s", due)
	}
	if last := table.Last(at(t, "2026-01-01 00:00 +0000")); !last.IsZero() {
		t.Errorf("it was due %s", last)
	}
	if period := table.Period(at(t, "2026-01-01 00:00 +0000")); period < 27*365*24*time.Hour {
		t.Errorf("period of %s", period)
	}
}

func TestDelay(t *testing.T) {
	const hosts, bins = 10_000, 20
	jitter := 15 * time.Minute
	table := parse(t, fleet.Schedule{Cron: "@daily", Jitter: "15m"})
	counts := make([]float64, bins)
	for i := range hosts {
		host := fmt.Sprintf("web%d", i)
		delay := table.Delay("daily", host)
		if delay < 0 || delay >= jitter || delay != table.Delay("daily", host) {
			t.Fatalf("delay of %s", delay)
		}
		counts[int(delay*bins/jitter)]++
	}
	var square float64 // Pearson's, with 19 degrees of freedom: above 43.8 once in a thousand
	for _, n := range counts {
		square += math.Pow(n-hosts/bins, 2) / (hosts / bins)
	}
	if square > 43.8 {
		t.Errorf("delays are not spread evenly: %v (%.1f)", counts, square)
	}
	if table.Delay("daily", "web1") == table.Delay("weekly", "web1") {
		t.Error("two plans of one host have the same delay")
	}
	if none := parse(t, fleet.Schedule{Cron: "@daily"}); none.Delay("daily", "web1") != 0 {
		t.Error("a delay without jitter")
	}
}

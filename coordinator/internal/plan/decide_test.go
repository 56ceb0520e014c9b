package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func timetable(t *testing.T, s fleet.Schedule) *schedule.Timetable {
	t.Helper()
	table, err := schedule.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestDecide(t *testing.T) {
	daily, never := fleet.Schedule{Cron: "0 2 * * *", CatchUp: "6h"}, fleet.Schedule{Cron: "0 2 * * *", CatchUp: "0s"}
	two := day(1, "02:00")
	for name, c := range map[string]struct {
		schedule           fleet.Schedule
		cursor, since, now time.Time
		due                time.Time
		want               string
	}{
		"before its time":               {daily, day(0, "02:00"), day(0, "00:00"), day(1, "01:59"), time.Time{}, "nothing"},
		"at its time":                   {daily, day(0, "02:00"), day(0, "00:00"), two, two, "on time"},
		"a moment late":                 {daily, day(0, "02:00"), day(0, "00:00"), two.Add(40 * time.Second), two, "on time"},
		"once":                          {daily, two, day(0, "00:00"), two.Add(time.Second), time.Time{}, "nothing"},
		"away over it":                  {daily, day(0, "02:00"), day(1, "02:00").Add(10 * time.Second), day(1, "02:00").Add(10 * time.Second), two, "catch up"},
		"away for hours":                {daily, day(0, "02:00"), day(1, "07:59"), day(1, "07:59"), two, "catch up"},
		"away for too long":             {daily, day(0, "02:00"), day(1, "08:00"), day(1, "08:00"), two, "missed"},
		"away for days, the newest":     {daily, day(-5, "02:00"), day(1, "03:00"), day(1, "03:00"), two, "catch up"},
		"the clock was set forward":     {daily, day(0, "02:00"), day(0, "00:00"), day(1, "04:00"), two, "catch up"},
		"never made up":                 {never, day(0, "02:00"), day(0, "00:00"), day(1, "02:05"), two, "missed"},
		"never made up, and on time":    {never, day(0, "02:00"), day(0, "00:00"), two, two, "on time"},
		"never made up, and just begun": {never, day(0, "02:00"), two.Add(time.Second), two.Add(time.Second), two, "missed"},
	} {
		t.Run(name, func(t *testing.T) {
			due, v := plan.Decide(timetable(t, c.schedule), c.cursor, c.since, c.now)
			got := map[any]string{plan.Nothing: "nothing", plan.OnTime: "on time", plan.CatchUp: "catch up", plan.Missed: "missed"}[v]
			if !due.Equal(c.due) || got != c.want {
				t.Errorf("%s %s, want %s %s", due, got, c.due, c.want)
			}
		})
	}
}

func TestCursorOf(t *testing.T) {
	now, past, ended, coming := day(1, "12:00"), day(1, "02:00"), day(1, "10:00"), day(2, "10:00")
	for name, c := range map[string]struct {
		cursor time.Time
		pause  *time.Time
		want   time.Time
	}{
		"as it was":            {past, nil, past},
		"a pause has ended":    {past, &ended, ended},
		"a pause is to end":    {past, &coming, past},
		"the clock went back":  {day(1, "15:00"), nil, now},
		"the clock was mended": {now.Add(30 * time.Second), nil, now.Add(30 * time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := plan.CursorOf(c.cursor, c.pause, now); !got.Equal(c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestWorst(t *testing.T) {
	for tasks, want := range map[string]fleet.RunState{
		"succeeded": "succeeded", "succeeded warning": "warning", "warning failed succeeded": "failed", "succeeded cancelled": "cancelled",
		"skipped": "skipped", "missed": "missed", "skipped missed": "missed", "succeeded skipped": "succeeded", "succeeded missed": "warning",
		"missed failed": "failed", "": "skipped",
	} {
		t.Run(tasks, func(t *testing.T) {
			var list []fleet.Task
			for _, state := range strings.Fields(tasks) {
				list = append(list, fleet.Task{State: fleet.RunState(state)})
			}
			if got := plan.Worst(list); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestKeysAreShortAndDiffer(t *testing.T) {
	long := strings.Repeat("h", 63)
	one := fleet.Task{Host: long, Repository: long, Kind: job.Backup, Dump: long}
	other := one
	other.Kind = job.Prune
	a, b := plan.KeyOf("01J", one), plan.KeyOf("01J", other)
	if a == b || len(a) > 200 || len(b) > 200 {
		t.Errorf("%q and %q", a, b)
	}
	if got := plan.KeyOf("01J", fleet.Task{Host: "web1", Repository: "main", Kind: job.Backup}); got != "run/01J/web1/main/backup" {
		t.Errorf("%q", got)
	}
}

// past makes a track of backups; each is files, megabytes, new megabytes.
func past(backups ...[3]int64) store.Track {
	track := store.Track{Plan: "daily", Host: "web1", Repository: "main"}
	for i, b := range backups {
		track.Samples = append(track.Samples, fleet.BackupSummary{
			Job: job.ID(rune('a' + i)), NFiles: b[0], OriginalSize: b[1] << 20, DeduplicatedSize: b[2] << 20, FinishedAt: day(i, "02:00"),
		})
	}
	return track
}

// usual is n backups that differ a little.
func usual(n int) [][3]int64 {
	var backups [][3]int64
	for i := range int64(n) {
		backups = append(backups, [3]int64{14_200 + 20*(i%10), 50_000 + 100*(i%7), 40 + 5*(i%3)})
	}
	return backups
}

func TestSuspect(t *testing.T) {
	tiny := [][3]int64{{5, 1, 1}, {6, 1, 1}, {5, 1, 1}, {6, 1, 1}, {5, 1, 1}, {6, 1, 1}, {5, 1, 1}, {6, 1, 1}}
	noisy := [][3]int64{{1000, 1000, 1}, {9000, 9000, 1}, {2000, 2000, 1}, {8000, 8000, 1}, {3000, 3000, 1}, {7000, 7000, 1}, {4000, 4000, 1}, {6000, 6000, 1}}
	for name, c := range map[string]struct {
		history  [][3]int64
		newest   [3]int64
		held     job.ID
		accepted job.ID
		want     string // a part of it; empty: not suspicious
	}{
		"as usual":                       {history: usual(20), newest: [3]int64{14_260, 50_300, 45}},
		"a little more":                  {history: usual(20), newest: [3]int64{16_000, 58_000, 900}},
		"files are gone":                 {history: usual(20), newest: [3]int64{3, 50_300, 45}, want: "3 files, usually 14,200 to 14,380"},
		"bytes are gone":                 {history: usual(20), newest: [3]int64{14_260, 700, 45}, want: "MB, usually"},
		"everything is new":              {history: usual(20), newest: [3]int64{14_260, 50_300, 49_000}, want: "of new data"},
		"no new data":                    {history: usual(20), newest: [3]int64{14_260, 50_300, 0}},
		"twice as many files":            {history: usual(20), newest: [3]int64{30_000, 50_300, 45}, want: "30,000 files"},
		"too few before":                 {history: usual(7), newest: [3]int64{3, 1, 0}},
		"just enough before":             {history: usual(8), newest: [3]int64{3, 1, 0}, want: "3 files"},
		"tiny":                           {history: tiny, newest: [3]int64{90, 60, 50}},
		"one odd one before":             {history: append(usual(12), [3]int64{1_000_000, 900_000, 800_000}), newest: [3]int64{14_260, 50_300, 45}},
		"varies much":                    {history: noisy, newest: [3]int64{9_500, 9_500, 1}},
		"varies much, and all is gone":   {history: noisy, newest: [3]int64{0, 0, 0}, want: "0 files"},
		"the level that was accepted":    {history: append(usual(12), [3]int64{3, 10, 0}), newest: [3]int64{4, 11, 0}, accepted: "m"},
		"the old level again":            {history: append(usual(12), [3]int64{3, 10, 0}), newest: [3]int64{14_260, 50_300, 45}, accepted: "m"},
		"a third level after accepting":  {history: append(usual(12), [3]int64{300, 90_000, 0}), newest: [3]int64{40_000, 50_300, 45}, accepted: "m", want: "40,000 files"},
		"held ones are no history":       {history: append(usual(9), make([][3]int64, 12)...), newest: [3]int64{0, 0, 0}, held: "j", want: "0 files"},
		"back to normal while it's held": {history: append(usual(9), make([][3]int64, 12)...), newest: [3]int64{14_260, 50_300, 45}, held: "j"},
	} {
		t.Run(name, func(t *testing.T) {
			track := past(append(c.history, c.newest)...)
			track.Accepted = c.accepted
			if c.held != "" {
				track.Held = &fleet.Suspicion{Job: c.held}
			}
			got := plan.Suspect(track, track.Samples[len(track.Samples)-1].Job)
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

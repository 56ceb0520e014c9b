package schedule_test

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
)

func TestWindows(t *testing.T) {
	const night, hour = "22:00-06:00", "02:00-03:00"
	tests := map[string]struct {
		hours, zone   string
		at            string
		opens, closes string // empty: at once; it is not open
	}{
		"by day":                  {"08:00-18:00", "", "2026-01-05 12:00 +0000", "", "2026-01-05 18:00 +0000"},
		"as it opens":             {"08:00-18:00", "", "2026-01-05 08:00 +0000", "", "2026-01-05 18:00 +0000"},
		"as it closes":            {"08:00-18:00", "", "2026-01-05 18:00 +0000", "2026-01-06 08:00 +0000", ""},
		"too early":               {"08:00-18:00", "", "2026-01-05 07:59 +0000", "2026-01-05 08:00 +0000", ""},
		"before midnight":         {night, "Europe/Berlin", "2026-01-05 23:00 +0100", "", "2026-01-06 06:00 +0100"},
		"after midnight":          {night, "Europe/Berlin", "2026-01-06 05:59 +0100", "", "2026-01-06 06:00 +0100"},
		"at noon":                 {night, "Europe/Berlin", "2026-01-06 12:00 +0100", "2026-01-06 22:00 +0100", ""},
		"another zone's noon":     {night, "Asia/Tokyo", "2026-01-06 15:00 +0000", "", "2026-01-06 21:00 +0000"},
		"until midnight":          {"20:00-24:00", "", "2026-01-05 23:59 +0000", "", "2026-01-06 00:00 +0000"},
		"a short night":           {night, "Europe/Berlin", "2026-03-28 23:00 +0100", "", "2026-03-29 06:00 +0200"},
		"a long night":            {night, "Europe/Berlin", "2026-10-24 23:00 +0200", "", "2026-10-25 06:00 +0100"},
		"the skipped hour":        {hour, "Europe/Berlin", "2026-03-29 00:00 +0100", "2026-03-29 03:00 +0200", ""},
		"after the skipped hour":  {hour, "Europe/Berlin", "2026-03-29 03:30 +0200", "", "2026-03-29 04:00 +0200"},
		"the repeated hour":       {hour, "Europe/Berlin", "2026-10-25 02:30 +0200", "", "2026-10-25 03:00 +0100"},
		"the hour that repeats":   {hour, "Europe/Berlin", "2026-10-25 02:30 +0100", "", "2026-10-25 03:00 +0100"},
		"its end repeats":         {"01:00-02:30", "Europe/Berlin", "2026-10-25 02:45 +0200", "", "2026-10-25 02:30 +0100"},
		"its beginning repeats":   {"02:30-05:00", "Europe/Berlin", "2026-10-25 02:10 +0100", "", "2026-10-25 05:00 +0100"},
		"New York's skipped hour": {hour, "America/New_York", "2026-03-08 01:00 -0500", "2026-03-08 03:00 -0400", ""},
		"New York's repeated one": {"01:00-02:00", "America/New_York", "2026-11-01 01:30 -0500", "", "2026-11-01 02:00 -0500"},
		"half of an hour skipped": {hour, "Australia/Lord_Howe", "2026-10-04 01:00 +1030", "2026-10-04 02:30 +1100", ""},
		"Lord Howe's repeated":    {"01:30-01:45", "Australia/Lord_Howe", "2026-04-05 01:40 +1100", "", "2026-04-05 01:45 +1030"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w, err := schedule.ParseWindow(test.hours, test.zone)
			if err != nil {
				t.Fatal(err)
			}
			now := at(t, test.at)
			opens, closes := now, time.Time{}
			if test.opens != "" {
				opens = at(t, test.opens)
			}
			if test.closes != "" {
				closes = at(t, test.closes)
			}
			if open := test.opens == ""; w.Open(now) != open {
				t.Errorf("open is %v", !open)
			}
			if got := w.Opens(now); !got.Equal(opens) {
				t.Errorf("opens %s, want %s", got, opens)
			}
			if got := w.Closes(now); !got.Equal(closes) {
				t.Errorf("closes %s, want %s", got, closes)
			}
		})
	}
}

func TestWindowsAlwaysOpen(t *testing.T) {
	for _, hours := range []string{"", "00:00-24:00"} {
		w, err := schedule.ParseWindow(hours, "Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		now := at(t, "2026-01-05 12:00 +0000")
		if !w.Always() || !w.Open(now) || !w.Opens(now).Equal(now) || !w.Closes(now).IsZero() || !w.Opened(now).IsZero() || w.String() != "" || w.Length() != 24*time.Hour {
			t.Errorf("%q is not always open: %s", hours, w)
		}
	}
}

func TestWindowAsText(t *testing.T) {
	for hours, want := range map[string]string{"22:00-06:00": "22:00-06:00 Europe/Berlin", "20:15-24:00": "20:15-24:00 Europe/Berlin"} {
		w := parse(t, fleet.Schedule{Every: "1h", Timezone: "Europe/Berlin", Window: hours}).Window()
		if w.String() != want || w.Length() > 8*time.Hour {
			t.Errorf("%q, %s long, want %q", w, w.Length(), want)
		}
	}
	if w, err := schedule.ParseWindow("01:00-02:00", ""); err != nil || w.String() != "01:00-02:00 UTC" {
		t.Errorf("%q, %v", w, err)
	}
}

func TestParseWindowRefuses(t *testing.T) {
	for _, hours := range []string{"22", "22:00", "22:00-", "22:00-6:00", "24:00-06:00", "22:00-24:01", "22:60-23:00", "25:00-26:00", "03:00-03:00", "22:00 - 06:00", "22:00-06:00x"} {
		if w, err := schedule.ParseWindow(hours, ""); err == nil {
			t.Errorf("%q became %s", hours, w)
		} else if got := fields(t, err); len(got) != 1 || got[0] != "window" {
			t.Errorf("%q: %v", hours, err)
		}
	}
	if _, err := schedule.ParseWindow("x", "x"); len(fields(t, err)) != 2 {
		t.Errorf("two faults: %v", err)
	}
}

// TestWindowsAgreeWithThemselves walks through a year in uneven steps.
func TestWindowsAgreeWithThemselves(t *testing.T) {
	for _, hours := range []string{"22:00-06:00", "02:00-03:00", "01:45-02:15", "00:00-23:59", "23:59-00:01"} {
		for _, zone := range []string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana"} {
			w, err := schedule.ParseWindow(hours, zone)
			if err != nil {
				t.Fatal(err)
			}
			for now := at(t, "2026-01-01 00:00 +0000"); now.Year() == 2026; now = now.Add(37 * time.Minute) {
				opens, closes := w.Opens(now), w.Closes(now)
				switch open := w.Open(now); {
				case open != opens.Equal(now) || open == closes.IsZero() || open && !closes.After(now):
					t.Fatalf("%s at %s: open %v, opens %s, closes %s", w, now, open, opens, closes)
				case !w.Open(opens) || opens.Sub(now) > 26*time.Hour:
					t.Fatalf("%s at %s opens %s", w, now, opens)
				case !open && w.Open(opens.Add(-time.Nanosecond)):
					t.Fatalf("%s at %s opens %s, and was open before", w, now, opens)
				}
			}
		}
	}
}

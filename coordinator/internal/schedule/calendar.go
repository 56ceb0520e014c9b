package schedule

import (
	"math/bits"
	"time"
)

// All months and all days of them, by bit.
const (
	allMonths = 1<<13 - 2
	allDays   = 1<<32 - 2
)

// This file finds the times of a cron expression: first on a clock that never
// changes, then in zones.

// on reports whether a day matches.
func (c *cron) on(day civil) bool {
	if c.months>>day.Month()&1 == 0 {
		return false
	}
	date, weekday := c.days>>day.Day()&1 == 1, c.weekdays>>day.Weekday()&1 == 1
	if c.either {
		return date || weekday
	}
	return date && weekday
}

// next returns the first time after another one on a clock that never changes;
// false: there is none for a long time.
func (c *cron) next(after civil) (civil, bool) {
	at := after.Truncate(time.Minute).Add(time.Minute)
	today := at.Truncate(day)
	since := int(at.Sub(today) / time.Minute)
	for end := today.AddDate(lookAhead, 0, 0); today.Before(end); since = 0 {
		if c.months>>today.Month()&1 == 0 {
			today = time.Date(today.Year(), today.Month()+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if c.on(today) {
			if minute, ok := c.minuteFrom(since); ok {
				return today.Add(time.Duration(minute) * time.Minute), true
			}
		}
		today = today.Add(day)
	}
	return civil{}, false
}

// last returns the newest time at or before another one, on a clock that never
// changes; false: there is none since the end of the search.
func (c *cron) last(at, end civil) (civil, bool) {
	today := at.Truncate(day)
	since := int(at.Sub(today) / time.Minute)
	for ; !today.Before(end.Truncate(day)); since = 24*60 - 1 {
		if c.on(today) {
			if minute, ok := c.minuteUntil(since); ok {
				found := today.Add(time.Duration(minute) * time.Minute)
				return found, !found.Before(end)
			}
		}
		today = today.Add(-day)
	}
	return civil{}, false
}

// minuteFrom returns the first time of a matching day that is not before another
// one, both in minutes.
func (c *cron) minuteFrom(since int) (int, bool) {
	hour, minute := since/60, since%60
	if c.hours>>hour&1 == 1 {
		if rest := c.minutes >> minute << minute; rest != 0 {
			return hour*60 + bits.TrailingZeros64(rest), true
		}
	}
	rest := c.hours >> (hour + 1) << (hour + 1)
	if rest == 0 {
		return 0, false
	}
	return bits.TrailingZeros64(rest)*60 + bits.TrailingZeros64(c.minutes), true
}

// minuteUntil returns the last time of a matching day that is not after another
// one, both in minutes.
func (c *cron) minuteUntil(until int) (int, bool) {
	hour, minute := until/60, until%60
	if c.hours>>hour&1 == 1 {
		if rest := c.minutes & (2<<minute - 1); rest != 0 {
			return hour*60 + bits.Len64(rest) - 1, true
		}
	}
	rest := c.hours & (1<<hour - 1)
	if rest == 0 {
		return 0, false
	}
	return (bits.Len64(rest)-1)*60 + bits.Len64(c.minutes) - 1, true
}

// longest returns the longest pause between two times on a clock that never changes.
func (c *cron) longest() time.Duration {
	first, _ := c.minuteFrom(0)
	final, _ := c.minuteUntil(24*60 - 1)
	var most time.Duration
	for at := first; at < final; {
		next, _ := c.minuteFrom(at + 1)
		most = max(most, time.Duration(next-at)*time.Minute)
		at = next
	}
	night := day - time.Duration(final-first)*time.Minute // from a day to the next one
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	end := start.AddDate(patternYears, 0, 0)
	if c.months == allMonths && c.days == allDays {
		end = start.Add(15 * day) // each week is like any other
	}
	var before civil
	for today := start; today.Before(end); today = today.Add(day) {
		if !c.on(today) {
			continue
		}
		if !before.IsZero() {
			most = max(most, today.Sub(before)-day+night)
		}
		before = today
	}
	if most == 0 { // it comes once in many years
		return patternYears * 366 * day
	}
	return most
}

// nextOnce is next in a zone, where each time on the clock comes once: the first
// time that it is shown, or when clocks are set forward over it. These moments are
// in the order of the times.
func (c *cron) nextOnce(after time.Time, in *time.Location) time.Time {
	for shown := civilOf(after, in); ; {
		found, ok := c.next(shown)
		if !ok {
			return time.Time{}
		}
		if at, _, _ := moments(found, in); at.After(after) {
			return at
		}
		shown = found
	}
}

// lastOnce is last in a zone, likewise.
func (c *cron) lastOnce(at time.Time, in *time.Location) time.Time {
	shown := civilOf(at, in)
	if start, _ := at.In(in).ZoneBounds(); !start.IsZero() {
		if before := civilOf(start.Add(-1), in); before.After(shown) && at.Sub(start) < day {
			shown = before // clocks were set back since
		}
	}
	for end := shown.AddDate(-lookBack, 0, 0); ; {
		found, ok := c.last(shown, end)
		if !ok {
			return time.Time{}
		}
		if when, _, _ := moments(found, in); !when.After(at) {
			return when
		}
		shown = found.Add(-time.Minute)
	}
}

// nextReal is next in a zone, where a time comes as often as clocks show it.
func (c *cron) nextReal(after time.Time, in *time.Location) time.Time {
	at := after
	for range lookAhead * 4 { // changes of the clocks
		_, offset := at.In(in).Zone()
		_, end := at.In(in).ZoneBounds()
		found, ok := c.next(civilOf(at, in))
		if !ok {
			return time.Time{}
		}
		when := found.Add(-time.Duration(offset) * time.Second)
		if end.IsZero() || when.Before(end) {
			return when
		}
		if at = end.UTC(); c.shows(civilOf(at, in)) {
			return at
		}
	}
	return time.Time{}
}

// lastReal is last in a zone, likewise.
func (c *cron) lastReal(at time.Time, in *time.Location) time.Time {
	for end := at.AddDate(-lookBack, 0, 0); at.After(end); {
		_, offset := at.In(in).Zone()
		start, _ := at.In(in).ZoneBounds()
		if start.Before(end) {
			start = end
		}
		if found, ok := c.last(civilOf(at, in), civilOf(start, in)); ok {
			return found.Add(-time.Duration(offset) * time.Second)
		}
		at = start.Add(-1)
	}
	return time.Time{}
}

// shows reports whether it is one of its times that a clock shows.
func (c *cron) shows(at civil) bool {
	return c.on(at) && c.hours>>at.Hour()&1 == 1 && c.minutes>>at.Minute()&1 == 1 && at.Second() == 0 && at.Nanosecond() == 0
}

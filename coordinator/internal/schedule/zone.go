package schedule

import (
	"fmt"
	"sync"
	"time"
)

// zone returns a time zone by its IANA name; an empty one is UTC. The error says
// what is wrong with the name.
func zone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("%q is not the name of a time zone", name)
	}
	if known, ok := zones.Load(name); ok {
		return known.(*time.Location), nil
	}
	location, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not the name of a time zone", name)
	}
	zones.Store(name, location)
	return location, nil
}

// zones are the time zones that were asked for, by name: thousands of plans share
// a few, and each takes time to read and some kilobytes. There are some hundreds
// in all.
var zones sync.Map

const zoneHint = "give an IANA name such as Europe/Berlin; left out, it is UTC"

// civil is what a clock on the wall shows, as if it were in UTC: a day and a time
// of day without a zone.
type civil = time.Time

// civilOf returns what the clocks of a zone show at a moment.
func civilOf(at time.Time, in *time.Location) civil {
	local := at.In(in)
	_, offset := local.Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// moments returns the first and the last moment at which the clocks of a zone show
// c: two, where they are set back over it. Where they are set forward over it,
// both are the moment at which that happens, and shown is false.
func moments(c civil, in *time.Location) (first, last time.Time, shown bool) {
	near := time.Date(c.Year(), c.Month(), c.Day(), c.Hour(), c.Minute(), c.Second(), c.Nanosecond(), in)
	start, end := near.ZoneBounds()
	candidates := []time.Time{near}
	if !start.IsZero() {
		candidates = append(candidates, start.Add(-1))
	}
	if !end.IsZero() {
		candidates = append(candidates, end)
	}
	for _, other := range candidates {
		_, offset := other.Zone()
		at := c.Add(-time.Duration(offset) * time.Second)
		if !civilOf(at, in).Equal(c) {
			continue
		}
		if !shown || at.Before(first) {
			first = at
		}
		if !shown || at.After(last) {
			last = at
		}
		shown = true
	}
	if !shown {
		first = gapEnd(c, near)
		last = first
	}
	return first, last, shown
}

// gapEnd returns the moment at which clocks are set forward over c; near is a
// moment on either side of that.
func gapEnd(c civil, near time.Time) time.Time {
	start, end := near.ZoneBounds()
	if civilOf(near, near.Location()).Before(c) && !end.IsZero() {
		return end.UTC()
	}
	return start.UTC()
}

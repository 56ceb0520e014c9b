package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Window is hours of each day, on the clocks of a zone. The zero Window is always
// open. It is never changed.
//
// Where clocks are set back within it, or over its end, it stays open for the
// longer time. Where they are set forward over the whole of it, it opens right
// then, for as long as ever.
type Window struct {
	from, to time.Duration // since midnight; to may be on the next day
	zone     *time.Location
}

const day = 24 * time.Hour

var windowHours = regexp.MustCompile(`^([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])$`)

// ParseWindow understands hours such as 22:00-06:00 in a zone by its IANA name;
// empty hours are a window that is always open. The error joins every fault; each
// is a *job.Failure.
func ParseWindow(hours, zone string) (Window, error) { return ParseHours("window", hours, zone) }

// ParseHours is ParseWindow for hours that people give in another field, which
// faults name.
func ParseHours(field, hours, name string) (Window, error) {
	location, err := zone(name)
	if err != nil {
		err = job.Invalid("timezone", "%s", err).WithHint(zoneHint)
	}
	if hours == "" {
		return Window{}, err
	}
	from, to, fault := span(field, hours)
	if fault != nil || err != nil {
		return Window{}, errors.Join(fault, err)
	}
	if from == 0 && to == day {
		return Window{}, nil
	}
	return Window{from: from, to: to, zone: location}, nil
}

// span returns when hours begin and end, counted from one midnight.
func span(field, hours string) (from, to time.Duration, err error) {
	match := windowHours.FindStringSubmatch(hours)
	if match == nil {
		return 0, 0, job.Invalid(field, "%q are no hours of the day", hours).WithHint("write them like 22:00-06:00")
	}
	from, to = clockTime(match[1], match[2]), clockTime(match[3], match[4])
	switch {
	case from >= day || to > day:
		return 0, 0, job.Invalid(field, "%q are no hours of the day: it ends at 24:00", hours).WithHint("write them like 22:00-06:00")
	case from == to:
		return 0, 0, job.Invalid(field, "%q begins and ends at the same time", hours).WithHint("leave it out for all hours")
	case to < from:
		to += day
	}
	return from, to, nil
}

func clockTime(hour, minute string) time.Duration {
	h, _ := strconv.Atoi(hour) // two digits
	m, _ := strconv.Atoi(minute)
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
}

// Always reports whether the window is open at every moment.
func (w Window) Always() bool { return w.zone == nil }

// Length is how long the window is open on a day without changes of clocks; 24 h
// when it always is.
func (w Window) Length() time.Duration {
	if w.Always() {
		return day
	}
	return w.to - w.from
}

// Open reports whether the window is open at a moment.
func (w Window) Open(at time.Time) bool {
	_, _, open := w.around(at)
	return open || w.Always()
}

// Opens returns at if the window is open then, else when it opens next.
func (w Window) Opens(at time.Time) time.Time {
	if w.Open(at) {
		return at
	}
	today := w.midnight(at)
	for n := -1; ; n++ { // tomorrow's comes at the latest, or the one after
		if opens, _ := w.on(today.AddDate(0, 0, n)); opens.After(at) {
			return opens
		}
	}
}

// Opened returns when the window opened that is open at a moment; zero: it is not
// open, or always.
func (w Window) Opened(at time.Time) time.Time {
	opened, _, open := w.around(at)
	if !open {
		return time.Time{}
	}
	return opened
}

// Closes returns when the window closes that is open at a moment; zero: it is not
// open, or always.
func (w Window) Closes(at time.Time) time.Time {
	_, closes, _ := w.around(at)
	return closes
}

// around returns when the window opened and closes that is open at a moment.
func (w Window) around(at time.Time) (opens, closes time.Time, open bool) {
	if w.Always() {
		return time.Time{}, time.Time{}, false
	}
	today := w.midnight(at)
	for n := -1; n <= 1; n++ {
		opens, closes = w.on(today.AddDate(0, 0, n))
		if !opens.After(at) && closes.After(at) {
			return opens, closes, true
		}
	}
	return time.Time{}, time.Time{}, false
}

func (w Window) midnight(at time.Time) civil { return civilOf(at, w.zone).Truncate(day) }

// on returns when the window of a day opens and closes.
func (w Window) on(midnight civil) (opens, closes time.Time) {
	opens, _, _ = moments(midnight.Add(w.from), w.zone)
	_, closes, _ = moments(midnight.Add(w.to), w.zone)
	if !closes.After(opens) {
		closes = opens.Add(w.to - w.from)
	}
	return opens, closes
}

// String is the window as people write it, with its zone: "22:00-06:00
// Europe/Berlin". It is empty for one that is always open.
func (w Window) String() string {
	if w.Always() {
		return ""
	}
	to := w.to
	if to > day {
		to -= day
	}
	return fmt.Sprintf("%s-%s %s", clockText(w.from), clockText(to), cmp.Or(w.zone.String(), "UTC"))
}

func clockText(t time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(t/time.Hour), int(t%time.Hour/time.Minute))
}

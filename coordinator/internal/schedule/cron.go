package schedule

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/adhocore/gronx"

	"github.com/borgfleet/borgfleet/shared/job"
)

// cron is a cron expression: which minutes, hours, days, months and weekdays.
// Expressions are parsed by gronx. Its search for the next time is not used, as it
// follows the clocks of the zone into a gap, and out of it where it likes.
type cron struct {
	minutes, hours, days, months, weekdays uint64 // by bit; Sunday is 0
	// either says that a day matches when its date or its weekday does: both were
	// given, and so one of them is enough.
	either bool
	hourly bool // the hours are *
}

// field is one of the five fields of an expression.
type field struct {
	name     string
	place    int // among the segments of gronx
	min, max int
	form     *regexp.Regexp
	at       func(value int) time.Time
}

// Fields are made of numbers and their names, alone or in ranges, lists and steps.
// Gronx takes much else.
var (
	numbers  = form(`[0-9]{1,2}`)
	months   = form(`[0-9]{1,2}|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec`)
	weekdays = form(`[0-9]{1,2}|sun|mon|tue|wed|thu|fri|sat`)
)

func form(value string) *regexp.Regexp {
	item := `(\*|(` + value + `)(-(` + value + `))?)(/[0-9]{1,2})?`
	return regexp.MustCompile(`^` + item + `(,` + item + `)*$`)
}

// fields returns the five fields. January 2006 begins on a Sunday, and has 31 days.
func fields() []field {
	in := func(month time.Month, day, hour, minute int) time.Time {
		return time.Date(2006, month, day, hour, minute, 0, 0, time.UTC)
	}
	return []field{
		{"minute", 1, 0, 59, numbers, func(v int) time.Time { return in(1, 1, 0, v) }},
		{"hour", 2, 0, 23, numbers, func(v int) time.Time { return in(1, 1, v, 0) }},
		{"day of the month", 3, 1, 31, numbers, func(v int) time.Time { return in(1, v, 0, 0) }},
		{"month", 4, 1, 12, months, func(v int) time.Time { return in(time.Month(v), 1, 0, 0) }},
		{"day of the week", 5, 0, 6, weekdays, func(v int) time.Time { return in(1, 1+v, 0, 0) }},
	}
}

// macros are the short forms that crontab(5) knows, but for @reboot.
var macros = regexp.MustCompile(`^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$`)

const cronHint = `five fields: minute, hour, day of the month, month, day of the week; for example "30 2 * * *" or "0 */6 * * mon-fri"; or @hourly, @daily, @weekly, @monthly, @yearly`

// maxCron bounds an expression in bytes.
const maxCron = 500

// parseCron understands an expression. The error is a *job.Failure.
func parseCron(text string) (*cron, error) {
	bad := func(format string, args ...any) error {
		return job.Invalid("schedule.cron", "%q %s", text, fmt.Sprintf(format, args...)).WithHint(cronHint)
	}
	plain := strings.ToLower(strings.Join(strings.Fields(text), " "))
	if len(text) > maxCron {
		text = text[:40] + "…"
		return nil, bad("is longer than %d bytes", maxCron)
	}
	if strings.HasPrefix(plain, "@") {
		if !macros.MatchString(plain) {
			return nil, bad("is not a cron expression")
		}
		plain = strings.Replace(plain, "@midnight", "@daily", 1)
	} else if n := strings.Count(plain, " ") + 1; n != 5 {
		return nil, bad("has %d fields, not 5", n)
	}
	segments, err := gronx.Segments(plain)
	if err != nil || len(segments) != 6 {
		return nil, bad("is not a cron expression")
	}
	c := &cron{either: true}
	written := strings.Fields(plain)
	for i, f := range fields() {
		if len(written) == 5 && !f.form.MatchString(written[i]) {
			return nil, bad("has the %s %q", f.name, written[i])
		}
		set, err := f.set(segments[f.place])
		if err != nil || set == 0 {
			return nil, bad("has the %s %q, not between %d and %d", f.name, segments[f.place], f.min, f.max)
		}
		c.take(f, segments[f.place], set)
	}
	if _, ok := c.next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)); !ok {
		return nil, bad("never comes: no month has such a day")
	}
	return c, nil
}

// set returns the values of a field that a segment has, by bit.
func (f field) set(segment string) (uint64, error) {
	var set uint64
	if segment == "*" {
		return 1<<(f.max+1) - 1<<f.min, nil
	}
	checker := &gronx.SegmentChecker{}
	for value := f.min; value <= f.max; value++ {
		checker.SetRef(f.at(value))
		due, err := checker.CheckDue(segment, f.place)
		if err != nil {
			return 0, err
		}
		if due {
			set |= 1 << value
		}
	}
	return set, nil
}

func (c *cron) take(f field, segment string, set uint64) {
	star := strings.HasPrefix(segment, "*")
	switch f.place {
	case 1:
		c.minutes = set
	case 2:
		c.hours, c.hourly = set, star || set == 1<<24-1
	case 3:
		c.days, c.either = set, !star
	case 4:
		c.months = set
	case 5:
		c.weekdays, c.either = set, c.either && !star
	}
}

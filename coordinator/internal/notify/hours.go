package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hours are the times in which a rule tells.
type hours struct {
	zone     *time.Location
	from, to int            // minutes of the day; equal: the whole day
	days     []time.Weekday // empty: every day
}

// open reports whether a rule tells at a moment. Of hours that begin before
// midnight and end after it, those after it belong to the day before.
func (h hours) open(at time.Time) bool {
	local := at.In(h.zone)
	minute, day := local.Hour()*60+local.Minute(), local.Weekday()
	switch {
	case h.from < h.to && (minute < h.from || minute >= h.to):
		return false
	case h.from > h.to && minute < h.to:
		day = (day + 6) % 7
	case h.from > h.to && minute < h.from:
		return false
	}
	return len(h.days) == 0 || slices.Contains(h.days, day)
}

// hoursOf returns the hours of a rule, or what is wrong with them.
func hoursOf(rule fleet.Rule) (hours, error) {
	zone, err := time.LoadLocation(rule.Timezone)
	if err != nil || rule.Timezone == "Local" {
		return hours{}, job.Invalid("timezone", "%q is not a time zone", rule.Timezone).WithHint("IANA names, such as Europe/Berlin")
	}
	h := hours{zone: zone}
	if rule.Hours != "" {
		if h.from, h.to, err = readHours(rule.Hours); err != nil {
			return hours{}, job.Invalid("hours", "%s", err).WithHint("write them like 08:00-18:00")
		}
	}
	for i, name := range rule.Days {
		day := slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, name)
		if day < 0 {
			return hours{}, job.Invalid(fmt.Sprintf("days[%d]", i), "%q is none of mon, tue, wed, thu, fri, sat, sun", name)
		}
		h.days = append(h.days, time.Weekday(day))
	}
	return h, nil
}

func readHours(text string) (from, to int, err error) {
	first, second, found := strings.Cut(text, "-")
	begin, errBegin := time.Parse("15:04", first)
	end, errEnd := time.Parse("15:04", second)
	if !found || errBegin != nil || errEnd != nil || begin.Equal(end) {
		return 0, 0, fmt.Errorf("%q are no hours", text)
	}
	return begin.Hour()*60 + begin.Minute(), end.Hour()*60 + end.Minute(), nil
}

package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/schedule"
	"github.com/borgfleet/borgfleet/shared/job"
)

// hours are the times in which a rule tells.
type hours struct {
	window schedule.Window
	zone   *time.Location
	days   []time.Weekday // empty: every day
}

// open reports whether a rule tells at a moment. Of hours that begin before
// midnight and end after it, those after it belong to the day before.
func (h hours) open(at time.Time) bool {
	if !h.window.Open(at) {
		return false
	}
	if opened := h.window.Opened(at); !opened.IsZero() {
		at = opened
	}
	return len(h.days) == 0 || slices.Contains(h.days, at.In(h.zone).Weekday())
}

// hoursOf returns the hours of a rule, or everything that is wrong with them,
// joined.
func hoursOf(rule fleet.Rule) (hours, error) {
	window, err := schedule.ParseHours("hours", rule.Hours, rule.Timezone)
	faults := []error{err}
	h := hours{window: window}
	for i, name := range rule.Days {
		day := slices.Index(weekdays(), name)
		if day < 0 {
			faults = append(faults, job.Invalid(fmt.Sprintf("days[%d]", i), "%q is none of %s", name, strings.Join(weekdays(), ", ")))
		}
		h.days = append(h.days, time.Weekday(day))
	}
	if err := errors.Join(faults...); err != nil {
		return hours{}, err
	}
	h.zone, err = time.LoadLocation(rule.Timezone)
	return h, err
}

func weekdays() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

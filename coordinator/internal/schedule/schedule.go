// Package schedule knows when things are due: by cron expressions or intervals,
// in time zones with daylight saving, spread over hosts, within windows. It has
// no clock and no state: every question comes with its moment.
package schedule

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Timetable is a schedule that was understood. It is never changed.
type Timetable struct {
	every  time.Duration
	offset time.Duration
}

// Parse understands a schedule, or returns every fault in it, joined; each is a
// *job.Failure that names its field below schedule.
func Parse(s fleet.Schedule) (*Timetable, error) {
	every, err := s.Every.Length()
	if err != nil {
		return nil, job.Invalid("schedule.every", "%s", err)
	}
	return &Timetable{every: every}, nil
}

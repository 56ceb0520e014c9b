// Package schedule knows when things are due: by cron expressions or intervals,
// in time zones with daylight saving, spread over hosts, within windows. It has
// no clock and no state: every question comes with its moment.
//
// Where clocks change it does what Vixie cron does. A job at a fixed hour that is
// left out when clocks are set forward runs once, right then; one in an hour that
// comes twice runs the first time. A job whose hours are * runs whenever the clock
// on the wall shows its time: an hourly one each real hour. What is due every so
// often knows no clocks.
package schedule

import (
	"errors"
	"hash/fnv"
	"math/bits"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Bounds of schedules.
const (
	minEvery     = time.Minute
	maxEvery     = 366 * day
	maxCatchUp   = day // when nothing was said
	lookBack     = 5   // years
	lookAhead    = 45  // years: 29 February may be a Sunday only then
	patternYears = 12  // in which the longest pause of an expression comes up, but for the rarest
)

// Timetable is a schedule that was understood. It is never changed.
type Timetable struct {
	cron    *cron // or every
	every   time.Duration
	zone    *time.Location
	jitter  time.Duration
	catchUp *time.Duration // nil: nothing was said
	window  Window
}

// Parse understands a schedule, or returns every fault in it, joined; each is a
// *job.Failure that names its field below schedule.
func Parse(s fleet.Schedule) (*Timetable, error) {
	t := &Timetable{zone: time.UTC}
	faults := []error{t.readZone(s), t.readDue(s)}
	jitter, err := length("schedule.jitter", s.Jitter)
	t.jitter = jitter
	faults = append(faults, err)
	if s.CatchUp != "" {
		within, err := length("schedule.catch_up", s.CatchUp)
		t.catchUp = &within
		faults = append(faults, err)
	}
	faults = append(faults, t.readWindow(s))
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if err := t.checkPeriod(s); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Timetable) readZone(s fleet.Schedule) error {
	location, err := zone(s.Timezone)
	if err != nil {
		return job.Invalid("schedule.timezone", "%s", err).WithHint(zoneHint)
	}
	t.zone = location
	return nil
}

func (t *Timetable) readDue(s fleet.Schedule) error {
	switch {
	case s.Cron != "" && s.Every != "":
		return job.Invalid("schedule.every", "cannot be combined with cron").WithHint("give one of them")
	case s.Cron == "" && s.Every == "":
		return job.Invalid("schedule.cron", "is missing").WithHint(`give cron, for example "0 2 * * *", or every, for example 6h; a plan without a schedule runs when somebody runs it`)
	case s.Cron != "":
		var err error
		t.cron, err = parseCron(s.Cron)
		return err
	}
	every, err := length("schedule.every", s.Every)
	switch {
	case err != nil:
		return err
	case every < minEvery || every > maxEvery:
		return job.Invalid("schedule.every", "%q is not between 1m and 366d", s.Every).WithHint("for example 6h")
	case every%time.Second != 0:
		return job.Invalid("schedule.every", "%q has parts of a second", s.Every).WithHint("for example 90s")
	}
	t.every = every
	return nil
}

func (t *Timetable) readWindow(s fleet.Schedule) error {
	if s.Window == "" {
		if s.WindowEnds {
			return job.Invalid("schedule.window_ends", "needs a window").WithHint("give window, for example 22:00-06:00")
		}
		return nil
	}
	from, to, err := span("schedule.window", s.Window)
	if err != nil {
		return err
	}
	if to-from < t.jitter {
		return job.Invalid("schedule.window", "%q is shorter than the jitter of %s, so that some hosts would be too late for it", s.Window, s.Jitter).
			WithHint("make the window longer, or the jitter shorter")
	}
	if from != 0 || to != day {
		t.window = Window{from: from, to: to, zone: t.zone}
	}
	return nil
}

// checkPeriod compares with how long it is between two runs.
func (t *Timetable) checkPeriod(s fleet.Schedule) error {
	if t.catchUp == nil && t.jitter == 0 {
		return nil
	}
	var faults []error
	period := t.longest()
	if t.catchUp != nil && *t.catchUp > period {
		faults = append(faults, job.Invalid("schedule.catch_up", "%q is longer than the time between two runs: the next one is due before", s.CatchUp).
			WithHint("leave it out, and a run is made up until the next one is due, for a day at most"))
	}
	if t.jitter > period {
		faults = append(faults, job.Invalid("schedule.jitter", "%q is longer than the time between two runs", s.Jitter).
			WithHint("make it shorter"))
	}
	return errors.Join(faults...)
}

// longest is the longest time between two runs, as long as no clock is changed.
func (t *Timetable) longest() time.Duration {
	if t.cron == nil {
		return t.every
	}
	return t.cron.longest()
}

func length(field string, s fleet.Span) (time.Duration, error) {
	d, err := s.Length()
	if err != nil {
		return 0, job.Invalid(field, "%s", err)
	}
	return d, nil
}

// Next returns the first time after a moment at which a run is due; zero: it never
// is again.
func (t *Timetable) Next(after time.Time) time.Time {
	switch {
	case t.cron == nil:
		return every(after, t.every).Add(t.every)
	case t.cron.hourly:
		return t.cron.nextReal(after, t.zone)
	}
	return t.cron.nextOnce(after, t.zone)
}

// Last returns the newest time at or before a moment at which a run was due; zero:
// there is none within five years.
func (t *Timetable) Last(at time.Time) time.Time {
	switch {
	case t.cron == nil:
		return every(at, t.every)
	case t.cron.hourly:
		return t.cron.lastReal(at, t.zone)
	}
	return t.cron.lastOnce(at, t.zone)
}

// every returns the newest multiple of an interval since 1970 at or before a moment.
func every(at time.Time, interval time.Duration) time.Time {
	step := int64(interval / time.Second)
	seconds := at.Unix()
	past := seconds % step
	if past < 0 {
		past += step
	}
	return time.Unix(seconds-past, 0).UTC()
}

// Period returns how long it is between the runs before and after a moment; 0 when
// there is only one.
func (t *Timetable) Period(at time.Time) time.Duration {
	last, next := t.Last(at), t.Next(at)
	if last.IsZero() && !next.IsZero() {
		last, next = next, t.Next(next)
	}
	if last.IsZero() || next.IsZero() {
		return 0
	}
	return next.Sub(last)
}

// CatchUp returns for how long after it was due a run may still begin: as the
// schedule says, else for a day, and never when the next one is due. 0: it is never
// made up.
func (t *Timetable) CatchUp(due time.Time) time.Duration {
	within := maxCatchUp
	if t.catchUp != nil {
		within = *t.catchUp
	}
	if next := t.Next(due); !next.IsZero() {
		within = min(within, next.Sub(due))
	}
	return within
}

// Delay returns how much later a host begins than the plan is due: less than the
// jitter, always the same, and spread evenly over hosts and plans.
func (t *Timetable) Delay(plan, host string) time.Duration {
	if t.jitter < time.Millisecond {
		return 0
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(plan + "\x00" + host)) // never fails
	part, _ := bits.Mul64(spread(sum.Sum64()), uint64(t.jitter/time.Millisecond))
	return time.Duration(part) * time.Millisecond
}

// spread makes all bits of a sum depend on all others, which those of the hash of a
// short text do not (the finalizer of splitmix64, Steele et al. 2014).
func spread(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Window returns the hours in which jobs may begin.
func (t *Timetable) Window() Window { return t.window }

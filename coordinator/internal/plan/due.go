package plan

import "time"

// grace is how late a run may begin without having been missed: timers and disks
// take their time.
const grace = time.Minute

// timetable says when things are due. See [schedule.Timetable].
type timetable interface {
	Next(after time.Time) time.Time
	Last(at time.Time) time.Time
	CatchUp(due time.Time) time.Duration
}

// verdict is what becomes of what is due.
type verdict int

const (
	nothing verdict = iota // nothing is due
	onTime
	catchUp // it was missed, and is made up
	missed  // it was missed, and is too old
)

// decide says what is due of a schedule that was followed up to cursor: the newest
// occurrence only. since is when somebody began to look: what was due before that
// was missed.
func decide(t timetable, cursor, since, now time.Time) (due time.Time, v verdict) {
	due = t.Last(now)
	switch late := now.Sub(due); {
	case due.IsZero() || !due.After(cursor):
		return time.Time{}, nothing
	case late <= grace && !due.Before(since):
		return due, onTime
	case late < t.CatchUp(due):
		return due, catchUp
	default:
		return due, missed
	}
}

// cursorOf is from when a schedule is to be followed on: a clock that was set back
// leaves cursors in the future, and what was due in a pause is not made up.
func cursorOf(cursor time.Time, pauseEnd *time.Time, now time.Time) time.Time {
	if pauseEnd != nil && pauseEnd.After(cursor) && !pauseEnd.After(now) {
		cursor = *pauseEnd
	}
	if cursor.Sub(now) > time.Minute {
		return now
	}
	return cursor
}

package dispatch

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/borgfleet/borgfleet/shared/bus"
)

// This file keeps jobs within their windows.

// minOpen is how long a window must stay open for a job to begin that has to end
// in it.
const minOpen = time.Minute

// opens returns when the job's window opens that is closed at a moment; zero: it is
// open, or does not matter. Once a look is made for a job it has begun: nobody else
// can use its repository until it is over.
func (e *entry) opens(now time.Time) time.Time {
	if e.window.Always() || e.vetting() || e.preview != "" {
		return time.Time{}
	}
	at := e.window.Opens(now)
	if e.job.Window.Ends && !at.After(now) {
		if closes := e.window.Closes(now); closes.Sub(now) < minOpen {
			at = e.window.Opens(closes)
		}
	}
	if at.After(now) {
		return at
	}
	return time.Time{}
}

// hours is the job's window for a person.
func (e *entry) hours() string {
	return fmt.Sprintf("%s (%s)", e.job.Window.Hours, cmp.Or(e.job.Window.Timezone, "UTC"))
}

// limit bounds an order whose job has to end within its window: by what is left of
// the window in which its attempt was sent.
func (e *entry) limit(order *bus.Order, now time.Time) {
	current := e.current()
	if e.job.Window == nil || !e.job.Window.Ends || current == nil {
		return
	}
	closes := e.window.Closes(current.SentAt)
	if closes.IsZero() {
		return
	}
	left := max(1, int(math.Ceil(closes.Sub(now).Seconds())))
	if order.Timeout == 0 || left < order.Timeout {
		order.Timeout = left
	}
}

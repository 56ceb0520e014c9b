package engine

import (
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Pace of progress: at most two a second, each as fresh as can be. A report
// that comes within paceGap of the one that went before waits. When the gap is
// over the newest one goes, unless the next, at the pace of the last two, is
// about to come: then that one goes, at once.
const (
	paceGap   = 500 * time.Millisecond
	paceGrace = 120 * time.Millisecond // how far away "about to come" is
	paceSlack = 50 * time.Millisecond  // how late the next one may be
)

// pacer passes progress on.
type pacer struct {
	emit    func(job.Progress)
	last    time.Time     // when progress was last emitted
	came    time.Time     // when progress was last offered
	pending *job.Progress // came too early
	timer   *time.Timer   // runs while something is pending
}

// offer takes progress.
func (p *pacer) offer(progress job.Progress, now time.Time) {
	pace := now.Sub(p.came)
	p.pending, p.came = &progress, now
	free := p.last.Add(paceGap)
	if !now.Before(free) {
		p.fire(now)
		return
	}
	p.stop()
	p.timer = time.NewTimer(until(now, free, pace))
}

// until returns how long a report that came at now waits: until free, or until
// shortly after the first of the following ones, when that is near.
func until(now, free time.Time, pace time.Duration) time.Duration {
	wait := free.Sub(now)
	if pace <= 0 {
		return wait
	}
	following := (wait + pace - 1) / pace * pace
	if following-wait > paceGrace {
		return wait
	}
	return following + paceSlack
}

// due delivers when fire is to be called.
func (p *pacer) due() <-chan time.Time {
	if p.timer == nil {
		return nil
	}
	return p.timer.C
}

// fire emits what is pending.
func (p *pacer) fire(now time.Time) {
	p.stop()
	if p.pending != nil {
		p.emit(*p.pending)
		p.last, p.pending = now, nil
	}
}

func (p *pacer) stop() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

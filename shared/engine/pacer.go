package engine

import (
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// Pace of progress: at most two a second. Borg reports about five times a
// second, but not evenly, so the first report after paceNext goes out at once,
// and if none comes, the newest one that waits goes out after paceLate.
const (
	paceNext = 500 * time.Millisecond
	paceLate = 700 * time.Millisecond
)

// pacer passes progress on.
type pacer struct {
	emit    func(job.Progress)
	last    time.Time     // when progress was last emitted
	pending *job.Progress // came too early
	timer   *time.Timer   // runs while something is pending
}

// offer takes progress.
func (p *pacer) offer(progress job.Progress, now time.Time) {
	p.pending = &progress
	if now.Sub(p.last) >= paceNext {
		p.fire(now)
		return
	}
	if p.timer == nil {
		p.timer = time.NewTimer(p.last.Add(paceLate).Sub(now))
	}
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

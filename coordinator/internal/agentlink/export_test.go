package agentlink

import "time"

// HurryStreams makes the waits of streams that are opened from now on shorter.
func (l *Link) HurryStreams(answer, silence, keepalive time.Duration) {
	l.times.answer, l.times.silence, l.times.keepalive = answer, silence, keepalive
	l.times.pause, l.times.budget = time.Millisecond, 100*time.Millisecond
}

package engine

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// logPause is how long a line waits for others to go with it.
const logPause = time.Second

// maxLogBytes bounds the lines of one event, as JSON: half of what a message
// on the bus may have.
const maxLogBytes = 256 << 10

// logbook decides which log lines are told, and when. The same lines in the
// same order always lead to the same telling, so that after a restart the
// count of lines told before is enough to go on.
type logbook struct {
	toldHead int // lines of the head that were told before
	toldTail int // lines of the tail that were told before
	seen     int
	waiting  []job.LogLine // of the head, not told yet
	tail     []job.LogLine // the newest of the others, at most LogTailLines; a ring once that is full
	omitted  int           // lines that have fallen out of the tail
	timer    *time.Timer   // runs while lines wait
}

func newLogbook(told int) *logbook {
	head := min(told, job.LogHeadLines)
	return &logbook{toldHead: head, toldTail: told - head}
}

// add takes the next line. A line without a time gets now.
func (b *logbook) add(line job.LogLine, now time.Time) {
	if line.At.IsZero() {
		line.At = now.UTC()
	}
	b.seen++
	switch {
	case b.seen <= b.toldHead:
	case b.seen <= job.LogHeadLines:
		b.waiting = append(b.waiting, line)
		if b.timer == nil {
			b.timer = time.NewTimer(logPause)
		}
	case len(b.tail) < job.LogTailLines:
		b.tail = append(b.tail, line)
	default:
		b.tail[b.omitted%job.LogTailLines] = line
		b.omitted++
	}
}

// news is what is to be told: lines, after a number that are left out.
type news struct {
	lines   []job.LogLine
	omitted int
}

// due delivers when news is to be called.
func (b *logbook) due() <-chan time.Time {
	if b.timer == nil {
		return nil
	}
	return b.timer.C
}

// news returns the lines that wait.
func (b *logbook) news() news {
	b.stop()
	lines := b.waiting
	b.waiting = nil
	return news{lines: lines}
}

// rest returns, when no more lines come, all that are still to be told.
func (b *logbook) rest() []news {
	head := b.news()
	oldest := b.omitted % job.LogTailLines
	lines := slices.Concat(b.tail[oldest:], b.tail[:oldest])
	tail := news{lines: lines[min(b.toldTail, len(lines)):], omitted: b.omitted}
	if b.toldTail > 0 {
		tail.omitted = 0 // was told with the first of them
	}
	return []news{head, tail}
}

func (b *logbook) stop() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
}

// fitting returns how many of the lines go into one event, at least one.
func fitting(lines []job.LogLine) int {
	size := 0
	for i, line := range lines {
		encoded, err := json.Marshal(line)
		if err != nil { // a time outside of years 0 to 9999; let the recorder say so
			return max(i, 1)
		}
		size += len(encoded) + 1
		if size > maxLogBytes {
			return max(i, 1)
		}
	}
	return len(lines)
}

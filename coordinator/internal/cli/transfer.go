package cli

import (
	"sync/atomic"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

// transfer shows on a terminal how much of a download has come. Elsewhere it
// only counts.
type transfer struct {
	live   *liveLine
	offset int64 // bytes that were there before
	come   atomic.Int64
	total  int64 // -1: not known
	begun  time.Time
}

func (s *session) newTransfer(offset int64) *transfer {
	t := &transfer{offset: offset, total: -1}
	if _, ok := terminalWidth(s.Err); ok && !s.globals.JSON {
		t.live = newLiveLine(s.Err, func() int { width, _ := terminalWidth(s.Err); return width })
		t.live.set(nil, func() string { return "waiting for the host" }, "")
	}
	return t
}

// begin is called when the first bytes have come; left is how many there will
// be, -1 if that is not known.
func (t *transfer) begin(left int64) {
	t.begun = time.Now()
	if left >= 0 {
		t.total = t.offset + left
	}
	t.show()
}

// Write implements io.Writer.
func (t *transfer) Write(p []byte) (int, error) {
	before := t.come.Add(int64(len(p))) - int64(len(p))
	if before>>20 != t.come.Load()>>20 { // each MiB: the line moves by itself
		t.show()
	}
	return len(p), nil
}

func (t *transfer) show() {
	if t.live == nil {
		return
	}
	var percent *float64
	if t.total > 0 {
		share := float64(t.offset+t.come.Load()) / float64(t.total) * 100
		percent = &share
	}
	t.live.set(percent, t.words, "")
}

// words is asked at every frame.
func (t *transfer) words() string {
	come := t.come.Load()
	text := human.Bytes(t.offset + come)
	if t.total >= 0 {
		text += " of " + human.Bytes(t.total)
	}
	if passed := time.Since(t.begun).Seconds(); passed > 1 {
		text += ", " + human.Rate(int64(float64(come)/passed))
	}
	return text
}

func (t *transfer) stop() {
	if t.live != nil {
		t.live.close()
	}
}

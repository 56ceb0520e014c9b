package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// leastHistory is how many good backups there must be before one looks
// suspicious.
const leastHistory = 8

// metric is a number by which backups are compared.
type metric struct {
	of    func(fleet.BackupSummary) int64
	floor float64 // a difference below it never counts
	// share of the usual that a difference must be: a directory that is cleaned up
	// is no fault.
	share float64
	up    bool // only more is suspicious
	text  func(now, low, high int64) string
}

func metrics() []metric {
	return []metric{
		{of: func(b fleet.BackupSummary) int64 { return b.NFiles }, floor: 100, share: 0.5, text: func(now, low, high int64) string {
			return usual(human.Count(now)+" files", human.Count(low), human.Count(high))
		}},
		{of: func(b fleet.BackupSummary) int64 { return b.OriginalSize }, floor: 100 << 20, share: 0.5, text: func(now, low, high int64) string {
			return usual(human.Bytes(now), human.Bytes(low), human.Bytes(high))
		}},
		// New data goes up and down by its nature: only much more of it, and more than
		// a fifth of everything, is what encryption by somebody else looks like.
		{of: func(b fleet.BackupSummary) int64 { return b.DeduplicatedSize }, floor: 1 << 30, share: 4, up: true, text: func(now, low, high int64) string {
			return usual(human.Bytes(now)+" of new data", human.Bytes(low), human.Bytes(high))
		}},
	}
}

func usual(now, low, high string) string {
	if low == high {
		return now + ", usually " + low
	}
	return now + ", usually " + low + " to " + high
}

// suspect says in what a backup of a track is unlike the good ones before it; nil:
// in nothing, or there are too few. What a person has accepted is normal from
// there on.
func suspect(track store.Track, id job.ID) *fleet.Suspicion {
	at := slices.IndexFunc(track.Samples, func(b fleet.BackupSummary) bool { return b.Job == id })
	if at < 0 {
		return nil
	}
	history, accepted := historyOf(track, at)
	if len(history) < leastHistory {
		return nil
	}
	b := track.Samples[at]
	var found []string
	for _, m := range metrics() {
		if text, odd := m.compare(b, history, accepted); odd {
			found = append(found, text)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &fleet.Suspicion{Job: id, At: b.FinishedAt, Message: strings.Join(found, "; ")}
}

// historyOf returns what a backup is compared with: those before it, but for those
// that nobody has accepted. accepted is the one from which on another level is
// normal, too; when enough follow it, only they count.
func historyOf(track store.Track, at int) (history []fleet.BackupSummary, accepted *fleet.BackupSummary) {
	history = track.Samples[:at]
	if track.Held != nil {
		if held := slices.IndexFunc(history, func(b fleet.BackupSummary) bool { return b.Job == track.Held.Job }); held >= 0 {
			history = history[:held]
		}
	}
	since := slices.IndexFunc(history, func(b fleet.BackupSummary) bool { return b.Job == track.Accepted })
	if since < 0 {
		return history, nil
	}
	if len(history)-since >= leastHistory {
		return history[since:], nil
	}
	return history, &history[since]
}

// compare says whether a backup is far from its history, by the median and the
// median of the distances from it, which few odd ones do not move.
func (m metric) compare(b fleet.BackupSummary, history []fleet.BackupSummary, accepted *fleet.BackupSummary) (text string, odd bool) {
	values := make([]float64, len(history))
	for i, h := range history {
		values[i] = float64(m.of(h))
	}
	now, middle := float64(m.of(b)), median(values)
	distances := make([]float64, len(values))
	for i, value := range values {
		distances[i] = math.Abs(value - middle)
	}
	if m.near(now, middle, median(distances), b) || accepted != nil && m.near(now, float64(m.of(*accepted)), 0, b) {
		return "", false
	}
	return m.text(m.of(b), int64(slices.Min(values)), int64(slices.Max(values))), true
}

// spread is how many times the usual distance is far: the median of distances is
// 0.6745 of a standard deviation, so this is about six of them.
const spread = 9

// near reports whether a value is close enough to a level.
func (m metric) near(now, level, distance float64, b fleet.BackupSummary) bool {
	if m.up && now <= level {
		return true
	}
	far := max(m.floor, spread*distance, m.share*level)
	if m.up {
		far = max(far, float64(b.OriginalSize)/5)
	}
	if now < level { // what is gone altogether is far, however much it varies
		far = max(m.floor, min(far, 0.9*level))
	}
	return math.Abs(now-level) <= far
}

// median returns the middle of values, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// heldMessage says what is suspicious, and what follows from that.
func heldMessage(s fleet.Suspicion) string {
	text := fmt.Sprintf("the backup of %s looks suspicious: %s", clock(s.At), s.Message)
	if s.Holds {
		text += "; nothing is pruned until somebody accepts it"
	}
	return text
}

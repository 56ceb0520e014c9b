package access

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// Bounds of what refusals leave in the audit.
const (
	refusalWindow = 10 * time.Minute
	maxRefusals   = 128 // entries at once in a window; as many again at its end
	maxOfOne      = 16  // of them about one actor, so that nobody can hide the others
	maxObject     = 128 // bytes
)

// Refused notes in the audit that somebody was not allowed to do something.
// Repeats are counted, and the count is written later.
func (s *Service) Refused(by fleet.Actor, action, object string) {
	s.record(s.denied.note(s.now(), refusal{by: by.Name, from: by.From, action: action}, object))
}

// Flush writes the counts of refusals that are not in the audit yet. Call it
// before the store is closed.
func (s *Service) Flush() { s.record(append(s.failedLogins.end(s.now()), s.denied.end(s.now())...)) }

// flushDue does the same when it is time.
func (s *Service) flushDue() {
	now := s.now()
	s.record(append(s.failedLogins.due(now), s.denied.due(now)...))
}

func (s *Service) record(entries []fleet.AuditEntry) {
	if len(entries) == 0 {
		return
	}
	changes := make([]store.Change, len(entries))
	for i, entry := range entries {
		changes[i] = store.AppendAudit(entry)
	}
	if _, err := s.store.Apply(changes...); err != nil { // the refusal stands without it
		s.logger.Error("refusals are not in the audit", "count", len(entries), "err", err)
	}
}

// refusal is what makes refusals alike.
type refusal struct{ by, from, action string }

// refusals makes few audit entries of many refusals: of each kind the first,
// and after a while how many more there were. The zero value is ready.
type refusals struct {
	mu     sync.Mutex
	since  time.Time       // of the window
	more   map[refusal]int // that have an entry: how often again
	others map[string]int  // by action: those that have none, as there were too many kinds
}

// note takes in one refusal, and returns what is to be written now.
func (r *refusals) note(now time.Time, kind refusal, object string) []fleet.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries := r.close(now, refusalWindow)
	if r.more == nil {
		r.since, r.more, r.others = now, map[refusal]int{}, map[string]int{}
	}
	if _, known := r.more[kind]; known {
		r.more[kind]++
		return entries
	}
	if len(r.more) == maxRefusals || r.kindsOf(kind.by) == maxOfOne {
		r.others[kind.action]++
		return entries
	}
	r.more[kind] = 0
	return append(entries, kind.entry(now, object, ""))
}

// kindsOf returns how many kinds of one actor have an entry.
func (r *refusals) kindsOf(by string) (count int) {
	for kind := range r.more {
		if kind.by == by {
			count++
		}
	}
	return count
}

// due returns what is to be written when the window is over.
func (r *refusals) due(now time.Time) []fleet.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.close(now, refusalWindow)
}

// end returns what is to be written now, whether or not the window is over.
func (r *refusals) end(now time.Time) []fleet.AuditEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.close(now, 0)
}

// close ends a window that has lasted that long, and returns its counts.
func (r *refusals) close(now time.Time, after time.Duration) (entries []fleet.AuditEntry) {
	if r.more == nil || now.Sub(r.since) < after {
		return nil
	}
	for kind, count := range r.more {
		if count > 0 {
			entries = append(entries, kind.entry(now, "", fmt.Sprintf("%d more since %s", count, r.since.Format(time.RFC3339))))
		}
	}
	slices.SortFunc(entries, func(a, b fleet.AuditEntry) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.By, b.By), cmp.Compare(a.From, b.From))
	})
	for _, action := range slices.Sorted(maps.Keys(r.others)) {
		detail := fmt.Sprintf("%d more since %s, of others or from elsewhere", r.others[action], r.since.Format(time.RFC3339))
		entries = append(entries, refusal{action: action}.entry(now, "", detail))
	}
	r.more, r.others = nil, nil
	return entries
}

func (k refusal) entry(now time.Time, object, detail string) fleet.AuditEntry {
	if len(object) > maxObject { // what a client names need not exist
		object = strings.ToValidUTF8(object[:maxObject], "") + "…"
	}
	return fleet.AuditEntry{At: now, By: k.by, From: k.from, Action: k.action, Object: object, Outcome: "refused", Detail: detail}
}

package depot

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// count is what went to and from one repository.
type count struct {
	open                                 atomic.Int64
	connections, refused, received, sent atomic.Uint64
}

// meter counts by repository.
type meter struct {
	mu     sync.Mutex
	counts map[string]*count
}

func newMeter() *meter { return &meter{counts: map[string]*count{}} }

// of returns the count of a repository. Names must not be a client's invention:
// they are kept for good.
func (m *meter) of(repository string) *count {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counts[repository]
	if c == nil {
		c = new(count)
		m.counts[repository] = c
	}
	return c
}

func (m *meter) uses() []fleet.DepotUse {
	m.mu.Lock()
	counts := maps.Clone(m.counts)
	m.mu.Unlock()
	uses := make([]fleet.DepotUse, 0, len(counts))
	for name, c := range counts {
		uses = append(uses, fleet.DepotUse{
			Repository: name, Open: int(c.open.Load()), Connections: c.connections.Load(), Refused: c.refused.Load(),
			Received: c.received.Load(), Sent: c.sent.Load(),
		})
	}
	slices.SortFunc(uses, func(a, b fleet.DepotUse) int { return cmp.Compare(a.Repository, b.Repository) })
	return uses
}

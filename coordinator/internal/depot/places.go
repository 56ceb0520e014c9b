package depot

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// How much may be open at a time.
const (
	maxConnections = 64 // that have proved who they are
	maxPerHost     = 8
	// Strangers have not proved yet who they are. So many may be there, of whom so
	// many are attended to while the others wait.
	maxStrangers  = 128
	maxAttended   = 16
	maxPerAddress = 32 // of strangers
	maxOfAddress  = 8  // of those attended to
)

// places bounds connections, so that nobody keeps the others out: no address
// while it is not known who is there, and no host after that.
type places struct {
	mu        sync.Mutex
	total     int // of those known
	hosts     map[string]int
	strangers int
	attended  int
	addresses map[string]*crowd
	freed     chan struct{} // closed and replaced when a stranger is not attended to any more
}

// crowd is the strangers of one address.
type crowd struct{ here, attended int }

func newPlaces() *places {
	return &places{hosts: map[string]int{}, addresses: map[string]*crowd{}, freed: make(chan struct{})}
}

// address is where a connection comes from, as far as one can have only few of
// it: who has an IPv6 address has a network of them.
func address(c net.Conn) string {
	text := c.RemoteAddr().String()
	from, err := netip.ParseAddrPort(text)
	if err != nil {
		return text
	}
	if ip := from.Addr().Unmap(); ip.Is4() {
		return ip.String()
	}
	if network, err := from.Addr().WithZone("").Prefix(64); err == nil {
		return network.String()
	}
	return text
}

// enter takes a place for a stranger; false: all are taken, or all that are for
// its address.
func (p *places) enter(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.addresses[address]
	if p.strangers == maxStrangers || from != nil && from.here == maxPerAddress {
		return false
	}
	if from == nil {
		from = new(crowd)
		p.addresses[address] = from
	}
	p.strangers++
	from.here++
	return true
}

// leave gives a stranger's place back.
func (p *places) leave(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strangers--
	if from := p.addresses[address]; from.here == 1 {
		delete(p.addresses, address)
	} else {
		from.here--
	}
}

// greet waits until a stranger, who has a place, is attended to.
func (p *places) greet(ctx context.Context, address string) bool {
	for {
		p.mu.Lock()
		from := p.addresses[address]
		if p.attended < maxAttended && from.attended < maxOfAddress {
			p.attended++
			from.attended++
			p.mu.Unlock()
			return true
		}
		freed := p.freed
		p.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

func (p *places) greeted(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attended--
	p.addresses[address].attended--
	close(p.freed)
	p.freed = make(chan struct{})
}

// host takes one of a host's places; refused says why it gets none.
func (p *places) host(name string) (refused string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hosts[name] == maxPerHost:
		return "too many connections of one host"
	case p.total == maxConnections:
		return "too many connections"
	}
	p.total++
	p.hosts[name]++
	return ""
}

func (p *places) left(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
	if p.hosts[name]--; p.hosts[name] == 0 {
		delete(p.hosts, name)
	}
}

package lab

import (
	"net"
	"sync"
	"time"
)

// Link is what connects a machine with the hub, and so with everything. What
// is cut vanishes, and nobody is told: connections stall, and go on after
// [Link.Heal].
type Link struct {
	lab     *Lab
	network *network // nil on loopback

	mu             sync.Mutex
	relays         map[string]string // our address by the server's
	changed        chan struct{}     // closed when one of the following changes
	toHub, fromHub bool              // what passes
	delay          time.Duration
}

// Cut lets nothing pass.
func (k *Link) Cut() { k.pass(false, false) }

// CutToHub lets nothing pass that the machine sends; it still hears.
func (k *Link) CutToHub() { k.pass(false, true) }

// CutFromHub lets nothing pass that is sent to the machine; it still speaks.
func (k *Link) CutFromHub() { k.pass(true, false) }

// Heal lets everything pass.
func (k *Link) Heal() { k.pass(true, true) }

func (k *Link) pass(toHub, fromHub bool) {
	k.lab.t.Helper()
	if k.network != nil {
		if err := k.network.pass(toHub, fromHub); err != nil {
			k.lab.t.Fatal(err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.toHub, k.fromHub = toHub, fromHub
	close(k.changed)
	k.changed = make(chan struct{})
}

// Delay makes each byte take d longer in each direction, on connections made
// through [Link.Relay]. It is for what is sent from now on.
func (k *Link) Delay(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = d
}

// Reach returns where the machine finds a TCP server that listens at hostPort,
// on the hub or on another machine: the address for its configuration.
func (k *Link) Reach(hostPort string) string {
	k.lab.t.Helper()
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		k.lab.t.Fatalf("reach %q: %v", hostPort, err)
	}
	address := net.ParseIP(host)
	if k.network == nil || host == "localhost" || address.IsLoopback() {
		return k.Relay(hostPort)
	}
	if host == "" || address.IsUnspecified() {
		return net.JoinHostPort(hub, port)
	}
	return hostPort
}

// Relay is Reach through a relay of the lab, on the hub, which [Link.Delay]
// works on. It connects to the server anew for each connection to it.
func (k *Link) Relay(hostPort string) string {
	k.lab.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if known, ok := k.relays[hostPort]; ok {
		return known
	}
	route := []hop{{link: k, toHub: true}}
	if m := k.lab.machineAt(hostPort); m != nil && m.Link != k {
		route = append(route, hop{link: m.Link})
	}
	k.relays[hostPort] = startRelay(k.lab, hostPort, route)
	return k.relays[hostPort]
}

// hop is one way over a link.
type hop struct {
	link  *Link
	toHub bool
}

// back is the other way.
func (h hop) back() hop { return hop{h.link, !h.toHub} }

// await waits until bytes pass. It returns false when done is closed before.
func (h hop) await(done <-chan struct{}) bool {
	for {
		h.link.mu.Lock()
		pass, changed := h.link.fromHub, h.link.changed
		if h.toHub {
			pass = h.link.toHub
		}
		h.link.mu.Unlock()
		if pass {
			return true
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}

func (h hop) delay() time.Duration {
	h.link.mu.Lock()
	defer h.link.mu.Unlock()
	return h.link.delay
}

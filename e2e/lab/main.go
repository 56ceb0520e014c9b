package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

// mode is the environment variable that says where this process is. Unset, it
// is on the machine as it was found.
const mode = "BORGFLEET_LAB"

const (
	modeLoopback = "loopback" // stay on the machine; a person may set this
	modeProbe    = "probe"    // find out whether everything is allowed, and exit
	modeFirst    = "first"    // be the first process of the namespaces
	modeInside   = "inside"   // run the tests in them
)

// isolated says that this process is inside of namespaces of its own.
var isolated = os.Getenv(mode) == modeInside

// Main is for TestMain. It moves the test binary into network, mount and
// process namespaces of its own, in which it runs [harness.Main]: nothing of it
// stays behind, whatever happens to it, and no address is taken from the
// outside. Where that is not allowed, and with BORGFLEET_LAB=loopback, it stays
// where it is, and machines are addresses of loopback.
func Main(m *testing.M) int {
	switch os.Getenv(mode) {
	case modeProbe:
		return probe()
	case modeFirst:
		return first()
	case modeInside, modeLoopback:
		return harness.Main(m)
	}
	runtime.LockOSThread() // its death would be the children's
	defer runtime.UnlockOSThread()
	if command(modeProbe).Run() != nil {
		fmt.Fprintln(os.Stderr, "lab: namespaces are not allowed here; machines are on loopback")
		return harness.Main(m)
	}
	if err := harness.Fetch(); err != nil { // there is no other network inside
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	code, err := enter()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	return code
}

// command is this program again, in new namespaces. It dies with the thread
// that starts it.
func command(mode string) *exec.Cmd {
	cmd := again(mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		// Programs keep their user: one that believes to be root, such as
		// sshd, would want to become others.
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capNetAdmin, capSysAdmin}
	}
	return cmd
}

// What a plain user needs, and keeps, over its own namespaces (linux/capability.h).
const (
	capNetAdmin = 12
	capSysAdmin = 21
)

func again(as string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), mode+"="+as)
	if as != modeProbe {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	return cmd
}

// enter runs the tests in new namespaces.
func enter() (int, error) {
	cmd := command(modeFirst)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("enter namespaces: %w", err)
	}
	stop := passSignals(cmd.Process)
	defer stop()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exitCode(exit.Sys().(syscall.WaitStatus)), nil
	}
	if err != nil {
		return 1, fmt.Errorf("wait for the namespaces' first process: %w", err)
	}
	return 0, nil
}

// probe does once all that a lab will do.
func probe() int {
	if prepare() != nil {
		return 1
	}
	n, err := newNetwork()
	if err != nil {
		return 1
	}
	defer n.close()
	if err := n.connect(1); err != nil {
		return 1
	}
	return 0
}

// first starts the tests, and takes in orphans until they are done. The kernel
// kills whatever is left when it ends.
func first() int {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	cmd := again(modeInside)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "lab: run the tests:", err)
		return 1
	}
	stop := passSignals(cmd.Process)
	defer stop()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			fmt.Fprintln(os.Stderr, "lab: wait for the tests:", err)
			return 1
		}
		if err == nil && pid == cmd.Process.Pid {
			return exitCode(status)
		}
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// passSignals passes on what `go test` and terminals send.
func passSignals(to *os.Process) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = to.Signal(s) // it has ended: so will we
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

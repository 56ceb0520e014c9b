package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a daemon under test.
type Process struct {
	Name string
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

// Write takes the daemon's output; it is shown when the test fails.
func (p *Process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(data)
}

// Output returns what the daemon has printed so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Start starts a daemon; it is killed when the test ends.
func Start(t testing.TB, name string, env []string, argv ...string) *Process {
	t.Helper()
	p := &Process{Name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = time.Second // what it has started may keep its output open
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.Output())
		}
	})
	return p
}

// PID returns the daemon's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Alive reports whether the daemon still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill kills -9 and waits until the process is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// Terminate asks the daemon to stop, waits, and returns its exit code.
func (p *Process) Terminate(t testing.TB) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.Wait(t)
}

// Stop stops the daemon where it is (SIGSTOP), and returns when it stands
// still: nothing of it runs until [Process.Continue].
func (p *Process) Stop() { p.signalUntil(syscall.SIGSTOP, true) }

// Continue lets a stopped daemon go on.
func (p *Process) Continue() { p.signalUntil(syscall.SIGCONT, false) }

func (p *Process) signalUntil(signal syscall.Signal, stopped bool) {
	_ = p.cmd.Process.Signal(signal)
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for p.Alive() && !p.allThreads(stopped) {
		<-pause.C
	}
}

// allThreads reports whether every thread of the daemon is stopped, or none.
func (p *Process) allThreads(stopped bool) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has just ended
		}
		_, state, _ := strings.Cut(string(stat), ") ") // the name before it may hold anything but this
		if strings.HasPrefix(state, "T") != stopped {
			return false
		}
	}
	return len(threads) > 0
}

// Wait waits for the daemon's end and returns its exit code.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	Eventually(t, p.Name+" to end", func() error {
		if p.Alive() {
			return errors.New("it still runs")
		}
		return nil
	})
	return p.cmd.ProcessState.ExitCode()
}

// PIDs returns the processes whose command line contains text, this one left
// out.
func PIDs(text string) []int { return processesWith(text, "cmdline") }

func processesWith(text string, files ...string) (found []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for _, file := range files {
			data, err := os.ReadFile(filepath.Join(entry, file))
			if err == nil && strings.Contains(strings.ReplaceAll(string(data), "\x00", " "), text) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// KillAll kills every process that has text in its command line or its
// environment, and waits until all are gone: supervisors and borgs are
// detached by design, and outlive a killed agent.
func KillAll(t testing.TB, text string) {
	t.Helper()
	Eventually(t, "processes with "+text+" to be gone", func() error {
		left := processesWith(text, "cmdline", "environ")
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(left) > 0 {
			return fmt.Errorf("%v are left", left)
		}
		return nil
	})
}

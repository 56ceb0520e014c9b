package overload_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// scale returns how much of something a test is to use: what
// BORGFLEET_OVERLOAD_<name> says, or a share, or all of it.
func scale(t *testing.T, name string, share, all int) int {
	t.Helper()
	if text := os.Getenv("BORGFLEET_OVERLOAD_" + name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("BORGFLEET_OVERLOAD_%s: %q is not a number", name, text)
		}
		return n
	}
	if os.Getenv("BORGFLEET_OVERLOAD") == "full" {
		return all
	}
	return share
}

// borgAfter returns a program that runs some lines of shell, and then becomes
// borg.
func borgAfter(t *testing.T, shell string) string {
	t.Helper()
	borg, err := exec.LookPath("borg")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "borg")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+shell+"\nexec "+borg+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// memory watches how much memory a process takes.
type memory struct {
	process *harness.Process
	rest    int // resident at the beginning, in MB
}

// growth is how much a process may take beyond what it had at rest, in MB. It
// is far below what any of these tests would need if something were unbounded
// at their full size, and far above what garbage makes of it.
const growth = 160

func watchMemory(t *testing.T, p *harness.Process) memory {
	t.Helper()
	// 5 sets the peak to what is resident now, see proc_pid_clear_refs(5).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("5"), 0); err != nil {
		t.Logf("the peak of %s counts from its start: %v", p.Name, err)
	}
	return memory{p, megabytes(t, p.PID(), "VmRSS:")}
}

// check fails the test when the process took more than it may.
func (m memory) check(t *testing.T) {
	t.Helper()
	peak := megabytes(t, m.process.PID(), "VmHWM:")
	t.Logf("%s: %d MB at rest, %d MB at most", m.process.Name, m.rest, peak)
	if peak > m.rest+growth {
		t.Errorf("%s took %d MB, %d MB at rest", m.process.Name, peak, m.rest)
	}
}

func megabytes(t *testing.T, pid int, field string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == field {
			kib, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatalf("no %s", field)
	return 0
}

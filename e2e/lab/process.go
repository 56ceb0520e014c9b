package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Descriptors returns how many files, sockets and pipes a process has open.
func Descriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(procOf(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// RSS returns how much memory of a process is resident, in bytes.
func RSS(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(filepath.Join(procOf(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nVmRSS:")
	var kilobytes int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
		t.Fatalf("read resident memory of process %d: %v", pid, err)
	}
	return kilobytes << 10
}

// Children returns all living descendants of a process. One whose parent has
// ended belongs to the first process of all.
func Children(pid int) []int {
	children := map[int][]int{}
	for _, p := range allProcesses() {
		if state, parent := stateOf(p); state != 'Z' {
			children[parent] = append(children[parent], p)
		}
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// stateOf returns a process's state and parent, see proc_pid_stat(5); Z when it
// is gone.
func stateOf(pid int) (state byte, parent int) {
	stat, err := os.ReadFile(filepath.Join(procOf(pid), "stat"))
	if err != nil {
		return 'Z', 0
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // a name may hold spaces
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return 'Z', 0
	}
	return fields[0][0], parent
}

func allProcesses() (pids []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, entry := range entries {
		if pid, err := strconv.Atoi(filepath.Base(entry)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func procOf(pid int) string { return filepath.Join("/proc", strconv.Itoa(pid)) }

package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stat is what /proc/<pid>/stat says of a process.
type stat struct {
	state byte   // 'R', 'S', …, 'Z' when it has ended
	group int    // process group
	ticks uint64 // start, in clock ticks after boot
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field is the program's name in parentheses, and may hold
	// anything; what follows the last parenthesis begins with the third.
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("stat of process %d is malformed", pid)
	}
	group, err := strconv.Atoi(fields[2])
	if err != nil {
		return stat{}, fmt.Errorf("process group of process %d: %w", pid, err)
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return stat{state: fields[0][0], group: group, ticks: ticks}, nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}

// identify describes a living process.
func identify(pid int, at time.Time) (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	found, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{PID: pid, Ticks: found.ticks, Boot: boot, At: at}, nil
}

// alive reports whether the very process still runs: not ended, not another
// one with its number. A process that nobody has waited for has ended.
func (i identity) alive() (bool, error) {
	if i.PID <= 0 {
		return false, nil
	}
	now, err := readStat(i.PID)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for process %d: %w", i.PID, err)
	}
	if now.ticks != i.Ticks || now.state == 'Z' || now.state == 'X' {
		return false, nil
	}
	boot, err := bootID()
	if err != nil {
		return false, fmt.Errorf("read boot id: %w", err)
	}
	return boot == i.Boot, nil
}

// ticksPerSecond is the unit of times in /proc: USER_HZ, which is the same on
// every architecture that Go runs Linux on (see time(7)).
const ticksPerSecond = 100

// age is how long ago a process of this boot was started.
func (i identity) age() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read the time since boot: %w", err)
	}
	return max(0, time.Duration(now.Nano())-time.Duration(i.Ticks)*(time.Second/ticksPerSecond)), nil
}

// gone reports whether an error of /proc means that there is no such process.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// identity returns who runs, or ran, in this directory, or the zero value when
// that cannot be told any more. When the supervisor died, or the disk was
// full, before it could write that down, the process is found by its standard
// error.
func (d directory) identity() (identity, error) {
	var known identity
	if found, err := d.read(startedFile, &known); err != nil || (found && known.PID > 0) {
		return known, err
	}
	return d.search()
}

// search looks through all processes for the leader of a process group whose
// standard error is this directory's.
func (d directory) search() (identity, error) {
	output, err := os.Stat(d.file(stderrFile))
	if gone(err) {
		return identity{}, nil
	}
	if err != nil {
		return identity{}, fmt.Errorf("search for the program: %w", err)
	}
	marker, err := os.Stat(d.file(startedFile))
	if err != nil {
		return identity{}, fmt.Errorf("search for the program: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return identity{}, fmt.Errorf("search for the program: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// Other users' processes cannot be looked into, and are not ours.
		held, err := os.Stat("/proc/" + entry.Name() + "/fd/2")
		if err != nil || !os.SameFile(held, output) {
			continue
		}
		if process, err := readStat(pid); err == nil && process.group == pid {
			return identify(pid, marker.ModTime().UTC())
		}
	}
	return identity{}, nil
}

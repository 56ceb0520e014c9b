package process

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Encoding of an I/O priority: ioprio_set(2), linux/ioprio.h.
const (
	ioprioClassShift = 13
	ioprioWhoProcess = 1
)

// ioClasses gives each class its number, and whether it has levels.
var ioClasses = map[string]struct {
	number int
	levels bool
}{"realtime": {1, true}, "best-effort": {2, true}, "idle": {3, false}}

// parseIOClass encodes "best-effort:7" and the like; 0 means "as it is".
func parseIOClass(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	name, level, given := strings.Cut(text, ":")
	class, known := ioClasses[name]
	if !known || (given && !class.levels) {
		return 0, fmt.Errorf("I/O class %q is not idle, best-effort:0 to 7, or realtime:0 to 7", text)
	}
	if !class.levels {
		return class.number << ioprioClassShift, nil
	}
	n := 4 // what the kernel gives without a level
	if given {
		var err error
		if n, err = strconv.Atoi(level); err != nil || n < 0 || n > 7 {
			return 0, fmt.Errorf("I/O class %q: the level is 0 to 7", text)
		}
	}
	return class.number<<ioprioClassShift | n, nil
}

// prioritise sets the priorities of the calling thread, which the processes
// that it starts inherit. It returns what could not be done, in words.
func prioritise(nice, io int) []string {
	var warnings []string
	if nice != 0 {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice); err != nil {
			warnings = append(warnings, fmt.Sprintf("set nice to %d: %v", nice, err))
		}
	}
	if io != 0 {
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, uintptr(io)); errno != 0 {
			warnings = append(warnings, fmt.Sprintf("set I/O priority: %v", errno))
		}
	}
	return warnings
}

//go:build faults

package fault

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// directory is where tests say what they want.
var directory = os.Getenv("BORGFLEET_FAULTS")

const poll = 2 * time.Millisecond

// Point holds the program, if a test has armed the point, until it says go on.
func Point(name string) {
	if directory == "" {
		return
	}
	armed := filepath.Join(directory, name)
	reached := armed + ".reached"
	if os.Rename(armed, reached) != nil {
		return // not armed, or another one was first
	}
	for {
		if _, err := os.Lstat(reached); err != nil {
			return
		}
		time.Sleep(poll)
	}
}

// Environ is what a program gives on that it starts from its own binary.
func Environ() []string { return []string{"BORGFLEET_FAULTS=" + directory} }

// Now is the time of the clock that a test may have set.
func Now() time.Time {
	now := time.Now()
	if directory == "" {
		return now
	}
	text, err := os.ReadFile(filepath.Join(directory, "clock"))
	if err != nil {
		return now
	}
	ahead, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		return now
	}
	return now.Add(ahead)
}

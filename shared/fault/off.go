//go:build !faults

package fault

import "time"

// Point does nothing.
func Point(string) {}

// Environ is what a program gives on that it starts from its own binary: nothing.
func Environ() []string { return nil }

// Now is time.Now.
func Now() time.Time { return time.Now() }

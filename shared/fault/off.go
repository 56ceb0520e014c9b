//go:build !faults

package fault

import "time"

// Point does nothing.
func Point(string) {}

// Now is time.Now.
func Now() time.Time { return time.Now() }

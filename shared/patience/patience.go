// Package patience is how tests wait: for a condition, with a deadline that only
// what never happens reaches, also on a machine that is busy with other things.
package patience

import (
	"testing"
	"time"
)

// Most is how long a test waits before it says that something does not happen.
const Most = time.Minute

// Until waits for a condition that nothing tells of, and fails the test when it
// does not come. It must be called from the test's own goroutine.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(Most), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", Most, what)
		case <-tick.C:
		}
	}
}

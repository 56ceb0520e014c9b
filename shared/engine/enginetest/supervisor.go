package enginetest

import (
	"os"
	"syscall"
	"testing"

	"github.com/borgfleet/borgfleet/shared/process"
)

// superviseArgument makes a test's own program a supervisor.
const superviseArgument = "-supervise"

// Main is what TestMain calls where the tests' own program is the supervisor of
// what they run.
func Main(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == superviseArgument {
		syscall.Exit(process.Supervise(os.Args[2])) // os.Exit lets the race detector wait for a second
	}
	os.Exit(m.Run())
}

// Supervisor is the command line of that supervisor.
func Supervisor() []string {
	self, _ := os.Executable() // it is, where there is a /proc
	return []string{self, superviseArgument}
}

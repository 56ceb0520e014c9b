package plans_test

import (
	"os"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

func TestMain(m *testing.M) {
	harness.SetTags("faults") // their clock can be set
	os.Exit(lab.Main(m))
}

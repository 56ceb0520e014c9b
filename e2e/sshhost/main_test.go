package sshhost_test

import (
	"flag"
	"os"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/lab"
)

// The tests wait for more than they work: several go side by side.
const together = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", together); err != nil {
		panic(err)
	}
	os.Exit(lab.Main(m))
}

package faults_test

import (
	"os"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/harness"
	"github.com/borgfleet/borgfleet/e2e/lab"
)

func TestMain(m *testing.M) {
	harness.SetTags("faults")
	code := lab.Main(m)
	if made.dir != "" {
		_ = os.RemoveAll(made.dir)
	}
	os.Exit(code)
}

package sshhost_test

import (
	"os"
	"testing"

	"github.com/borgfleet/borgfleet/e2e/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

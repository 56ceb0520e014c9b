package probe_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/probe"
)

func TestRealBorg(t *testing.T) {
	version, failure := probe.NewBorg("borg").Version(t.Context())
	if failure != nil || version.Major != 1 {
		t.Errorf("version %+v, failure %v", version, failure)
	}
}

// script writes a program that says which version it is and counts its calls.
func script(t *testing.T, path, version string) {
	t.Helper()
	text := fmt.Sprintf("#!/bin/sh\necho call >>%s.calls\necho 'borg %s'\n", path, version)
	if err := os.WriteFile(path+".new", []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func calls(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path + ".calls")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "call")
}

func TestBorgIsAskedOncePerBinary(t *testing.T) {
	path := filepath.Join(t.TempDir(), "borg")
	b := probe.NewBorg(path)
	script(t, path, "1.2.4")
	for range 3 {
		if version, failure := b.Version(t.Context()); failure != nil || version.Text != "1.2.4" {
			t.Fatalf("version %+v, failure %v", version, failure)
		}
	}
	if n := calls(t, path); n != 1 {
		t.Errorf("asked %d times; want once", n)
	}
	script(t, path, "1.4.0")
	if version, _ := b.Version(t.Context()); version.Text != "1.4.0" || calls(t, path) != 2 {
		t.Errorf("after an upgrade: %+v in %d calls; want 1.4.0 in 2", version, calls(t, path))
	}
}

// TestSlowBorg has somebody who cannot wait: the answer is there for the next.
func TestSlowBorg(t *testing.T) {
	path := filepath.Join(t.TempDir(), "borg")
	text := fmt.Sprintf("#!/bin/sh\necho call >>%[1]s.calls\nuntil [ -e %[1]s.go ]; do sleep 0.02; done\necho borg 1.2.4\n", path)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	b := probe.NewBorg(path)
	for range 2 {
		hurried, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, failure := b.Version(hurried)
		cancel()
		if failure == nil || failure.Hint == "" || !strings.Contains(failure.Message, "busy") {
			t.Fatalf("failure %+v", failure)
		}
	}
	if err := os.WriteFile(path+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if version, failure := b.Version(t.Context()); failure != nil || version.Text != "1.2.4" {
		t.Errorf("version %+v, failure %v", version, failure)
	}
	if n := calls(t, path); n != 1 {
		t.Errorf("asked %d times; want once", n)
	}
}

func TestUnusableBorg(t *testing.T) {
	tests := map[string]struct {
		text string
		code job.Code
	}{
		"missing":      {"", job.BorgMissing},
		"fails":        {"#!/bin/sh\necho broken >&2\nexit 3\n", job.BorgMissing},
		"not borg":     {"#!/bin/sh\necho hello\n", job.BorgMissing},
		"too new":      {"#!/bin/sh\necho borg 2.0.0b5\n", job.BorgUnsupported},
		"not runnable": {"garbage", job.BorgMissing},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "borg")
			if test.text != "" {
				if err := os.WriteFile(path, []byte(test.text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			_, failure := probe.NewBorg(path).Version(t.Context())
			if failure == nil || failure.Code != test.code || failure.Hint == "" {
				t.Errorf("failure %+v; want %s with a hint", failure, test.code)
			}
		})
	}
}

func TestHost(t *testing.T) {
	if probe.OS() == "" {
		t.Error("the system has no name")
	}
	if probe.FreeBytes(t.TempDir()) == 0 || probe.FreeBytes("/no/such/path") != 0 {
		t.Error("free space of a directory is 0, or that of a missing one is not")
	}
}

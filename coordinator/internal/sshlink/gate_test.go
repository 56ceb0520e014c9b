package sshlink_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/sshlink"
)

func TestGateDropsWhatComesBeforeItsMarker(t *testing.T) {
	tests := map[string]struct {
		text, want string
		open       bool
	}{
		"nothing":            {"", "", false},
		"only noise":         {"welcome\nMARK", "", false},
		"only the marker":    {"MARKER\n", "", true},
		"no noise":           {"MARKER\nout\n", "out\n", true},
		"noise without end":  {"welcome> MARKER\nout", "out", true},
		"nearly a marker":    {"MARKMARKER\nMARKER\n", "MARKER\n", true},
		"a marker's reply":   {"MARKER\r\nMARKER\nout", "out", true},
		"much noise":         {strings.Repeat("MARKE ", 9000) + "MARKER\nout", "out", true},
		"nothing is text":    {"\x00\xff\nMARKER\n\x00\xff", "\x00\xff", true},
		"the marker in vain": {"out", "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 3, 7, 1 << 20} { // of the pieces that it comes in
				var out bytes.Buffer
				g := sshlink.NewGate("MARKER", &out)
				for rest := []byte(test.text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
					piece := rest[:min(size, len(rest))]
					if n, err := g.Write(piece); n != len(piece) || err != nil {
						t.Fatalf("it takes %d bytes of %d, %v", n, len(piece), err)
					}
				}
				if open, err := g.Shut(); open != test.open || err != nil || out.String() != test.want {
					t.Errorf("in pieces of %d: %q, open %v, %v", size, out.String(), open, err)
				}
				if _, err := g.Write([]byte("late")); err == nil || out.String() != test.want {
					t.Errorf("what comes late is let through: %q, %v", out.String(), err)
				}
			}
		})
	}
}

func TestGateBoundsNoise(t *testing.T) {
	g := sshlink.NewGate("MARKER", nil)
	var err error
	for written := 0; err == nil && written < 2<<20; written += 1 << 10 {
		_, err = g.Write(bytes.Repeat([]byte("x"), 1<<10))
	}
	if err == nil || len(g.Noise()) > 1000 {
		t.Errorf("noise goes on, %d bytes of it are kept: %v", len(g.Noise()), err)
	}
}

func TestGateKeepsItsWritersError(t *testing.T) {
	g := sshlink.NewGate("MARKER", failing{})
	if _, err := g.Write([]byte("noise MARKER\nout")); !errors.Is(err, errFull) {
		t.Errorf("it fails with %v", err)
	}
	if _, err := g.Shut(); !errors.Is(err, errFull) {
		t.Errorf("it keeps %v", err)
	}
}

func TestPausesGrowAndAreBounded(t *testing.T) {
	for failed, most := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 1000: time.Minute} {
		longest := time.Duration(0)
		for range 1000 {
			d := sshlink.PauseAfter(failed, false)
			if d <= 0 || d > most {
				t.Fatalf("after %d tries it waits %s, more than %s", failed, d, most)
			}
			longest = max(longest, d)
		}
		if longest < most/2 {
			t.Errorf("after %d tries it waits %s at most", failed, longest)
		}
	}
	if d := sshlink.PauseAfter(0, true); d != time.Minute {
		t.Errorf("what a person must mend is tried again after %s", d)
	}
}

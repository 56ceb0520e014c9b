package fleet_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

func TestSizes(t *testing.T) {
	for text, want := range map[fleet.Size]int64{
		"": 0, "0": 0, "17": 17, "17B": 17, "500G": 500e9, "20MB": 20e6, "20 MB": 20e6, "1GiB": 1 << 30, "1Gi": 1 << 30, "1.5T": 15e11, "2P": 2e15,
	} {
		if got, err := text.Bytes(); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
	}
	for _, text := range []fleet.Size{"G", "5X", "-1", "1iB", "1.5.5G", "five", "9999999P", "1 G B"} {
		if got, err := text.Bytes(); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestSizesAreWrittenWhole(t *testing.T) {
	for bytes, want := range map[int64]fleet.Size{
		0: "", 17: "17", 500e9: "500G", 1 << 30: "1Gi", 15e11: "1500G", 1536 << 20: "1536Mi", 1001: "1001",
	} {
		got := fleet.SizeOf(bytes)
		if back, err := got.Bytes(); got != want || err != nil || back != bytes {
			t.Errorf("%d is written %q, which is %d (%v); want %q", bytes, got, back, err, want)
		}
	}
}

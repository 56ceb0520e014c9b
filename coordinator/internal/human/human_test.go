package human_test

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                    "–",
		0:                               "0 ms",
		40 * time.Millisecond:           "40 ms",
		2100 * time.Millisecond:         "2.1 s",
		48 * time.Second:                "48 s",
		100 * time.Second:               "1 min 40 s",
		2 * time.Minute:                 "2 min",
		64 * time.Minute:                "1 h 4 min",
		76 * time.Hour:                  "3 d 4 h",
		24 * time.Hour:                  "1 d",
		59*time.Minute + 59*time.Second: "59 min 59 s",
	} {
		if got := human.Duration(d); got != want {
			t.Errorf("%v: %q, want %q", int64(d), got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		human.Bytes(31_400_000_000):   "31 GB",
		human.Bytes(2_140_000):        "2.1 MB",
		human.Bytes(0):                "0 B",
		human.Bytes(-1):               "–",
		human.Rate(118_000_000):       "118 MB/s",
		human.Count(148210):           "148,210",
		human.Share(0.25):             "25 %",
		human.Share(0.004):            "0.4 %",
		human.Share(0):                "0 %",
		human.Plural(1, "job"):        "1 job",
		human.Plural(0, "job"):        "0 jobs",
		human.Plural(2, "repository"): "2 repositories",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	if got := human.Ago(now.Add(-11*time.Hour), now); got != "11 h ago" {
		t.Error(got)
	}
	if got := human.Ago(now.Add(-2500*time.Millisecond), now); got != "2 s ago" {
		t.Error(got)
	}
	if got := human.Ago(now, now); got != "just now" {
		t.Error(got)
	}
}

package human_test

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 512: "512 B", 999: "999 B", 1000: "1.0 kB", 99_949: "99.9 kB", 99_960: "100 kB", 212_000_000: "212 MB",
		999_600: "1.0 MB", 999_999: "1.0 MB", 4_120_000_000: "4.1 GB", 31_400_000_000: "31.4 GB", 402_000_000_000: "402 GB", 1 << 62: "4.6 EB", -5: "-5 B",
	} {
		if got := human.Bytes(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	if got, want := human.Rate(118_000_000), "118 MB/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 148_210: "148,210", 1_000_000: "1,000,000", -1: "-1", -123: "-123", -1234: "-1,234", -123_456: "-123,456",
	} {
		if got := human.Count(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration][2]string{ // as a span, as an age
		0:                                       {"0 s", "just now"},
		-time.Second:                            {"0 s", "just now"},
		400 * time.Millisecond:                  {"0.4 s", "just now"},
		20 * time.Millisecond:                   {"0.1 s", "just now"},
		2500 * time.Millisecond:                 {"3 s", "2 s ago"},
		48 * time.Second:                        {"48 s", "48 s ago"},
		100 * time.Second:                       {"1 min 40 s", "1 min ago"},
		2 * time.Minute:                         {"2 min", "2 min ago"},
		59*time.Minute + 59700*time.Millisecond: {"1 h", "59 min ago"},
		64 * time.Minute:                        {"1 h 4 min", "1 h ago"},
		24 * time.Hour:                          {"1 d", "1 d ago"},
		35 * time.Hour:                          {"1 d 11 h", "1 d 11 h ago"},
		76 * time.Hour:                          {"3 d 4 h", "3 d 4 h ago"},
		600 * time.Hour:                         {"25 d", "25 d ago"},
	} {
		if span, age := human.Duration(d), human.Age(d); span != want[0] || age != want[1] {
			t.Errorf("%v: got %q and %q, want %q", d, span, age, want)
		}
	}
	if got, want := human.Seconds(100.4), "1 min 40 s"; got != want {
		t.Errorf("seconds: got %q, want %q", got, want)
	}
	now := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	if got, want := human.Ago(now.Add(-11*time.Hour), now), "11 h ago"; got != want {
		t.Errorf("ago: got %q, want %q", got, want)
	}
}

func TestShare(t *testing.T) {
	for part, want := range map[float64]string{0: "0 %", 0.00002: "< 0.1 %", 0.0068: "0.7 %", 0.0996: "10 %", 0.41: "41 %", 1: "100 %"} {
		if got := human.Share(part); got != want {
			t.Errorf("%v: got %q, want %q", part, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for got, want := range map[string]string{
		human.Plural(1, "job"):        "1 job",
		human.Plural(0, "job"):        "0 jobs",
		human.Plural(2, "repository"): "2 repositories",
		human.Plural(1200, "file"):    "1,200 files",
		human.Noun(1, "host"):         "host",
		human.Noun(2, "host"):         "hosts",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRemark(t *testing.T) {
	freed := int64(1_200_000)
	for want, j := range map[string]job.Job{
		"host web1 is offline": {State: job.Queued, Reason: "host web1 is offline"},
		"no space left":        {State: job.Failed, Failure: &job.Failure{Message: "no space left"}, Result: &job.Result{}},
		"/x: changed":          {State: job.Warning, Result: &job.Result{Warnings: []string{"/x: changed"}}},
		"5 warnings":           {State: job.Warning, Result: &job.Result{Warnings: []string{"/x: changed"}, WarningsOmitted: 4}},
		"31.4 GB, 212 MB new":  {Kind: job.Backup, State: job.Succeeded, Result: &job.Result{OriginalSize: 31_400_000_000, DeduplicatedSize: 212_000_000}},
		"into /var/restore/a":  {Kind: job.Restore, State: job.Succeeded, Result: &job.Result{Target: "/var/restore/a"}},
		"1.2 MB freed":         {Kind: job.Compact, State: job.Succeeded, Result: &job.Result{FreedBytes: &freed}},
		"":                     {State: job.Cancelled, Failure: &job.Failure{Message: "it was cancelled"}},
	} {
		if got := human.Remark(j); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

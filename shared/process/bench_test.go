package process_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/engine/enginetest"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// BenchmarkStart measures from the call of Start to its return, when the
// program runs: the executor's part of the way from a submission to borg.
func BenchmarkStart(b *testing.B) {
	for name, standby := range map[string]bool{"standby": true, "cold": false} {
		b.Run(name, func(b *testing.B) { benchmarkStart(b, standby) })
	}
}

func benchmarkStart(b *testing.B, standby bool) {
	l := local(b, b.TempDir(), standby)
	var taken []time.Duration
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("job.%d", i)
		begun := time.Now()
		if _, err := l.Start(b.Context(), enginetest.Shell(id, "exit"), secret.FromString("secret")); err != nil {
			b.Fatal(err)
		}
		taken = append(taken, time.Since(begun))
		b.StopTimer()
		if _, err := l.Follow(b.Context(), id, process.Offsets{}, func(process.Chunk) error { return nil }); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(taken)
	b.ReportMetric(float64(taken[len(taken)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(taken[len(taken)*99/100].Microseconds())/1000, "p99-ms")
}

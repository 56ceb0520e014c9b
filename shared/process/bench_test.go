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

// BenchmarkReport measures from the end of a program, which has printed a report as
// borg does, to the end of its run: most of it is bringing both to the disk.
func BenchmarkReport(b *testing.B) {
	l := local(b, b.TempDir(), true)
	var taken []time.Duration
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("job.%d", i)
		script := `i=0; while [ $i -lt 60 ]; do echo "a line of a report"; echo "a line of a log" >&2; i=$((i+1)); done`
		if _, err := l.Start(b.Context(), enginetest.Shell(id, script), secret.Value{}); err != nil {
			b.Fatal(err)
		}
		exit, err := l.Follow(b.Context(), id, process.Offsets{}, func(process.Chunk) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		taken = append(taken, time.Since(exit.EndedAt))
	}
	slices.Sort(taken)
	b.ReportMetric(float64(taken[len(taken)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(taken[len(taken)*99/100].Microseconds())/1000, "p99-ms")
}

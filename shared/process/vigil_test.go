package process_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/shared/patience"
	"github.com/borgfleet/borgfleet/shared/process"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// However a follower ends, it keeps no descriptor of the program it followed.
func TestFollowersKeepNoDescriptors(t *testing.T) {
	l := local(t, t.TempDir(), false)
	follow := func(id, script string, patience time.Duration) {
		t.Helper()
		if _, err := l.Start(t.Context(), process.Command{ID: id, Argv: []string{"/bin/sh", "-c", script}}, secret.Value{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, _ = l.Follow(ctx, id, process.Offsets{}, func(process.Chunk) error { return nil })
	}
	follow("warm.1", "true", time.Minute) // what the first one opens for good
	before := descriptors(t)
	for i := range 20 {
		follow(fmt.Sprintf("ended.%d", i), "sleep 0.05", time.Minute)
		follow(fmt.Sprintf("left.%d", i), "sleep 0.2", 50*time.Millisecond)
	}
	patience.Until(t, "the descriptors to be closed", func() bool { return descriptors(t) <= before })
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// BenchmarkEnd measures how late a follower notices the end of a program that
// was silent for a second, when it looks only rarely by then.
func BenchmarkEnd(b *testing.B) {
	l := local(b, b.TempDir(), false)
	var late time.Duration
	runs := 0
	for b.Loop() {
		runs++
		id := fmt.Sprintf("end.%d", runs)
		if _, err := l.Start(b.Context(), process.Command{ID: id, Argv: []string{"/bin/sleep", "1"}}, secret.Value{}); err != nil {
			b.Fatal(err)
		}
		exit, err := l.Follow(b.Context(), id, process.Offsets{}, func(process.Chunk) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		late += time.Since(exit.EndedAt)
	}
	b.ReportMetric(float64(late.Microseconds())/1000/float64(runs), "ms-late")
}

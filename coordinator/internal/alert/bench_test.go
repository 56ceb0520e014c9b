package alert_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/alert"
	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// BenchmarkEvaluate is one look at 10,000 conditions that hold on.
func BenchmarkEvaluate(b *testing.B) {
	s, err := store.Open(filepath.Join(b.TempDir(), "db"), hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	w := &world{}
	for i := range 10_000 {
		w.holds = append(w.holds, overdue(fmt.Sprintf("plan-%05d", i)))
	}
	service, err := alert.New(alert.Options{Store: s, Feed: feed.New(), Conditions: w.conditions, Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	if err := service.Evaluate(b.Context()); err != nil { // all are raised
		b.Fatal(err)
	}
	for b.Loop() {
		if err := service.Evaluate(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if page, err := service.Alerts(context.Background(), fleet.AlertFilter{}); err != nil || page.Open != 10_000 {
		b.Fatal(page.Open, err)
	}
}

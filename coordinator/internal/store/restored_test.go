package store_test

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/google/go-cmp/cmp"
)

func TestRestored(t *testing.T) {
	s := open(t)
	if marker, found, err := s.Restored(); found || err != nil {
		t.Errorf("a new store says it was restored: %+v, %v", marker, err)
	}
	first := store.Restored{SnapshotAt: time.Date(2026, 1, 1, 2, 0, 0, 0, time.UTC), RestoredAt: time.Date(2026, 1, 3, 4, 0, 0, 0, time.UTC)}
	second := store.Restored{SnapshotAt: first.SnapshotAt, RestoredAt: first.RestoredAt.Add(time.Hour)}
	for _, want := range []store.Restored{first, second} {
		apply(t, s, store.MarkRestored(want))
		marker, found, err := s.Restored()
		if diff := cmp.Diff(want, marker); !found || err != nil || diff != "" {
			t.Errorf("found %v, %v\n%s", found, err, diff)
		}
	}
}

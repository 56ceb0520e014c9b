package feed_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/shared/job"
)

func next(t *testing.T, w *feed.Watcher) []feed.Update {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	batch, err := w.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func progress(id job.ID, n int64) feed.Update {
	return feed.Update{Type: feed.JobProgress, Job: &job.Job{ID: id}, Progress: &job.Progress{NFiles: n}}
}

func TestNewestOfEachKeyIsKept(t *testing.T) {
	f := feed.New()
	w := f.Watch()
	defer w.Close()
	f.Publish(progress("A", 1))
	f.Publish(progress("B", 1))
	f.Publish(progress("A", 2))
	f.Publish(feed.Update{Type: feed.JobChanged, Job: &job.Job{ID: "A"}})
	batch := next(t, w)
	if len(batch) != 3 || batch[0].Progress.NFiles != 2 || batch[1].Job.ID != "B" || batch[2].Type != feed.JobChanged {
		t.Errorf("%+v", batch)
	}
}

func TestEventsAreNeverCoalesced(t *testing.T) {
	f := feed.New()
	w := f.Watch()
	defer w.Close()
	for range 100 {
		f.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: "A"}})
	}
	if n := len(next(t, w)); n != 100 {
		t.Errorf("%d of 100 events", n)
	}
}

func TestASlowWatcherIsToldThatItMissedSome(t *testing.T) {
	f := feed.New()
	slow := f.Watch()
	defer slow.Close()
	for range 5000 {
		f.Publish(feed.Update{Type: feed.JobEvent, Event: &job.Event{Job: "A"}})
	}
	batch := next(t, slow)
	if batch[0].Type != feed.Missed || len(batch) >= 5000 {
		t.Errorf("%d updates, the first is %s", len(batch), batch[0].Type)
	}
}

func TestNextEndsWithItsContextAndCloseForgetsTheWatcher(t *testing.T) {
	f := feed.New()
	w := f.Watch()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	w.Close()
	if f.Watchers() != 0 {
		t.Error("a closed watcher is still there")
	}
}

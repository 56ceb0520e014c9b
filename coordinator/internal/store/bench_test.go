package store_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// BenchmarkApply is what ingest does for each small batch of events.
func BenchmarkApply(b *testing.B) {
	s, j := open(b), newJob(0)
	apply(b, s, store.CreateJob(j))
	position := uint64(0)
	for b.Loop() {
		position++
		j.State = job.Sent
		if position%2 == 0 {
			j.State = job.Running
		}
		state := store.AttemptState{Job: j.ID, Attempt: 1, LastSeq: int(position), Stamp: bus.Stamp{Journal: "x", Revision: position}}
		if _, err := s.Apply(store.PutJob(j), store.PutAttemptState(state), store.SetStreamPosition(position)); err != nil {
			b.Fatal(err)
		}
	}
}

// full returns a store with 100,000 finished jobs of 50 hosts.
func full(b *testing.B) *store.Store {
	s, changes := open(b), []store.Change{}
	for i := range 100_000 {
		j := newJob(i)
		j.Host, j.Repository = fmt.Sprint("host", i%50), fmt.Sprint("repo", i%7)
		state := job.Succeeded
		if i%5000 == 0 {
			state = job.Failed
		}
		j = finished(j, state, j.SubmittedAt.Add(time.Minute))
		j.Result = &job.Result{Archive: "host1-2026-11-22T02:00:00", OriginalSize: 12345, BorgVersion: "1.2.4", Warnings: []string{}}
		if changes = append(changes, store.CreateJob(j)); len(changes) == 5000 {
			apply(b, s, changes...)
			changes = nil
		}
	}
	return s
}

func BenchmarkWith100kJobs(b *testing.B) {
	s := full(b)
	size, err := s.Size()
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("the database has %d MB", size>>20)
	for name, f := range map[string]job.Filter{
		"newest": {}, "of a host": {Host: "host7"}, "failed": {State: job.Failed},
		"host and repository": {Host: "host7", Repository: "repo3"},
		"failed of a host":    {Host: "host7", State: job.Failed}, // none: the worst case
		"since":               {Since: start.Add(99_000 * time.Second), Kind: job.Backup},
	} {
		b.Run("list "+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Jobs(f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("apply", func(b *testing.B) {
		n := 100_000
		for b.Loop() {
			n++
			apply(b, s, store.CreateJob(newJob(n)))
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Snapshot(io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("open", func(b *testing.B) { benchmarkOpen(b, s) })
}

func benchmarkOpen(b *testing.B, s *store.Store) {
	var copied bytes.Buffer
	if _, err := s.Snapshot(&copied); err != nil {
		b.Fatal(err)
	}
	file := path(b)
	if err := os.WriteFile(file, copied.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		again := openAt(b, file)
		if err := again.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

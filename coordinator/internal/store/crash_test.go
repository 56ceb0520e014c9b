package store_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/hashicorp/go-hclog"
)

// writerVariable makes this test binary a process that writes to the store
// named by it until it is killed, and prints the number of each transaction
// once it is done.
const writerVariable = "BORGFLEET_STORE_TEST_WRITER"

func TestMain(m *testing.M) {
	if file := os.Getenv(writerVariable); file != "" {
		fmt.Fprintln(os.Stderr, writeForEver(file))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForEver(file string) error {
	s, err := store.Open(file, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	for {
		j := newJob(0)
		over := finished(j, job.Succeeded, start)
		over.ID = newJob(1).ID
		sequence, err := s.Apply(store.CreateJob(j), store.PutIdempotency(string(j.ID), j.ID, start), store.CreateJob(over),
			store.AppendAudit(fleet.AuditEntry{Action: "job.submit"}))
		if err != nil {
			return err
		}
		fmt.Println(sequence)
	}
}

// TestKilledWriter kills a process while it writes, again and again: what it
// had reported is there, whole transactions only, and the lock is free.
func TestKilledWriter(t *testing.T) {
	file := path(t)
	for round := 1; round <= 8; round++ {
		told := writeAndKill(t, file, 5*round)
		s, err := store.Open(file, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
		sequence, err := s.Sequence()
		if err != nil || sequence < told {
			t.Errorf("the store is at %d, and %d had been reported; %v", sequence, told, err)
		}
		total := 0
		counts, err := s.Counts()
		if err != nil {
			t.Fatal(err)
		}
		for _, count := range counts {
			total += count.Count
		}
		audit, err := s.Audit(fleet.AuditFilter{Limit: 1})
		if err != nil || len(audit.Entries) != 1 || audit.Entries[0].Number != sequence || uint64(total) != 2*sequence {
			t.Errorf("after %d transactions: %d jobs, audit %v, %v", sequence, total, audit, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeAndKill runs the writer until it has reported so many transactions,
// kills it, and returns the last number that it reported.
func writeAndKill(t *testing.T, file string, transactions int) (last uint64) {
	t.Helper()
	writer := exec.CommandContext(t.Context(), os.Args[0])
	writer.Env = append(os.Environ(), writerVariable+"="+file)
	var complaint strings.Builder
	writer.Stderr = &complaint
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatal(err)
		}
		if transactions--; transactions == 0 {
			if err := writer.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = writer.Wait() // killed
	if transactions > 0 {
		t.Fatalf("the writer ended by itself: %s", complaint.String())
	}
	return last
}

func TestWritersTakeTurns(t *testing.T) {
	s := open(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	numbers := map[uint64]bool{}
	for range 8 {
		group.Go(func() {
			for range 10 {
				n, err := s.Apply(store.CreateJob(newJob(0)))
				if err != nil {
					t.Error(err)
				}
				if _, err := s.Jobs(job.Filter{State: job.Queued}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				numbers[n] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if last, err := s.Sequence(); err != nil || last != 80 || len(numbers) != 80 {
		t.Errorf("sequence %d, %d different numbers, %v", last, len(numbers), err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

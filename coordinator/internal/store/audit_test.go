package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"
)

func auditEntry(i int) fleet.AuditEntry {
	return fleet.AuditEntry{
		At: start.Add(time.Duration(i) * time.Second), By: "operator:alice", From: "http 10.0.0.7",
		Action: "host.add", Object: fmt.Sprintf("host/web%d", i), Outcome: "done",
	}
}

// appendEntries adds n entries to the audit.
func appendEntries(t testing.TB, s *store.Store, n int) {
	t.Helper()
	var changes []store.Change
	for i := range n {
		changes = append(changes, store.AppendAudit(auditEntry(i)))
	}
	apply(t, s, changes...)
}

// auditFile makes a closed database with n entries in its audit.
func auditFile(t testing.TB, n int) string {
	t.Helper()
	file := path(t)
	s, err := store.Open(file, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	appendEntries(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// tamper changes a closed database behind the store's back.
func tamper(t testing.TB, file string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func auditKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func verify(t testing.TB, s *store.Store) fleet.AuditProof {
	t.Helper()
	proof, err := s.VerifyAudit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

func TestAuditIsReadBackwards(t *testing.T) {
	s := open(t)
	appendEntries(t, s, 300) // the numbers need more than one byte
	for name, test := range map[string]struct {
		filter fleet.AuditFilter
		want   []uint64
		before uint64
	}{
		"newest":     {fleet.AuditFilter{Limit: 2}, []uint64{300, 299}, 299},
		"further":    {fleet.AuditFilter{Limit: 2, Before: 257}, []uint64{256, 255}, 255},
		"last":       {fleet.AuditFilter{Limit: 5, Before: 3}, []uint64{2, 1}, 0},
		"just full":  {fleet.AuditFilter{Limit: 2, Before: 3}, []uint64{2, 1}, 0},
		"none":       {fleet.AuditFilter{Limit: 5, Before: 1}, nil, 0},
		"one object": {fleet.AuditFilter{Limit: 5, Object: "host/web7"}, []uint64{8}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := s.Audit(test.filter)
			if err != nil {
				t.Fatal(err)
			}
			var numbers []uint64
			for _, entry := range page.Entries {
				numbers = append(numbers, entry.Number)
			}
			if diff := cmp.Diff(test.want, numbers); diff != "" || page.Before != test.before {
				t.Errorf("before %d: %s", page.Before, diff)
			}
		})
	}
	if page, err := s.Audit(fleet.AuditFilter{}); err != nil || len(page.Entries) != 100 {
		t.Errorf("a page without a limit has %d entries, %v", len(page.Entries), err)
	}
}

func TestAuditFilters(t *testing.T) {
	s := open(t)
	for _, entry := range []fleet.AuditEntry{
		{By: "operator:alice", Action: "borg.create", Object: "repository/main"},
		{By: "token:ci", Action: "borg.create", Object: "repository/main"},
		{By: "token:ci", Action: "borg", Object: "repository/main"},
		{By: "token:ci", Action: "borgia.crown", Object: "repository/rome"},
		{By: "operator:alice", Action: "borg.prune", Object: "repository/main-2"},
	} {
		apply(t, s, store.AppendAudit(entry))
	}
	for name, test := range map[string]struct {
		filter fleet.AuditFilter
		want   string
	}{
		"all":           {fleet.AuditFilter{}, "[5 4 3 2 1]"},
		"by":            {fleet.AuditFilter{By: "token:ci"}, "[4 3 2]"},
		"exact action":  {fleet.AuditFilter{Action: "borg"}, "[3]"},
		"prefix":        {fleet.AuditFilter{Action: "borg."}, "[5 2 1]"},
		"object":        {fleet.AuditFilter{Object: "repository/main"}, "[3 2 1]"},
		"all together":  {fleet.AuditFilter{By: "operator:alice", Action: "borg.", Object: "repository/main"}, "[1]"},
		"none":          {fleet.AuditFilter{By: "operator:mallory"}, "[]"},
		"part of a one": {fleet.AuditFilter{By: "token"}, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := s.Audit(test.filter)
			numbers := []uint64{}
			for _, entry := range page.Entries {
				numbers = append(numbers, entry.Number)
			}
			if got := fmt.Sprint(numbers); got != test.want || err != nil {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestAuditChain(t *testing.T) {
	s := open(t)
	if diff := cmp.Diff(fleet.AuditProof{Intact: true, Message: "all 0 entries follow from the ones before"}, verify(t, s)); diff != "" {
		t.Error(diff)
	}
	appendEntries(t, s, 2500) // several chunks
	odd := auditEntry(1)
	odd.Detail = "no text: \xff\xfe <&> \u2028"
	odd.At = odd.At.In(time.FixedZone("", -5400)).Add(1)
	apply(t, s, store.AppendAudit(odd))
	page, err := s.Audit(fleet.AuditFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.AuditProof{Entries: 2501, Head: page.Entries[0].Hash, Intact: true, Message: "all 2501 entries follow from the ones before"}
	if diff := cmp.Diff(want, verify(t, s)); diff != "" || len(want.Head) != 64 {
		t.Errorf("head %q: %s", want.Head, diff)
	}
}

func TestAuditChainSurvivesReopening(t *testing.T) {
	file := auditFile(t, 3)
	s := openAt(t, file)
	before := verify(t, s)
	appendEntries(t, s, 2)
	if after := verify(t, s); !after.Intact || after.Entries != 5 || after.Head == before.Head {
		t.Errorf("%+v", after)
	}
}

func TestVerifyAuditFindsTampering(t *testing.T) {
	const entries = 1200 // more than one chunk
	good := read(t, auditFile(t, entries))
	put := func(bucket *bbolt.Bucket, n uint64, value string) error {
		return bucket.Put(auditKey(n), []byte(value))
	}
	edit := func(n uint64, old, fresh string) func(*bbolt.Bucket) error {
		return func(b *bbolt.Bucket) error {
			return put(b, n, strings.Replace(string(b.Get(auditKey(n))), old, fresh, 1))
		}
	}
	remove := func(from, to uint64) func(*bbolt.Bucket) error {
		return func(b *bbolt.Bucket) error {
			for n := from; n <= to; n++ {
				if err := b.Delete(auditKey(n)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for name, test := range map[string]struct {
		change   func(*bbolt.Bucket) error
		brokenAt uint64
		entries  uint64
	}{
		"edited":             {edit(600, "alice", "mallory"), 600, entries},
		"edited first":       {edit(1, "alice", "mallory"), 1, entries},
		"edited last":        {edit(entries, "alice", "mallory"), entries, entries},
		"edited hash":        {edit(600, `"hash":"`, `"hash":"0`), 600, entries},
		"another field":      {edit(600, `"by":`, `"note":"x","by":`), 600, entries},
		"not JSON":           {edit(600, `{`, ``), 600, entries},
		"removed":            {remove(1100, 1100), 1101, entries - 1},
		"beginning cut off":  {remove(1, 400), 401, entries - 400},
		"end cut off":        {remove(1001, entries), 1001, 1000},
		"all removed":        {remove(1, entries), 1, 0},
		"inserted at end":    {func(b *bbolt.Bucket) error { return put(b, entries+1, string(b.Get(auditKey(entries)))) }, entries + 1, entries + 1},
		"inserted between":   {func(b *bbolt.Bucket) error { return b.Put(append(auditKey(5), 0), b.Get(auditKey(5))) }, 6, entries + 1},
		"inserted in front":  {func(b *bbolt.Bucket) error { return put(b, 0, string(b.Get(auditKey(1)))) }, 1, entries + 1},
		"exchanged for copy": {func(b *bbolt.Bucket) error { return put(b, 7, string(b.Get(auditKey(6)))) }, 7, entries},
	} {
		t.Run(name, func(t *testing.T) {
			file := path(t)
			if err := os.WriteFile(file, good, 0o600); err != nil {
				t.Fatal(err)
			}
			tamper(t, file, func(tx *bbolt.Tx) error { return test.change(tx.Bucket([]byte("audit"))) })
			proof := verify(t, openAt(t, file))
			if proof.Intact || proof.BrokenAt != test.brokenAt || proof.Entries != test.entries || proof.Message == "" {
				t.Errorf("%+v, want it broken at %d of %d", proof, test.brokenAt, test.entries)
			}
		})
	}
}

// TestTamperedAuditIsNotRepaired appends to an audit whose newest entry was
// exchanged: that still works, and the fault is still found.
func TestTamperedAuditIsNotRepaired(t *testing.T) {
	for name, exchange := range map[string]func(string) string{
		"edited":   func(text string) string { return strings.Replace(text, "web2", "web9", 1) },
		"not JSON": func(string) string { return "{" },
	} {
		t.Run(name, func(t *testing.T) {
			file := auditFile(t, 3)
			tamper(t, file, func(tx *bbolt.Tx) error {
				bucket := tx.Bucket([]byte("audit"))
				return bucket.Put(auditKey(3), []byte(exchange(string(bucket.Get(auditKey(3))))))
			})
			s := openAt(t, file)
			appendEntries(t, s, 2)
			if proof := verify(t, s); proof.Intact || proof.BrokenAt != 3 || proof.Entries != 5 {
				t.Errorf("%+v", proof)
			}
		})
	}
}

func TestVerifyAuditCanBeCancelled(t *testing.T) {
	s := open(t)
	appendEntries(t, s, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.VerifyAudit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("VerifyAudit = %v", err)
	}
}

// TestVerifyAuditWhileItGrows checks that what is added meanwhile breaks
// nothing.
func TestVerifyAuditWhileItGrows(t *testing.T) {
	s := open(t)
	appendEntries(t, s, 1500)
	done := make(chan error)
	go func() {
		for i := range 50 {
			if _, err := s.Apply(store.AppendAudit(auditEntry(i))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for growing := true; growing; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			growing = false
		default:
		}
		if proof := verify(t, s); !proof.Intact {
			t.Fatalf("%+v", proof)
		}
	}
	if proof := verify(t, s); proof.Entries != 1550 {
		t.Errorf("%+v", proof)
	}
}

// TestMigrationChainsTheAudit opens a database as version 1 left it.
func TestMigrationChainsTheAudit(t *testing.T) {
	file := auditFile(t, 5)
	tamper(t, file, func(tx *bbolt.Tx) error {
		for _, bucket := range store.BucketsAfter(1) {
			if err := tx.DeleteBucket([]byte(bucket)); err != nil {
				return err
			}
		}
		for n := uint64(1); n <= 5; n++ {
			old := fmt.Sprintf(`{"number":%d,"at":"2026-11-22T02:00:00Z","by":"operator:alice","action":"host.add","object":"host/web1","outcome":"done"}`, n)
			if err := tx.Bucket([]byte("audit")).Put(auditKey(n), []byte(old)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("schema"), auditKey(1))
	})
	s := openAt(t, file)
	appendEntries(t, s, 1)
	if proof := verify(t, s); !proof.Intact || proof.Entries != 6 {
		t.Errorf("%+v", proof)
	}
	page, err := s.Audit(fleet.AuditFilter{Before: 2})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].By != "operator:alice" || page.Entries[0].Hash == "" {
		t.Errorf("%+v, %v", page, err)
	}
	apply(t, s, store.CreateUser(store.User{User: fleet.User{Name: "alice"}}))
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

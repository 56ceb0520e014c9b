package notify_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/borgfleet/borgfleet/coordinator/internal/feed"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/notify"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/coordinator/internal/vault"
)

// BenchmarkLook is one look at 10,000 alerts that hold and were told, with five
// rules for two targets each.
func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	s, err := store.Open(filepath.Join(dir, "db"), hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	keys, err := vault.Open(filepath.Join(dir, "key"), true)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now().UTC()
	var changes []store.Change
	for i := range 10_000 {
		id := fmt.Sprintf("A%05d", i)
		c := fleet.Condition{Kind: "overdue", Severity: fleet.SeverityWarning, Plan: id, Host: "web1", Message: "m"}
		changes = append(changes, store.RaiseAlert(fleet.Alert{ID: id, Condition: c, RaisedAt: now}))
	}
	if _, err := s.Apply(changes...); err != nil {
		b.Fatal(err)
	}
	n, err := notify.New(notify.Options{Store: s, Vault: keys, Feed: feed.New(), Logger: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	targets := map[string]fleet.NewTarget{}
	rules := map[string]fleet.Rule{}
	for i := range 5 {
		a, c := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)
		for _, name := range []string{a, c} {
			targets[name] = fleet.NewTarget{Kind: "webhook", URL: secretOf("https://" + name + ".example.net/")}
		}
		rules["rule-"+a] = fleet.Rule{Targets: []string{a, c}, Group: "0s", Plans: []string{"A*", "x*"}}
	}
	if err := n.Apply(b.Context(), alice, targets, rules, false); err != nil {
		b.Fatal(err)
	}
	if err := n.Round(); err != nil { // all of it is put down
		b.Fatal(err)
	}
	for b.Loop() {
		if err := n.Round(); err != nil {
			b.Fatal(err)
		}
	}
}

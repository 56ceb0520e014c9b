package access_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/access"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

var bad = secret.FromString("wrong horse, too")

func TestLogin(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Operator)
	if _, _, _, err := w.AddUser(t.Context(), root, "bob", bus.Viewer); err != nil { // invited
		t.Fatal(err)
	}
	for name, password := range map[string]secret.Value{"alice": bad, "bob": good, "nobody": good, "": good, "ALICE": good, "local": good} {
		_, err := w.Login(t.Context(), "http 10.0.0.9", name, password)
		wantFailure(t, err, job.NotAuthenticated)
	}
	_, err := w.Login(t.Context(), "http 10.0.0.9", "bob", secret.Value{})
	wantFailure(t, err, job.NotAuthenticated)
	actor, err := w.Login(t.Context(), "http 10.0.0.7", "alice", good)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "actor", fleet.Actor{Name: "operator:alice", Role: bus.Operator, From: "http 10.0.0.7"}, actor)
	users, err := w.Users(t.Context())
	if err != nil || users[0].LastLogin == nil || !users[0].LastLogin.Equal(start) || users[1].LastLogin != nil {
		t.Errorf("users after the login: %+v, %v", users, err)
	}
	same(t, "audit", []string{"operator:alice login user/alice done"}, w.audit(t, "login"))
}

// TestUnknownUsersCostTheSame: whoever it is, the same computation waits for
// the same slots.
func TestUnknownUsersCostTheSame(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	if _, _, _, err := w.AddUser(t.Context(), root, "bob", bus.Viewer); err != nil {
		t.Fatal(err)
	}
	defer w.Occupy()()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"alice", "bob", "nobody", "", "no/name"} {
		if _, err := w.Login(ctx, "http 10.0.0.9", name, bad); !errors.Is(err, context.Canceled) {
			t.Errorf("Login of %q computed nothing: %v", name, err)
		}
	}
}

func TestComputationsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	release := w.Occupy()
	running, most := w.Waiting()
	results := make(chan error, most)
	for i := range most - running {
		go func() {
			_, err := w.Login(t.Context(), fmt.Sprint("http 10.0.1.", i), "alice", good)
			results <- err
		}()
	}
	deadline := time.Now().Add(30 * time.Second)
	for now := 0; now < most; now, _ = w.Waiting() {
		if time.Now().After(deadline) {
			t.Fatal("the logins do not wait")
		}
		runtime.Gosched()
	}
	_, err := w.Login(t.Context(), "http 10.0.2.1", "alice", good)
	wantFailure(t, err, job.TooMany)
	if !strings.Contains(job.AsFailure(err).Hint, "again in 1 s") {
		t.Errorf("hint %q does not say when", job.AsFailure(err).Hint)
	}
	release()
	for range most - running {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestTenThousandAttempts plays them from one address, and from as many.
func TestTenThousandAttempts(t *testing.T) {
	for what, from := range map[string]func(i int) string{
		"from one address":       func(int) string { return "http 192.0.2.1" },
		"from as many addresses": func(i int) string { return fmt.Sprintf("http 10.%d.%d.1", 1+i/250, i%250) },
		"from one network":       func(i int) string { return fmt.Sprintf("http 2001:db8::%x", i) },
	} {
		for whose, name := range map[string]func(i int) string{
			"one name":  func(int) string { return "alice" },
			"all names": func(i int) string { return fmt.Sprint("name", i) },
		} {
			t.Run(what+" at "+whose, func(t *testing.T) { attack(t, from, name) })
		}
	}
}

func attack(t *testing.T, from, name func(i int) string) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	w.user(t, "bob", bus.Viewer)
	if _, err := w.Login(t.Context(), "http 198.51.100.7", "alice", good); err != nil {
		t.Fatal(err)
	}
	before := heap()
	computed, began := 0, time.Now()
	writes := w.writes(t, func() {
		for i := range 10_000 {
			_, err := w.Login(t.Context(), from(i), name(i), bad)
			switch job.AsFailure(err).Code {
			case job.NotAuthenticated:
				computed++
			case job.TooMany:
			default:
				t.Fatal(err)
			}
		}
	})
	t.Logf("%d of 10,000 were computed, %d transactions, %v", computed, writes, time.Since(began))
	spread := from(0) != from(1) && !strings.Contains(from(0), ":") && name(0) != name(1) // nothing in common
	if computed > 100 && !spread {
		t.Errorf("%d attempts were computed", computed)
	}
	if got := w.Remembered(); got > access.MaxRemembered {
		t.Errorf("%d limiters are remembered, at most %d should be", got, access.MaxRemembered)
	}
	if grown := int64(heap()) - int64(before); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if _, err := w.Login(t.Context(), "http 198.51.100.7", "alice", good); err != nil {
		t.Errorf("alice, from where she has been before: %v", err)
	}
	w.advance(2 * time.Second)
	if _, err := w.Login(t.Context(), "http 203.0.113.7", "alice", good); err != nil {
		t.Errorf("alice, from elsewhere, two seconds later: %v", err)
	}
	if _, err := w.Login(t.Context(), "http 203.0.113.8", "bob", good); err != nil {
		t.Errorf("bob: %v", err)
	}
	w.Flush()
	if entries := w.audit(t, "login.failed"); len(entries) == 0 || len(entries) > 40 {
		t.Errorf("%d audit entries: %v", len(entries), entries)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestGoodLoginsAreNotLimited from where somebody has signed in before, and who
// has the same address does not matter.
func TestGoodLoginsAreNotLimited(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	for i := range 50 {
		if _, err := w.Login(t.Context(), "http 10.0.0.7", "alice", good); err != nil {
			t.Fatalf("login %d: %v", i, err)
		}
	}
	for range 100 {
		_, err := w.Login(t.Context(), "http 10.0.0.7", "bob", bad)
		if err == nil {
			t.Fatal("bob signed in")
		}
	}
	if _, err := w.Login(t.Context(), "http 10.0.0.7", "alice", good); err != nil {
		t.Error(err)
	}
	var err error
	for range 20 {
		_, err = w.Login(t.Context(), "http 10.0.0.7", "alice", bad)
	}
	wantFailure(t, err, job.TooMany)
	if hint := job.AsFailure(err).Hint; hint != "try again in 6 s" {
		t.Errorf("hint %q", hint)
	}
	w.advance(6 * time.Second)
	if _, err := w.Login(t.Context(), "http 10.0.0.7", "alice", good); err != nil {
		t.Error(err)
	}
}

func TestAddressOf(t *testing.T) {
	for from, want := range map[string]string{
		"http 10.0.0.7": "10.0.0.7", "http ::ffff:10.0.0.7": "10.0.0.7", "http 2001:db8:1:2:3::4": "2001:db8:1:2::/64",
		"http fe80::1%eth0": "fe80::/64", "http @": "", "": "", "10.0.0.7": "10.0.0.7",
	} {
		if got := access.AddressOf(from); got != want {
			t.Errorf("AddressOf(%q) = %q, want %q", from, got, want)
		}
	}
}

func TestPasswordHashes(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	hash := func() string {
		user, _, err := w.store.User("alice")
		if err != nil {
			t.Fatal(err)
		}
		return user.PasswordHash
	}
	first := hash()
	if !strings.HasPrefix(first, "$argon2id$v=19$m=8,t=1,p=1$") {
		t.Errorf("hash %q", first)
	}
	if _, err := w.Login(t.Context(), root.From, "alice", good); err != nil || hash() != first {
		t.Errorf("a login of the same cost: %v, changed %v", err, hash() != first)
	}
	w.restart(t, access.Cost{MemoryKiB: 16, Passes: 2, Threads: 1})
	if _, err := w.Login(t.Context(), root.From, "alice", bad); err == nil || hash() != first {
		t.Error("a wrong password changed the hash")
	}
	for range 2 {
		if _, err := w.Login(t.Context(), root.From, "alice", good); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(hash(), "$argon2id$v=19$m=16,t=2,p=1$") {
			t.Errorf("hash after the cost was raised: %q", hash())
		}
	}
}

func TestDefaultCost(t *testing.T) {
	w := newWorld(t)
	w.restart(t, access.Cost{})
	w.user(t, "alice", bus.Admin)
	user, _, err := w.store.User("alice")
	if err != nil || !strings.HasPrefix(user.PasswordHash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %q, %v", user.PasswordHash, err)
	}
}

// TestDamagedHashes must not panic, take all memory, or let anybody in.
func TestDamagedHashes(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice", bus.Admin)
	user, _, err := w.store.User("alice")
	if err != nil {
		t.Fatal(err)
	}
	whole := user.PasswordHash
	for _, hash := range []string{
		"x", "$$$$$", "$2b$10$abc", whole[:len(whole)-1], whole + "=", whole + "\n", strings.Replace(whole, "m=8", "m=4294967295", 1),
		strings.Replace(whole, "t=1", "t=0", 1), strings.Replace(whole, "p=1", "p=0", 1), strings.Replace(whole, "m=8", "m=08", 1),
		strings.Replace(whole, "v=19", "v=16", 1), whole[:strings.LastIndex(whole, "$")+1],
	} {
		user.PasswordHash = hash
		if _, err := w.store.Apply(store.PutUser(user)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Login(t.Context(), "http "+fmt.Sprint("10.0.3.", len(hash)), "alice", good); err == nil {
			t.Errorf("signed in with the hash %q", hash)
		}
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	w := newWorld(t)
	viewer := fleet.Actor{Name: "operator:vera", Role: bus.Viewer, From: "http 10.0.0.7"}
	writes := w.writes(t, func() {
		for i := range 1000 {
			w.Refused(viewer, "host.add", fmt.Sprint("host/web", i))
			w.Refused(viewer, "job.submit", strings.Repeat("x", 5000))
		}
	})
	same(t, "transactions", uint64(2), writes)
	same(t, "audit", []string{
		"operator:vera host.add host/web0 refused", "operator:vera job.submit " + strings.Repeat("x", 128) + "… refused",
	}, w.audit(t, ""))
	w.advance(10 * time.Minute)
	if _, _, err := w.Authenticate(request("")); err != nil { // any request writes what is due
		t.Fatal(err)
	}
	same(t, "audit later", []string{
		"operator:vera host.add refused 999 more since 2026-11-22T02:00:00Z", "operator:vera job.submit refused 999 more since 2026-11-22T02:00:00Z",
	}, w.audit(t, "")[2:])
	w.Flush()
	if got := len(w.audit(t, "")); got != 4 {
		t.Errorf("%d entries after nothing more", got)
	}
	w.Refused(viewer, "host.add", "host/web1")
	if got := len(w.audit(t, "")); got != 5 {
		t.Errorf("%d entries after a refusal in the next window", got)
	}
}

// TestAttackersDoNotHideRefusals of people who are known.
func TestAttackersDoNotHideRefusals(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		_, _ = w.Login(t.Context(), fmt.Sprint("http 10.0.0.", i), "nobody", bad)
	}
	for i := range 100 { // from many places
		w.Refused(fleet.Actor{Name: "operator:eve", From: fmt.Sprint("http 10.0.0.", i)}, "host.remove", "host/web1")
	}
	w.Refused(fleet.Actor{Name: "operator:vera"}, "host.add", "host/web1")
	same(t, "audit", []string{"operator:vera host.add host/web1 refused"}, w.audit(t, "host.add"))
	w.Flush()
	entries := w.audit(t, "login.failed")
	if len(entries) != 17 || !strings.Contains(entries[16], "84 more since") || strings.Contains(strings.Join(entries, ""), "nobody") {
		t.Errorf("entries %q", entries)
	}
}

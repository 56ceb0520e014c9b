package registry_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/nats-io/nkeys"
)

func sealKey(t testing.TB) string {
	t.Helper()
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func facts(at time.Time) fleet.Facts {
	return fleet.Facts{AgentVersion: "0.1.0", BorgVersion: "1.2.4", OS: "Debian", Slots: 1, StartedAt: start, SeenAt: at, FreeBytes: 5}
}

// stored returns the facts in the store.
func (h *house) stored(t testing.TB, name string) fleet.Host {
	t.Helper()
	host, ok, err := h.store.Host(name)
	if err != nil || !ok {
		t.Fatalf("Host = %v, %v", ok, err)
	}
	return host
}

func TestFactsAreStoredWhenTheyMatter(t *testing.T) {
	key, other := sealKey(t), sealKey(t)
	tests := map[string]struct {
		change func(*fleet.Facts, *string)
		later  time.Duration
		shown  bool
		stored bool
	}{
		"another time":           {func(*fleet.Facts, *string) {}, 10 * time.Second, false, false},
		"less space":             {func(f *fleet.Facts, _ *string) { f.FreeBytes-- }, 10 * time.Second, true, false},
		"a minute later":         {func(*fleet.Facts, *string) {}, time.Minute, false, true},
		"another borg":           {func(f *fleet.Facts, _ *string) { f.BorgVersion = "1.4.0" }, time.Second, true, true},
		"no borg":                {func(f *fleet.Facts, _ *string) { f.BorgFailure = job.Fail(job.BorgMissing, "") }, time.Second, true, true},
		"the agent was upgraded": {func(f *fleet.Facts, _ *string) { f.AgentVersion = "0.2.0" }, time.Second, true, true},
		"the agent was started":  {func(f *fleet.Facts, _ *string) { f.StartedAt = start.Add(1) }, time.Second, true, true},
		"another seal key":       {func(_ *fleet.Facts, k *string) { *k = other }, time.Second, true, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			if _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil); err != nil {
				t.Fatal(err)
			}
			first := facts(start)
			if err := h.UpdateFacts(t.Context(), "web1", first, key); err != nil {
				t.Fatal(err)
			}
			same(t, "first facts in the store", &first, h.stored(t, "web1").Facts)
			h.updates(t)

			h.now = start.Add(test.later)
			second, secondKey := facts(h.now), key
			test.change(&second, &secondKey)
			if err := h.UpdateFacts(t.Context(), "web1", second, secondKey); err != nil {
				t.Fatal(err)
			}
			view, err := h.Host(t.Context(), "web1")
			if err != nil {
				t.Fatal(err)
			}
			same(t, "facts in the view", &second, view.Facts)
			same(t, "seal key in the view", secondKey, view.SealKey)
			same(t, "stored", test.stored, h.stored(t, "web1").Facts.SeenAt.Equal(second.SeenAt))
			_, _ = h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "last", nil) // publishes, so that there is something to read
			same(t, "shown", test.shown, len(h.updates(t)) == 2)

			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
			h.restart(t)
			again, err := h.Host(t.Context(), "web1")
			if err != nil {
				t.Fatal(err)
			}
			same(t, "view after a restart", view.Host, again.Host)
		})
	}
}

func TestUpdateFactsRefuses(t *testing.T) {
	h := newHouse(t)
	wantFailure(t, h.UpdateFacts(t.Context(), "web1", facts(start), sealKey(t)), job.UnknownHost, "web1")
	if _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, "web1", nil); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, h.UpdateFacts(t.Context(), "web1", facts(start), "U1"), job.InvalidRequest, "seal_key")
	if h.stored(t, "web1").Facts != nil {
		t.Error("refused facts were stored")
	}
}

// TestHostsComeAndGoAmongHellos is for the race detector, and for what is left
// at the end: nothing that was removed.
func TestHostsComeAndGoAmongHellos(t *testing.T) {
	h := newHouse(t)
	key := sealKey(t)
	var group sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprint("host", i)
		group.Go(func() {
			for range 10 {
				if _, err := h.AddHost(t.Context(), fleet.Actor{Name: "operator:alice"}, name, nil); err != nil {
					t.Error(err)
				}
				if err := h.RemoveHost(t.Context(), fleet.Actor{Name: "operator:alice"}, name); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for round := range 40 {
				f := facts(start)
				f.Slots = round // stored at once
				err := h.UpdateFacts(t.Context(), name, f, key)
				if err != nil && job.AsFailure(err).Code != job.UnknownHost {
					t.Error(err)
				}
				if _, err := h.Hosts(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if err := h.Flush(); err != nil {
		t.Error(err)
	}
	left, err := h.store.Hosts()
	if err != nil || len(left) != 0 {
		t.Errorf("stored hosts %v, %v", left, err)
	}
}

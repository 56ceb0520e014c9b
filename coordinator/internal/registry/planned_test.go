package registry_test

import (
	"testing"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func TestWhatPlansNameStays(t *testing.T) {
	h := newHouse(t)
	h.mustHost(t, "web1")
	h.mustAdd(t, inDepot("kept", "web1"))
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		p := fleet.Plan{Name: name, PlanSpec: fleet.PlanSpec{Hosts: []string{"web1"}, Repositories: []string{"kept"}}}
		if _, err := h.store.Apply(store.CreatePlan(p, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	wantFailure(t, h.RemoveHost(t.Context(), alice, "web1"), job.Conflict, "host web1 is named by plans: a, b, c, d, e and 1 more")
	wantFailure(t, h.RemoveRepository(t.Context(), alice, "kept"), job.Conflict, "repository kept is named by plans: a, b")
	if _, err := h.Host(t.Context(), "web1"); err != nil {
		t.Errorf("the host: %v", err)
	}
}

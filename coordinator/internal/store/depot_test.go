package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

func kept(name string, hosts ...string) fleet.Repository {
	return fleet.Repository{
		Repository: job.Repository{Name: name, Location: job.DepotLocation, Encryption: job.RepokeyBlake2},
		Depot:      &fleet.Depot{AppendOnly: true, Hosts: hosts},
	}
}

func depotOf(t *testing.T, s *store.Store, name string) *fleet.Depot {
	t.Helper()
	repository, found, err := s.Repository(name)
	if err != nil || !found {
		t.Fatalf("repository %s: found %v, %v", name, found, err)
	}
	return repository.Depot
}

// Whoever changes what is agreed for a repository has read it before, and must not
// let it go by that.
func TestFrozenStaysWhatElseChanges(t *testing.T) {
	s := open(t)
	frozen := &fleet.Frozen{At: start, Reason: "2 archives are missing", Missing: []string{"a", "b"}}
	apply(t, s, store.CreateRepository(kept("shared", "web1")), store.SetFrozen("shared", frozen))
	apply(t, s, store.PutRepository(kept("shared", "web1", "web2")))
	want := &fleet.Depot{AppendOnly: true, Hosts: []string{"web1", "web2"}, Frozen: frozen}
	if diff := cmp.Diff(want, depotOf(t, s, "shared")); diff != "" {
		t.Error(diff)
	}
	apply(t, s, store.SetFrozen("shared", nil))
	if got := depotOf(t, s, "shared").Frozen; got != nil {
		t.Errorf("it is still frozen: %+v", got)
	}
	elsewhere := fleet.Repository{Repository: job.Repository{Name: "main", Location: "/srv/main"}}
	apply(t, s, store.CreateRepository(elsewhere), store.SetFrozen("main", frozen), store.SetFrozen("gone", frozen))
	if got := depotOf(t, s, "main"); got != nil {
		t.Errorf("a repository elsewhere was frozen: %+v", got)
	}
	if _, found, err := s.Repository("gone"); found || err != nil {
		t.Errorf("a repository that was gone is found: %v, %v", found, err)
	}
}

func TestRemovedHostLeavesAllowLists(t *testing.T) {
	s := open(t)
	apply(t, s,
		store.CreateHost(fleet.Host{Name: "web1"}), store.CreateHost(fleet.Host{Name: "web2"}),
		store.CreateRepository(kept("one", "web1", "web2")), store.CreateRepository(kept("two", "*")),
		store.CreateRepository(kept("three", "web2", "web1", "web1")))
	apply(t, s, store.DeleteHost("web1"))
	for name, want := range map[string][]string{"one": {"web2"}, "two": {"*"}, "three": {"web2"}} {
		if diff := cmp.Diff(want, depotOf(t, s, name).Hosts); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

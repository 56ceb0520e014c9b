package store_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

func TestWhatPlansName(t *testing.T) {
	s := newTracked(t)
	apply(t, s,
		store.CreatePlan(fleet.Plan{Name: "named", PlanSpec: fleet.PlanSpec{Hosts: []string{"db1", "db2"}, Repositories: []string{"kept"}}}, trackStart),
		store.CreatePlan(fleet.Plan{Name: "found", PlanSpec: fleet.PlanSpec{
			Description: "db3", Selector: map[string]string{"role": "db3"}, Repositories: []string{"kept"}, RestoreTest: &fleet.RestoreTest{Host: "lab"},
		}}, trackStart))
	for name, c := range map[string]struct {
		host, repository string
		want             []string
	}{
		"a host":                    {"db2", "", []string{"named"}},
		"a host of restore tests":   {"lab", "", []string{"found"}},
		"a host of a label's value": {"db3", "", nil},
		"a host like a repository":  {"kept", "", nil},
		"a repository":              {"", "kept", []string{"found", "named"}},
		"no repository":             {"", "gone", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			_, err := s.Apply(store.RequireUnplanned(c.host, c.repository))
			if planned, ok := errors.AsType[*store.PlannedError](err); ok {
				got = planned.Plans
			} else if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

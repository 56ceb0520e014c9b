package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func alertNamed(id, plan string) fleet.Alert {
	return fleet.Alert{ID: id, Condition: fleet.Condition{Kind: "overdue", Severity: fleet.SeverityCritical, Plan: plan}, RaisedAt: noon}
}

func TestAnAlertOfAConditionIsOpenOnce(t *testing.T) {
	s := open(t)
	apply(t, s, store.RaiseAlert(alertNamed("A1", "daily")))
	if _, err := s.Apply(store.RaiseAlert(alertNamed("A2", "daily"))); !errors.Is(err, store.ErrExists) {
		t.Errorf("%v", err)
	}
	apply(t, s, store.NoteTold("A1", "ops", noon), store.NoteTold("A1", "ops", noon), store.MarkAlert("A1", store.MarkKey("all", "ops"), store.Mark{At: noon}))
	apply(t, s, store.ResolveAlert("A1", noon), store.RaiseAlert(alertNamed("A2", "daily")))
	apply(t, s, store.UpdateAlert("A1", fleet.Condition{Kind: "other"}), store.SetSilenced("gone", "S"), store.ResolveAlert("A1", noon.Add(time.Hour)))
	first, found, err := s.Alert("A1")
	if err != nil || !found || first.Kind != "overdue" || !first.ResolvedAt.Equal(noon) || len(first.Told) != 1 || len(first.Marks) != 1 {
		t.Errorf("%+v, %v, %v", first, found, err)
	}
	pending, err := s.OpenAlerts()
	if err != nil || len(pending) != 1 || pending[0].ID != "A2" {
		t.Errorf("%+v, %v", pending, err)
	}
}

func TestPagesOfAlerts(t *testing.T) {
	s := open(t)
	for _, id := range []string{"A1", "A2", "A3", "A4", "A5", "A6"} {
		apply(t, s, store.RaiseAlert(alertNamed(id, "plan-"+id)))
	}
	apply(t, s, store.ResolveAlert("A2", noon), store.ResolveAlert("A5", noon), store.ResolveAlert("A6", noon))
	for name, test := range map[string]struct {
		filter fleet.AlertFilter
		want   []string
	}{
		"all":           {fleet.AlertFilter{}, []string{"A4", "A3", "A1", "A6", "A5", "A2"}},
		"by one":        {fleet.AlertFilter{Limit: 1}, []string{"A4", "A3", "A1", "A6", "A5", "A2"}},
		"by two":        {fleet.AlertFilter{Limit: 2}, []string{"A4", "A3", "A1", "A6", "A5", "A2"}},
		"by three":      {fleet.AlertFilter{Limit: 3}, []string{"A4", "A3", "A1", "A6", "A5", "A2"}},
		"open ones":     {fleet.AlertFilter{Open: true, Limit: 2}, []string{"A4", "A3", "A1"}},
		"of a plan":     {fleet.AlertFilter{Plan: "plan-A5"}, []string{"A5"}},
		"of no kind":    {fleet.AlertFilter{Kind: "missed"}, nil},
		"of a severity": {fleet.AlertFilter{Severity: fleet.SeverityWarning}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for pages := 0; pages == 0 || test.filter.Cursor != "" && pages < 10; pages++ {
				page, err := s.Alerts(test.filter)
				if err != nil || page.Open != 3 {
					t.Fatalf("%d open, %v", page.Open, err)
				}
				for _, a := range page.Alerts {
					got = append(got, a.ID)
				}
				test.filter.Cursor = page.Cursor
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, f := range map[string]fleet.AlertFilter{"cursor": {Cursor: "x"}, "limit": {Limit: -1}} {
		if _, err := s.Alerts(f); job.AsFailure(err) == nil || job.AsFailure(err).Code != job.InvalidRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	apply(t, s, store.PruneAlerts(1))
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if page, err := s.Alerts(fleet.AlertFilter{}); err != nil || len(page.Alerts) != 4 || page.Alerts[3].ID != "A6" {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestDeliveriesAreOpenUntilTheyAreOver(t *testing.T) {
	s := open(t)
	apply(t, s, store.PutTarget(store.Target{Target: fleet.Target{Name: "ops"}}), store.PutSecret(store.TargetSecret("ops"), []byte("x")))
	for _, id := range []string{"D1", "D2", "D3"} {
		apply(t, s, store.PutDelivery(store.Delivery{Delivery: fleet.Delivery{ID: id, Target: "ops"}, Message: []byte(`{}`)}))
	}
	sent := store.Delivery{Delivery: fleet.Delivery{ID: "D1", Target: "ops", SentAt: &noon}, Message: []byte(`{}`)}
	apply(t, s, store.PutDelivery(sent), store.PruneDeliveries(0))
	pending, err := s.OpenDeliveries()
	if err != nil || len(pending) != 2 || pending[0].ID != "D2" || string(pending[0].Message) != `{}` {
		t.Errorf("%+v, %v", pending, err)
	}
	page, next, err := s.Deliveries("ops", 1, "")
	if err != nil || len(page) != 1 || page[0].ID != "D3" || next != "D3" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	if page, next, err = s.Deliveries("", 1, next); err != nil || page[0].ID != "D2" || next != "" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	apply(t, s, store.DeleteTarget("ops"))
	if page, _, err = s.Deliveries("ops", 0, ""); err != nil || !page[0].GivenUp || page[0].Error == "" {
		t.Errorf("%+v, %v", page, err)
	}
	if has, err := s.HasSecrets(); err != nil || has {
		t.Errorf("its address is still there, %v", err)
	}
	if _, err := s.Apply(store.DeleteTarget("ops")); !errors.Is(err, store.ErrMissing) {
		t.Errorf("%v", err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

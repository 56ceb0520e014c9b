package httpapi_test

import (
	"cmp"
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

const alertID = "01JD9X7R0000000000ABCDEFGH"

// watchman keeps alerts, silences, targets and rules in memory.
type watchman struct {
	filter    fleet.AlertFilter
	silence   fleet.Silence
	removed   []string
	target    fleet.NewTarget
	rules     []fleet.Rule
	deliverer string // the target that deliveries were asked of
}

func (w *watchman) alert() fleet.Alert {
	return fleet.Alert{ID: alertID, Condition: fleet.Condition{Kind: "offline", Severity: fleet.SeverityWarning, Host: "web1", Message: "web1 is offline"}}
}

func (w *watchman) Alerts(_ context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error) {
	w.filter = filter
	return fleet.AlertPage{Alerts: []fleet.Alert{w.alert()}, Open: 1, Cursor: "more"}, nil
}

func (w *watchman) Alert(_ context.Context, id string) (fleet.Alert, error) {
	if id != alertID {
		return fleet.Alert{}, job.Fail(job.NotFound, "there is no alert %s", id)
	}
	return w.alert(), nil
}

func (w *watchman) Silences(context.Context) ([]fleet.Silence, error) {
	return []fleet.Silence{w.silence}, nil
}

func (w *watchman) AddSilence(_ context.Context, by fleet.Actor, asked fleet.Silence) (fleet.Silence, error) {
	w.silence = asked
	asked.ID, asked.By = alertID, by.Name
	return asked, needs(bus.Operator, by)
}

func (w *watchman) remove(by fleet.Actor, role bus.Role, what string) error {
	w.removed = append(w.removed, what)
	return needs(role, by)
}

func (w *watchman) RemoveSilence(_ context.Context, by fleet.Actor, id string) error {
	return w.remove(by, bus.Operator, "silence "+id)
}

func (w *watchman) Targets(context.Context) ([]fleet.Target, error) {
	return []fleet.Target{{Name: "ops", Kind: "ntfy", Shown: "ntfy://…"}}, nil
}

func (w *watchman) PutTarget(_ context.Context, by fleet.Actor, asked fleet.NewTarget) (fleet.Target, error) {
	w.target = asked
	return fleet.Target{Name: asked.Name, Kind: cmp.Or(asked.Kind, "ntfy"), Shown: "ntfy://…", Disabled: asked.Disabled}, needs(bus.Admin, by)
}

func (w *watchman) RemoveTarget(_ context.Context, by fleet.Actor, name string) error {
	return w.remove(by, bus.Admin, "target "+name)
}

func (w *watchman) TestTarget(_ context.Context, by fleet.Actor, name string) (fleet.Delivery, error) {
	return fleet.Delivery{ID: alertID, Target: name, Tries: 1, Error: "connection refused"}, needs(bus.Operator, by)
}

func (w *watchman) Rules(context.Context) ([]fleet.Rule, error) { return w.rules, nil }

func (w *watchman) PutRule(_ context.Context, by fleet.Actor, rule fleet.Rule) (fleet.Rule, error) {
	w.rules = append(w.rules, rule)
	return rule, needs(bus.Admin, by)
}

func (w *watchman) RemoveRule(_ context.Context, by fleet.Actor, name string) error {
	return w.remove(by, bus.Admin, "rule "+name)
}

func (w *watchman) Deliveries(_ context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error) {
	w.deliverer = target
	return []fleet.Delivery{{ID: alertID, Target: target, Subject: cursor, Tries: limit}}, "more", nil
}

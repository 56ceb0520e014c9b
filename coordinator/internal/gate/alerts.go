package gate

import (
	"context"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

// Alerts tells what needs a person, and keeps some of it quiet. Safe for
// concurrent use.
type Alerts interface {
	Alerts(ctx context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error)
	Alert(ctx context.Context, id string) (fleet.Alert, error)
	Silences(ctx context.Context) ([]fleet.Silence, error)
	AddSilence(ctx context.Context, by fleet.Actor, asked fleet.Silence) (fleet.Silence, error)
	RemoveSilence(ctx context.Context, by fleet.Actor, id string) error
}

// Alerts returns alerts behind the gate.
func (g *Gate) Alerts(inner Alerts) Alerts { return alerts{inner, g} }

type alerts struct {
	inner Alerts
	gate  *Gate
}

func (a alerts) Alerts(ctx context.Context, filter fleet.AlertFilter) (fleet.AlertPage, error) {
	return a.inner.Alerts(ctx, filter)
}

func (a alerts) Alert(ctx context.Context, id string) (fleet.Alert, error) {
	return a.inner.Alert(ctx, id)
}

func (a alerts) Silences(ctx context.Context) ([]fleet.Silence, error) { return a.inner.Silences(ctx) }

func (a alerts) AddSilence(ctx context.Context, by fleet.Actor, asked fleet.Silence) (fleet.Silence, error) {
	if err := a.gate.pass(by, "silence.add", "silence"); err != nil { // it has no id yet
		return fleet.Silence{}, err
	}
	return a.inner.AddSilence(ctx, by, asked)
}

func (a alerts) RemoveSilence(ctx context.Context, by fleet.Actor, id string) error {
	if err := a.gate.pass(by, "silence.remove", "silence/"+id); err != nil {
		return err
	}
	return a.inner.RemoveSilence(ctx, by, id)
}

// Notifications keeps who is told of what, and what they were told. Safe for
// concurrent use.
type Notifications interface {
	TargetKeeper
	RuleKeeper
	// Deliveries returns one page, newest first, and where the next begins.
	Deliveries(ctx context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error)
}

// TargetKeeper keeps where notifications go. Safe for concurrent use.
type TargetKeeper interface {
	Targets(ctx context.Context) ([]fleet.Target, error)
	PutTarget(ctx context.Context, by fleet.Actor, asked fleet.NewTarget) (fleet.Target, error)
	RemoveTarget(ctx context.Context, by fleet.Actor, name string) error
	// TestTarget sends a message, and returns what came of it.
	TestTarget(ctx context.Context, by fleet.Actor, name string) (fleet.Delivery, error)
}

// RuleKeeper keeps which alerts go to which targets. Safe for concurrent use.
type RuleKeeper interface {
	Rules(ctx context.Context) ([]fleet.Rule, error)
	PutRule(ctx context.Context, by fleet.Actor, rule fleet.Rule) (fleet.Rule, error)
	RemoveRule(ctx context.Context, by fleet.Actor, name string) error
}

// Notifications returns notifications behind the gate.
func (g *Gate) Notifications(inner Notifications) Notifications { return notifications{inner, g} }

type notifications struct {
	inner Notifications
	gate  *Gate
}

func (n notifications) Targets(ctx context.Context) ([]fleet.Target, error) {
	return n.inner.Targets(ctx)
}

func (n notifications) PutTarget(ctx context.Context, by fleet.Actor, asked fleet.NewTarget) (fleet.Target, error) {
	if err := n.gate.pass(by, "target.change", "target/"+asked.Name); err != nil {
		return fleet.Target{}, err
	}
	return n.inner.PutTarget(ctx, by, asked)
}

func (n notifications) RemoveTarget(ctx context.Context, by fleet.Actor, name string) error {
	if err := n.gate.pass(by, "target.remove", "target/"+name); err != nil {
		return err
	}
	return n.inner.RemoveTarget(ctx, by, name)
}

func (n notifications) TestTarget(ctx context.Context, by fleet.Actor, name string) (fleet.Delivery, error) {
	if err := n.gate.pass(by, "target.test", "target/"+name); err != nil {
		return fleet.Delivery{}, err
	}
	return n.inner.TestTarget(ctx, by, name)
}

func (n notifications) Rules(ctx context.Context) ([]fleet.Rule, error) { return n.inner.Rules(ctx) }

func (n notifications) PutRule(ctx context.Context, by fleet.Actor, rule fleet.Rule) (fleet.Rule, error) {
	if err := n.gate.pass(by, "rule.change", "rule/"+rule.Name); err != nil {
		return fleet.Rule{}, err
	}
	return n.inner.PutRule(ctx, by, rule)
}

func (n notifications) RemoveRule(ctx context.Context, by fleet.Actor, name string) error {
	if err := n.gate.pass(by, "rule.remove", "rule/"+name); err != nil {
		return err
	}
	return n.inner.RemoveRule(ctx, by, name)
}

func (n notifications) Deliveries(ctx context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error) {
	return n.inner.Deliveries(ctx, target, limit, cursor)
}

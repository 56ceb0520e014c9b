package gate_test

import (
	"context"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// What is behind the gate of plans, alerts and notifications.

func (inside) AddPlan(context.Context, fleet.Actor, string, fleet.PlanSpec) (fleet.PlanView, error) {
	return fleet.PlanView{}, errInside
}

func (inside) ChangePlan(context.Context, fleet.Actor, string, fleet.PlanSpec) (fleet.PlanView, error) {
	return fleet.PlanView{}, errInside
}
func (inside) RemovePlan(context.Context, fleet.Actor, string) error { return errInside }
func (inside) PausePlan(context.Context, fleet.Actor, string, *time.Time, string) (fleet.PlanView, error) {
	return fleet.PlanView{}, errInside
}

func (inside) ResumePlan(context.Context, fleet.Actor, string) (fleet.PlanView, error) {
	return fleet.PlanView{}, errInside
}

func (inside) RunPlan(context.Context, fleet.Actor, string, fleet.RunRequest) (fleet.Run, []job.Job, error) {
	return fleet.Run{}, nil, errInside
}

func (inside) CancelRun(context.Context, fleet.Actor, string) (fleet.Run, error) {
	return fleet.Run{}, errInside
}

func (inside) AcceptBackup(context.Context, fleet.Actor, string, string, string, string) error {
	return errInside
}

func (inside) TestRestore(context.Context, fleet.Actor, string, string, string) (job.Job, error) {
	return job.Job{}, errInside
}
func (inside) Plan(context.Context, string) (fleet.PlanView, error) {
	return fleet.PlanView{}, errInside
}
func (inside) Plans(context.Context) ([]fleet.PlanView, error)    { return nil, errInside }
func (inside) PlanNames(context.Context) ([]string, error)        { return nil, errInside }
func (inside) PlanRun(context.Context, string) (fleet.Run, error) { return fleet.Run{}, errInside }
func (inside) PlanRuns(context.Context, fleet.RunFilter) (fleet.RunPage, error) {
	return fleet.RunPage{}, errInside
}
func (inside) Freshness(context.Context) ([]fleet.Freshness, error) { return nil, errInside }
func (inside) Calendar(context.Context, time.Time, time.Time) ([]fleet.Occurrence, error) {
	return nil, errInside
}

func (inside) Alerts(context.Context, fleet.AlertFilter) (fleet.AlertPage, error) {
	return fleet.AlertPage{}, errInside
}
func (inside) Alert(context.Context, string) (fleet.Alert, error) { return fleet.Alert{}, errInside }
func (inside) Silences(context.Context) ([]fleet.Silence, error)  { return nil, errInside }
func (inside) AddSilence(context.Context, fleet.Actor, fleet.Silence) (fleet.Silence, error) {
	return fleet.Silence{}, errInside
}
func (inside) RemoveSilence(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Targets(context.Context) ([]fleet.Target, error)          { return nil, errInside }
func (inside) PutTarget(context.Context, fleet.Actor, fleet.NewTarget) (fleet.Target, error) {
	return fleet.Target{}, errInside
}
func (inside) RemoveTarget(context.Context, fleet.Actor, string) error { return errInside }
func (inside) TestTarget(context.Context, fleet.Actor, string) (fleet.Delivery, error) {
	return fleet.Delivery{}, errInside
}
func (inside) Rules(context.Context) ([]fleet.Rule, error) { return nil, errInside }
func (inside) PutRule(context.Context, fleet.Actor, fleet.Rule) (fleet.Rule, error) {
	return fleet.Rule{}, errInside
}
func (inside) RemoveRule(context.Context, fleet.Actor, string) error { return errInside }
func (inside) Deliveries(context.Context, string, int, string) ([]fleet.Delivery, string, error) {
	return nil, "", errInside
}

func (inside) Apply(context.Context, fleet.Actor, fleet.Manifest) (fleet.ManifestOutcome, error) {
	return fleet.ManifestOutcome{}, errInside
}
func (inside) Export(context.Context) (string, error) { return "", errInside }

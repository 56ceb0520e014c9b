package httpapi

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/job"
)

// shown is the schema of a body that is decoded later: in the document it is a T,
// which huma does not check.
func shown[T any](registry huma.Registry) *huma.Schema {
	named := registry.Schema(reflect.TypeFor[T](), true, "")
	return &huma.Schema{Type: huma.TypeObject, Extensions: map[string]any{"anyOf": []*huma.Schema{named}}}
}

// either is the schema of an answer that is one of two, for the document.
func either[A, B any](registry huma.Registry) *huma.Schema {
	return &huma.Schema{Extensions: map[string]any{"anyOf": []*huma.Schema{
		registry.Schema(reflect.TypeFor[A](), true, ""), registry.Schema(reflect.TypeFor[B](), true, ""),
	}}}
}

// refinePlans makes the schemas of plans say what is true of plans alone: what is
// backed up may also come from a hook, and two fields of a backup are not for
// plans.
func refinePlans(schemas map[string]*huma.Schema) {
	for _, name := range []string{"NewPlan", "PlanSpec", "PlanView"} {
		shape := schemas[name]
		if shape == nil {
			continue
		}
		delete(shape.Properties, "archive")
		delete(shape.Properties, "canary")
		if name != "PlanView" {
			shape.Required = slices.DeleteFunc(shape.Required, func(field string) bool { return field == "paths" })
		}
	}
}

// planText describes a field of a plan by what it is in a plan's spec, or in that
// of a backup, whose fields a plan has, too.
func planText(known map[string]string, schema, field string) string {
	switch schema {
	case "NewPlan", "PlanSpec", "PlanView":
		return cmp.Or(known["PlanSpec."+field], known["BackupSpec."+field])
	default:
		return ""
	}
}

// runFilter is a state that runs are chosen by.
type runFilter string

// Schema implements huma.SchemaProvider.
func (runFilter) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: runStates()}
}

// freshnessFilter is a state of freshness that plans are chosen by.
type freshnessFilter string

// Schema implements huma.SchemaProvider.
func (freshnessFilter) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: freshStates()}
}

func runStates() []any {
	return words([]fleet.RunState{
		fleet.RunRunning, fleet.RunSucceeded, fleet.RunWarning, fleet.RunFailed, fleet.RunCancelled, fleet.RunSkipped, fleet.RunMissed,
	})
}

func freshStates() []any {
	return words([]fleet.FreshState{fleet.Fresh, fleet.NeverYet, fleet.PlanPaused, fleet.Suspicious, fleet.Stale, fleet.Overdue})
}

// planWords returns the words of a type of plans or alerts that has a fixed set of
// them.
func planWords(t reflect.Type) []any {
	switch t {
	case reflect.TypeFor[fleet.RunState]():
		return runStates()
	case reflect.TypeFor[fleet.FreshState]():
		return freshStates()
	case reflect.TypeFor[fleet.Trigger]():
		return words([]fleet.Trigger{fleet.TriggerSchedule, fleet.TriggerCatchUp, fleet.TriggerManual})
	case reflect.TypeFor[fleet.Order]():
		return words([]fleet.Order{fleet.Parallel, fleet.Sequential})
	case reflect.TypeFor[fleet.Overlap]():
		return words([]fleet.Overlap{fleet.OverlapSkip, fleet.OverlapQueue, fleet.OverlapReplace})
	case reflect.TypeFor[fleet.Suspect]():
		return words([]fleet.Suspect{fleet.SuspectHold, fleet.SuspectAlert, fleet.SuspectOff})
	case reflect.TypeFor[fleet.Severity]():
		return words([]fleet.Severity{fleet.SeverityInfo, fleet.SeverityWarning, fleet.SeverityCritical})
	default:
		return nil
	}
}

func completePlan(plan fleet.PlanView) fleet.PlanView {
	plan.Paths, plan.Repositories = list(plan.Paths), list(plan.Repositories)
	plan.On, plan.Freshness = list(plan.On), list(plan.Freshness)
	plan.Next, plan.Runs = list(plan.Next), list(plan.Runs)
	plan.State = cmp.Or(plan.State, fleet.NeverYet)
	return plan
}

func completeRun(run fleet.Run) fleet.Run {
	run.Tasks = list(run.Tasks)
	return run
}

// problems is problem for an error that may be several failures, joined: the
// answer has all of them.
func (a *API) problems(ctx context.Context, err error) *Problem {
	problem := a.problem(ctx, err)
	failures := failuresIn(err)
	if len(failures) < 2 {
		return problem
	}
	for _, failure := range failures {
		problem.Errors = append(problem.Errors, Fault{Location: "body", Message: failure.Error()})
	}
	short := make([]Fault, len(failures))
	for i, failure := range failures {
		short[i].Message = failure.Message
	}
	problem.Detail = sentence(short)
	return problem
}

// failuresIn returns the failures that an error consists of.
func failuresIn(err error) []*job.Failure {
	switch e := err.(type) {
	case *job.Failure:
		return []*job.Failure{e}
	case interface{ Unwrap() []error }:
		var all []*job.Failure
		for _, part := range e.Unwrap() {
			all = append(all, failuresIn(part)...)
		}
		return all
	}
	if inner := errors.Unwrap(err); inner != nil {
		return failuresIn(inner)
	}
	return nil
}

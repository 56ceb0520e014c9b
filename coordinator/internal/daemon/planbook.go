package daemon

import (
	"context"
	"errors"
	"maps"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/plan"
	"github.com/borgfleet/borgfleet/shared/job"
)

// planBook is the plans as manifests know them.
type planBook struct{ *plan.Service }

// CheckPlans implements manifest.Plans.
func (b planBook) CheckPlans(ctx context.Context, put map[string]fleet.PlanSpec, remove []string, world fleet.World) error {
	others, err := b.Specs(ctx)
	if err != nil {
		return err
	}
	for _, name := range remove {
		delete(others, name)
	}
	maps.DeleteFunc(others, func(name string, _ fleet.PlanSpec) bool { _, changed := put[name]; return changed })
	return objects(plan.CheckAll(put, others, world))
}

// ApplyPlans implements manifest.Plans.
func (b planBook) ApplyPlans(ctx context.Context, by fleet.Actor, put map[string]fleet.PlanSpec, remove []string) error {
	return objects(b.Service.ApplyPlans(ctx, by, put, remove))
}

// objects says of faults of plans which objects they are of.
func objects(err error) error {
	var faults []error
	for _, one := range flatten(err) {
		if of, ok := errors.AsType[*plan.PlanFault](one); ok {
			for _, cause := range flatten(of.Err) {
				faults = append(faults, &fleet.ObjectError{Object: "plan/" + of.Plan, Cause: job.AsFailure(cause)})
			}
			continue
		}
		faults = append(faults, one)
	}
	return errors.Join(faults...)
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range many.Unwrap() {
		all = append(all, flatten(one)...)
	}
	return all
}

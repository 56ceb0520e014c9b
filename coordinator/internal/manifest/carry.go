package manifest

import (
	"context"
	"fmt"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

// carryOut makes the changes, in one transaction of each owner. What a crash
// between them leaves undone, the same text does when it is applied again.
func (s *Service) carryOut(ctx context.Context, by fleet.Actor, w *work) error {
	if change := w.change(); len(change.PutHosts)+len(change.PutRepositories)+len(change.RemoveHosts)+len(change.RemoveRepositories) > 0 {
		if err := s.options.Fleet.ChangeFleet(ctx, by, change, w.notes...); err != nil {
			return fmt.Errorf("change hosts and repositories: %w", err)
		}
	}
	if len(w.plans)+len(w.unplan) > 0 {
		if err := s.options.Plans.ApplyPlans(ctx, by, w.plans, w.unplan); err != nil {
			return half("hosts and repositories were changed, but plans were not", err)
		}
	}
	if w.told {
		if err := s.options.Notify.Apply(ctx, by, w.targets, w.rules, w.asked.Prune); err != nil {
			return half("all but notifications was changed", err)
		}
		if err := s.noteTargets(ctx, w); err != nil {
			return err
		}
	}
	s.logger.Info("manifest applied", "changes", len(w.outcome.Changes), "by", by.Name)
	return nil
}

// half says what was changed before something came between.
func half(what string, err error) error {
	failure := *job.AsFailure(err)
	failure.Message = what + ": " + failure.Message
	if failure.Hint == "" {
		failure.Hint = "apply it again"
	}
	return &failure
}

// noteTargets keeps from which files addresses came.
func (s *Service) noteTargets(ctx context.Context, w *work) error {
	targets, err := s.options.Notify.Targets(ctx)
	if err != nil {
		return fmt.Errorf("read targets: %w", err)
	}
	var changes []store.Change
	known := map[string]bool{}
	for _, target := range targets {
		object := "target/" + target.Name
		known[target.Name] = true
		if said, ok := w.document.Notify.Targets[target.Name]; ok {
			changes = append(changes, note(object, stamp(target), map[string]string{urlFile: said.URLFile, secretFile: said.SecretFile}))
		}
	}
	for name := range w.state.targets {
		if !known[name] {
			changes = append(changes, store.DeleteManifestNote("target/"+name))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if _, err := s.options.Store.Apply(changes...); err != nil {
		return fmt.Errorf("note files of targets: %w", err)
	}
	return nil
}

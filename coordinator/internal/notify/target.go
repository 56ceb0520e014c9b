package notify

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Targets returns every target by name.
func (s *Service) Targets(context.Context) ([]fleet.Target, error) {
	stored, err := s.store.Targets()
	if err != nil {
		return nil, fmt.Errorf("read targets: %w", err)
	}
	targets := make([]fleet.Target, len(stored))
	for i, t := range stored {
		targets[i] = t.Target
	}
	return targets, nil
}

// PutTarget adds a target, or changes one: what is left out of its address and
// its secret stays. Refusals are *job.Failure, joined.
func (s *Service) PutTarget(_ context.Context, by fleet.Actor, asked fleet.NewTarget) (fleet.Target, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	e := s.begin()
	if err := e.putTarget(asked); err != nil {
		return fleet.Target{}, err
	}
	if err := s.commit(by, e); err != nil {
		return fleet.Target{}, err
	}
	return e.targets[asked.Name].Target, nil
}

// RemoveTarget removes a target with its address and what is still to be sent to
// it. One that a rule names is refused. The error is a *job.Failure.
func (s *Service) RemoveTarget(_ context.Context, by fleet.Actor, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	e := s.begin()
	if _, known := e.targets[name]; !known {
		return unknownTarget(name)
	}
	for _, rule := range e.rules {
		if slices.Contains(rule.Targets, name) {
			return job.Fail(job.Conflict, "rule %s tells target %s", rule.Name, name).WithHint("take it out of the rule first")
		}
	}
	e.removeTarget(name)
	return s.commit(by, e)
}

func unknownTarget(name string) *job.Failure {
	return job.Fail(job.NotFound, "there is no target %q", name).WithHint("borgfleet notify target list shows all")
}

// putTarget adds what is asked for to an edit.
func (e *edit) putTarget(asked fleet.NewTarget) error {
	old, known := e.targets[asked.Name]
	t := old
	t.Name, t.Disabled = asked.Name, asked.Disabled
	var faults []error
	if !validName.MatchString(asked.Name) {
		faults = append(faults, job.Invalid("name", "%q is not a name", asked.Name).WithHint("lower-case letters, digits and hyphens, at most 63"))
	}
	switch {
	case !asked.URL.Empty():
		place, err := understand(asked.Kind, string(asked.URL.Reveal()))
		t.Kind, t.Shown = place.kind, place.shown()
		faults = append(faults, err)
	case !known && e.trial:
		t.Kind = asked.Kind
	case !known:
		faults = append(faults, job.Invalid("url", "missing").WithHint("for example ntfy://ntfy.sh/topic, or an https address with kind webhook"))
	case asked.Kind != "" && asked.Kind != old.Kind:
		faults = append(faults, job.Invalid("kind", "another kind needs another address").WithHint("give the url as well"))
	}
	if !asked.Secret.Empty() && t.Kind != kindWebhook && t.Kind != "" {
		faults = append(faults, job.Invalid("secret", "only webhooks are signed").WithHint("leave it out, or set kind to webhook"))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return e.keepTarget(asked, old, t)
}

// keepTarget notes what is to be stored, if it differs from what is.
func (e *edit) keepTarget(asked fleet.NewTarget, old, t store.Target) error {
	_, known := e.targets[asked.Name]
	address, err := e.service.secretChanges(store.TargetSecret(t.Name), asked.URL)
	if err != nil {
		return err
	}
	key, err := e.service.secretChanges(store.TargetKey(t.Name), asked.Secret)
	if err != nil {
		return err
	}
	if known && t.Kind != kindWebhook && old.Kind == kindWebhook {
		key = append(key, store.DeleteSecret(store.TargetKey(t.Name)))
	}
	secrets := slices.Concat(address, key)
	if known && len(secrets) == 0 && t.Target == old.Target {
		return nil
	}
	action := "target.change"
	if !known {
		action, t.CreatedAt = "target.add", e.now
	}
	if len(address) > 0 || t.Disabled {
		t.Trouble, t.TroubleSince, t.GaveUpAt = "", nil, nil // of another address
	}
	e.targets[t.Name] = t
	e.note(action, "target/"+t.Name, t.Kind, append(secrets, store.PutTarget(t))...)
	return nil
}

func (e *edit) removeTarget(name string) {
	delete(e.targets, name)
	e.note("target.remove", "target/"+name, "", store.DeleteTarget(name))
}

// TestTarget sends a message to a target at once, and says how that went: what
// became of it is in the delivery, not in the error, which is a *job.Failure when
// there is no such target.
func (s *Service) TestTarget(ctx context.Context, by fleet.Actor, name string) (fleet.Delivery, error) {
	s.mu.Lock()
	t, known := s.targets[name]
	s.mu.Unlock()
	if !known {
		return fleet.Delivery{}, unknownTarget(name)
	}
	now := s.options.Now().UTC()
	m := testMessage(name, s.options.URL)
	d := store.Delivery{Delivery: fleet.Delivery{
		ID: string(job.NewID(now)), At: now, Target: name, Alerts: []string{}, Subject: m.Subject, Tries: 1,
	}}
	err := s.send(ctx, t, d, m)
	if ctx.Err() != nil {
		return fleet.Delivery{}, ctx.Err()
	}
	if err != nil {
		d.Error, d.GivenUp = err.Error(), true
	} else {
		sent := s.options.Now().UTC()
		d.SentAt = &sent
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.targets[name] != t { // it was removed meanwhile
		return fleet.Delivery{}, unknownTarget(name)
	}
	t.note(err, s.options.Now().UTC())
	entry := s.audit(by, "target.test", "target/"+name, "")
	if _, err := s.store.Apply(store.PutDelivery(d), store.PutTarget(t.record), entry); err != nil {
		return fleet.Delivery{}, fmt.Errorf("store the test of target %s: %w", name, err)
	}
	t.prod()
	return d.Delivery, nil
}

// Deliveries returns one page of what was sent, or is to be, to a target, or with
// an empty name to all: newest first, and the cursor of the next page.
func (s *Service) Deliveries(_ context.Context, target string, limit int, cursor string) ([]fleet.Delivery, string, error) {
	return s.store.Deliveries(target, limit, cursor)
}

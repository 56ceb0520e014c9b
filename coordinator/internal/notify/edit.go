package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/secret"
)

// edit is targets and rules as they are going to be, and what has to be stored.
type edit struct {
	service *Service
	now     time.Time
	targets map[string]store.Target
	rules   map[string]fleet.Rule
	notes   []note
	trial   bool // nothing is stored, and addresses may come later
}

// note is one change that the audit tells.
type note struct {
	action, object, detail string
	changes                []store.Change
}

func (e *edit) note(action, object, detail string, changes ...store.Change) {
	e.notes = append(e.notes, note{action, object, detail, changes})
}

// begin begins an edit with what is stored. The caller holds changing.
func (s *Service) begin() *edit {
	e := &edit{service: s, now: s.options.Now().UTC(), targets: map[string]store.Target{}, rules: map[string]fleet.Rule{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, t := range s.targets {
		e.targets[name] = t.record
	}
	for _, rule := range s.rules {
		e.rules[rule.Name] = rule
	}
	return e
}

// commit stores an edit in one transaction, and lets what is sent follow it. The
// caller holds changing.
func (s *Service) commit(by fleet.Actor, e *edit) error {
	if len(e.notes) == 0 {
		return nil
	}
	var changes []store.Change
	for _, n := range e.notes {
		changes = append(changes, n.changes...)
		changes = append(changes, s.audit(by, n.action, n.object, n.detail))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.store.Apply(changes...)
	if err != nil {
		if errors.Is(err, store.ErrAmbiguous) {
			err = errors.Join(err, s.load())
		}
		return fmt.Errorf("store targets and rules: %w", err)
	}
	for _, n := range e.notes {
		s.logger.Info("notifications changed", "action", n.action, "object", n.object, "by", by.Name)
	}
	s.rules = slices.Collect(maps.Values(e.rules))
	slices.SortFunc(s.rules, func(a, b fleet.Rule) int { return strings.Compare(a.Name, b.Name) })
	s.follow(e.targets)
	s.prod()
	return nil
}

// follow makes the targets in memory those of an edit. The caller holds mu.
func (s *Service) follow(records map[string]store.Target) {
	for name, t := range s.targets {
		if _, stays := records[name]; !stays {
			close(t.gone)
			delete(s.targets, name)
		}
	}
	for name, record := range records {
		t, known := s.targets[name]
		if !known {
			t = newTarget(record)
			s.targets[name] = t
		}
		t.record.Target = record.Target
		t.record.GaveUpAt = record.GaveUpAt
		if record.Trouble == "" {
			t.failures, t.next = 0, time.Time{}
		}
		t.prod()
	}
}

func (s *Service) audit(by fleet.Actor, action, object, detail string) store.Change {
	return store.AppendAudit(fleet.AuditEntry{
		At: s.options.Now().UTC(), By: by.Name, From: by.From, Action: action, Object: object, Outcome: "done", Detail: detail,
	})
}

// secretChanges returns what stores a secret; nothing when none is given, or it is
// the one that is stored.
func (s *Service) secretChanges(name string, value secret.Value) ([]store.Change, error) {
	if value.Empty() {
		return nil, nil
	}
	if old, err := s.secret(name); err == nil && old.Equal(value) {
		return nil, nil
	}
	ciphertext, err := s.options.Vault.Encrypt(value)
	if err != nil {
		return nil, fmt.Errorf("encrypt %s: %w", name, err)
	}
	return []store.Change{store.PutSecret(name, ciphertext)}, nil
}

// secret returns a stored secret, empty if there is none.
func (s *Service) secret(name string) (secret.Value, error) {
	ciphertext, found, err := s.store.Secret(name)
	if err != nil || !found {
		return secret.Value{}, err
	}
	return s.options.Vault.Decrypt(ciphertext)
}

// Apply makes targets and rules what a file says, by name, in one transaction;
// with prune the others are removed. Nothing changes when anything is refused; the
// error joins all faults, each a *job.Failure that names its place.
func (s *Service) Apply(_ context.Context, by fleet.Actor, targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	e := s.begin()
	if err := e.want(targets, rules, prune); err != nil {
		return err
	}
	return s.commit(by, e)
}

// Compare makes the checks of [Service.Apply] without a change, and returns what
// would change: action (add, change, remove) and object (target/ops). The address
// of a new target may be left out.
func (s *Service) Compare(_ context.Context, targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) ([][2]string, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	e := s.begin()
	e.trial = true
	if err := e.want(targets, rules, prune); err != nil {
		return nil, err
	}
	changes := make([][2]string, len(e.notes))
	for i, n := range e.notes {
		_, verb, _ := strings.Cut(n.action, ".")
		changes[i] = [2]string{verb, n.object}
	}
	return changes, nil
}

// want makes an edit what a file asks for.
func (e *edit) want(targets map[string]fleet.NewTarget, rules map[string]fleet.Rule, prune bool) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		asked := targets[name]
		asked.Name = name
		faults = append(faults, within("notify.targets."+name, e.putTarget(asked)))
	}
	if prune {
		e.prune(targets, rules)
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		rule := rules[name]
		rule.Name = name
		faults = append(faults, within("notify.rules."+name, e.putRule(rule)))
	}
	return errors.Join(append(faults, e.checkTargets())...)
}

// prune removes what is not wanted: rules first, as they name targets.
func (e *edit) prune(targets map[string]fleet.NewTarget, rules map[string]fleet.Rule) {
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		if _, named := rules[name]; !named {
			e.removeRule(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.targets)) {
		if _, named := targets[name]; !named {
			e.removeTarget(name)
		}
	}
}

// within puts a place before the field that each fault names.
func within(place string, err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var moved []error
		for _, fault := range joined.Unwrap() {
			moved = append(moved, within(place, fault))
		}
		return errors.Join(moved...)
	}
	if f, ok := errors.AsType[*job.Failure](err); ok {
		moved := *f
		moved.Message = place + "." + f.Message
		return &moved
	}
	return err
}

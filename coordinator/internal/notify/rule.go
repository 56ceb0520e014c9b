package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	defaultGroup  = 30 * time.Second
	defaultRepeat = 24 * time.Hour
	minRepeat     = time.Minute
	maxGroup      = 24 * time.Hour
	// defaultRule is the name of the rule that holds as long as there is none.
	defaultRule = "default"
)

// Rules returns every rule by name. As long as there is none, everything of
// warning and above goes to every target.
func (s *Service) Rules(context.Context) ([]fleet.Rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rules), nil
}

// PutRule adds a rule, or puts one in the place of that of its name. Refusals are
// *job.Failure, joined.
func (s *Service) PutRule(_ context.Context, by fleet.Actor, rule fleet.Rule) (fleet.Rule, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	e := s.begin()
	if err := errors.Join(e.putRule(rule), e.missingTargets(rule)); err != nil {
		return fleet.Rule{}, err
	}
	return rule, s.commit(by, e)
}

// RemoveRule removes a rule. The error is a *job.Failure if it is not there.
func (s *Service) RemoveRule(_ context.Context, by fleet.Actor, name string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	e := s.begin()
	if _, known := e.rules[name]; !known {
		return job.Fail(job.NotFound, "there is no rule %q", name).WithHint("borgfleet notify rule list shows all")
	}
	e.removeRule(name)
	return s.commit(by, e)
}

// putRule adds a rule to an edit. Whether its targets exist is checked at the end.
func (e *edit) putRule(rule fleet.Rule) error {
	if err := checkRule(rule); err != nil {
		return err
	}
	old, known := e.rules[rule.Name]
	if known && reflect.DeepEqual(old, rule) {
		return nil
	}
	action := "rule.add"
	if known {
		action = "rule.change"
	}
	e.rules[rule.Name] = rule
	e.note(action, "rule/"+rule.Name, "to "+strings.Join(rule.Targets, ", "), store.PutRule(rule))
	return nil
}

func (e *edit) removeRule(name string) {
	delete(e.rules, name)
	e.note("rule.remove", "rule/"+name, "", store.DeleteRule(name))
}

// checkTargets checks that all rules name targets that are there.
func (e *edit) checkTargets() error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(e.rules)) {
		faults = append(faults, within("notify.rules."+name, e.missingTargets(e.rules[name])))
	}
	return errors.Join(faults...)
}

// missingTargets returns a fault for each target of a rule that is not there.
func (e *edit) missingTargets(rule fleet.Rule) error {
	var faults []error
	for i, target := range rule.Targets {
		if _, known := e.targets[target]; !known {
			faults = append(faults, job.Invalid(fmt.Sprintf("targets[%d]", i), "there is no target %q", target).
				WithHint("borgfleet notify target list shows all"))
		}
	}
	return errors.Join(faults...)
}

// checkRule returns every fault in a rule, joined.
func checkRule(rule fleet.Rule) error {
	var faults []error
	if !validName.MatchString(rule.Name) || rule.Name == defaultRule {
		faults = append(faults, job.Invalid("name", "%q cannot be a rule's name", rule.Name).
			WithHint("lower-case letters, digits and hyphens, at most 63, and not %q", defaultRule))
	}
	if rule.Severity != "" && !slices.Contains(fleet.Severities(), rule.Severity) {
		faults = append(faults, job.Invalid("severity", "%q is none of %v", rule.Severity, fleet.Severities()))
	}
	if len(rule.Targets) == 0 {
		faults = append(faults, job.Invalid("targets", "names none").WithHint("give at least one"))
	}
	faults = append(faults, checkGlobs("kinds", rule.Kinds), checkGlobs("hosts", rule.Hosts), checkGlobs("plans", rule.Plans))
	for i, outcome := range rule.Runs {
		if !slices.Contains(runWords(), outcome) {
			faults = append(faults, job.Invalid(fmt.Sprintf("runs[%d]", i), "%q is none of %s", outcome, strings.Join(runWords(), ", ")))
		}
	}
	if _, err := hoursOf(rule); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(append(faults, checkSpans(rule))...)
}

func checkGlobs(field string, globs []string) error {
	for i, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return job.Invalid(fmt.Sprintf("%s[%d]", field, i), "%q is not a name or a glob", glob).WithHint("* and ? stand for anything, [abc] for one of these")
		}
	}
	return nil
}

func checkSpans(rule fleet.Rule) error {
	var faults []error
	group, err := rule.Group.Length()
	switch {
	case err != nil:
		faults = append(faults, job.Invalid("group", "%s", err))
	case group > maxGroup:
		faults = append(faults, job.Invalid("group", "longer than a day"))
	}
	repeat, err := rule.Repeat.Length()
	switch {
	case err != nil:
		faults = append(faults, job.Invalid("repeat", "%s", err))
	case repeat > 0 && repeat < minRepeat:
		faults = append(faults, job.Invalid("repeat", "shorter than a minute").WithHint("0s is never"))
	}
	return errors.Join(faults...)
}

// groupOf returns how long a rule waits for other alerts.
func groupOf(rule fleet.Rule) time.Duration {
	if rule.Group == "" {
		return defaultGroup
	}
	return rule.Group.Duration()
}

// repeatOf returns after what time a rule tells again; 0: never.
func repeatOf(rule *fleet.Rule) time.Duration {
	if rule.Repeat == "" {
		return defaultRepeat
	}
	return rule.Repeat.Duration()
}

// matches reports whether a rule is about a condition.
func matches(rule *fleet.Rule, c *fleet.Condition) bool {
	return matchesAny(rule.Kinds, c.Kind) && (rule.Severity == "" || c.Severity.AtLeast(rule.Severity)) &&
		matchesAny(rule.Hosts, c.Host) && matchesAny(rule.Plans, c.Plan) && hasLabels(rule.Labels, c.Labels)
}

func matchesAny(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(glob string) bool {
		found, err := path.Match(glob, name)
		return err == nil && found
	})
}

func hasLabels(wanted, labels map[string]string) bool {
	for key, value := range wanted {
		if has, found := labels[key]; !found || has != value {
			return false
		}
	}
	return true
}

package notify

import (
	"slices"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/store"
)

// maxRuns bounds how many wait to be put down.
const maxRuns = 50_000

// runWords are the outcomes that a rule may name: states, and words for several.
func runWords() []string {
	return []string{"start", "success", "failure", "running", "succeeded", "warning", "failed", "cancelled", "skipped", "missed"}
}

// wordsOf returns the words that stand for the state of a run.
func wordsOf(run fleet.Run) []string {
	words := []string{string(run.State)}
	switch run.State {
	case fleet.RunRunning:
		words = append(words, "start")
	case fleet.RunSucceeded, fleet.RunWarning:
		words = append(words, "success")
	case fleet.RunFailed, fleet.RunMissed:
		words = append(words, "failure")
	}
	return words
}

// Started takes note that a run of a plan has begun. It never waits.
func (s *Service) Started(run fleet.Run) { s.ran(run) }

// Ended takes note that a run of a plan is over. It never waits.
func (s *Service) Ended(run fleet.Run) { s.ran(run) }

func (s *Service) ran(run fleet.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) >= maxRuns || !s.anyoneWants(run) {
		if run.FinishedAt != nil {
			s.passed = append(s.passed, run.ID)
		}
		return
	}
	s.runs = append(s.runs, run)
	s.prod()
}

// over are the changes that note that the ends of runs are dealt with. The caller
// holds mu.
func (s *Service) over() []store.Change {
	ids := slices.Clone(s.passed)
	for _, run := range s.runs {
		if run.FinishedAt != nil {
			ids = append(ids, run.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return []store.Change{store.RunsTold(ids)}
}

// anyoneWants reports whether a rule tells of a run. The caller holds mu.
func (s *Service) anyoneWants(run fleet.Run) bool {
	for _, rule := range s.effective() {
		for _, name := range rule.Targets {
			if t, known := s.targets[name]; known && !t.record.Disabled && s.wants(rule, t, run) {
				return true
			}
		}
	}
	return false
}

// wants reports whether a rule tells a target of a run. Healthchecks targets are
// told of all that they can tell apart, unless the rule names outcomes.
func (s *Service) wants(rule fleet.Rule, t *target, run fleet.Run) bool {
	outcomes := rule.Runs
	if len(outcomes) == 0 && t.record.Kind == kindHealthchecks {
		outcomes = []string{"start", "success", "failure"}
	}
	wanted := slices.ContainsFunc(wordsOf(run), func(word string) bool { return slices.Contains(outcomes, word) })
	if rule.Disabled || !wanted || !matchesAny(rule.Plans, run.Plan) {
		return false
	}
	if len(rule.Labels) > 0 {
		plan, _, err := s.store.Plan(run.Plan)
		if err != nil || !hasLabels(rule.Labels, plan.Labels) {
			return false
		}
	}
	if len(rule.Hosts) == 0 {
		return true
	}
	for host := range hostsOf(run) {
		if matchesAny(rule.Hosts, host) {
			return true
		}
	}
	return false
}

// planRuns adds what a rule tells a target of the runs that wait: a message for
// each to Healthchecks, as each is a signal there, and one for all to others. The
// caller holds mu.
func (s *Service) planRuns(r *round, rule fleet.Rule, t *target) error {
	var runs []fleet.Run
	for _, run := range s.runs {
		if s.wants(rule, t, run) {
			runs = append(runs, run)
		}
	}
	if len(runs) == 0 {
		return nil
	}
	if t.record.Kind != kindHealthchecks {
		return r.add(rule, t, []string{}, runMessage(runs, s.options.URL))
	}
	for _, run := range runs {
		if err := r.add(rule, t, []string{}, runMessage([]fleet.Run{run}, s.options.URL)); err != nil {
			return err
		}
	}
	return nil
}

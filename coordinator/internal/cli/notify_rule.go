package cli

import (
	"maps"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

type ruleCommands struct {
	List   ruleList   `cmd:"" help:"List which alerts go where."`
	Set    ruleSet    `cmd:"" aliases:"add" help:"Add a rule, or change it, as a whole."`
	Remove ruleRemove `cmd:"" help:"Remove a rule."`
}

type ruleList struct{}

// Run runs the command.
func (ruleList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	rules, err := api.Rules(s.ctx)
	if err != nil {
		return err
	}
	return s.show(rules, func() {
		if len(rules) == 0 {
			s.printf("No rules: nobody is notified. Add one with: borgfleet notify rule set NAME --target TARGET\n")
			return
		}
		t := newTable(s.Out, "RULE", "TARGETS", "ALERTS", "WHEN")
		for _, rule := range rules {
			t.row(rule.Name, strings.Join(rule.Targets, ", "), ruleMatch(rule), ruleHours(rule))
		}
		t.end()
	})
}

// ruleMatch is what a rule matches, in a few words.
func ruleMatch(rule fleet.Rule) string {
	var parts []string
	if rule.Disabled {
		parts = append(parts, "off")
	}
	if rule.Severity != "" {
		parts = append(parts, "at least "+string(rule.Severity))
	}
	for _, list := range []struct {
		words  string
		values []string
	}{{"", rule.Kinds}, {"hosts ", rule.Hosts}, {"plans ", rule.Plans}, {"runs: ", rule.Runs}} {
		if len(list.values) > 0 {
			parts = append(parts, list.words+strings.Join(list.values, " "))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rule.Labels)) {
		parts = append(parts, key+"="+rule.Labels[key])
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ", ")
}

func ruleHours(rule fleet.Rule) string {
	text := strings.TrimSpace(strings.Join(rule.Days, " ") + " " + rule.Hours)
	if text == "" {
		return "always"
	}
	return strings.TrimSpace(text + " " + rule.Timezone)
}

type ruleSet struct {
	Name   string   `arg:"" help:"The rule's name."`
	Target []string `required:"" help:"Where to; may be repeated." placeholder:"TARGET"`

	ruleMatches `group:"Which alerts:"`
	ruleTimes   `group:"When:"`
	Off         bool `help:"Send nothing."`
}

type ruleMatches struct {
	Kind     []string          `help:"Of this kind: overdue, failed, offline, …; may be repeated." placeholder:"KIND"`
	Severity fleet.Severity    `help:"At least so severe: info, warning or critical." enum:",info,warning,critical" default:"" placeholder:"SEVERITY"`
	Host     []string          `help:"Of this host, or those that match, such as web*; may be repeated." placeholder:"HOST"`
	Plan     []string          `help:"Of this plan, or those that match; may be repeated." placeholder:"PLAN"`
	Label    map[string]string `help:"Whose host or plan has this label; may be repeated, and is then all of them." placeholder:"KEY=VALUE"`
	Runs     []string          `help:"Also tell these outcomes of plans' runs: start, success, failure." enum:"start,success,failure" placeholder:"OUTCOME"`
}

type ruleTimes struct {
	Hours      string     `help:"Only then: 08:00-18:00. What is raised outside waits." placeholder:"HOURS"`
	Day        []string   `help:"Only then: mon, tue, …; may be repeated." placeholder:"DAY"`
	Timezone   string     `help:"IANA name, of hours and days. Default: UTC." placeholder:"ZONE"`
	Group      fleet.Span `help:"Wait so long for others that go into the same message. Default: 30s." placeholder:"TIME"`
	Repeat     fleet.Span `help:"Tell again so often while it holds; 0s: never. Default: 24h." placeholder:"TIME"`
	NoResolved bool       `help:"Do not tell that it is over."`
}

// Run runs the command.
func (c ruleSet) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	rule, err := api.PutRule(s.ctx, fleet.Rule{
		Name: c.Name, Targets: c.Target, Kinds: c.Kind, Severity: c.Severity, Hosts: c.Host, Plans: c.Plan, Labels: c.Label, Runs: c.Runs,
		Hours: c.Hours, Days: c.Day, Timezone: c.Timezone, Group: c.Group, Repeat: c.Repeat, NoResolved: c.NoResolved, Disabled: c.Off,
	})
	if err != nil {
		return err
	}
	return s.show(rule, func() {
		s.printf("Rule %s: %s to %s, %s.\n", rule.Name, ruleMatch(rule), strings.Join(rule.Targets, ", "), ruleHours(rule))
	})
}

type ruleRemove struct {
	Name string `arg:"" help:"The rule's name."`
}

// Run runs the command.
func (c ruleRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.RemoveRule(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() { s.printf("Removed rule %s.\n", c.Name) })
}

package httpapi

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// Rulebook keeps which alerts go to which targets. Safe for concurrent use.
type Rulebook interface {
	Rules(ctx context.Context) ([]fleet.Rule, error)
	// PutRule adds a rule, or changes it.
	PutRule(ctx context.Context, by fleet.Actor, rule fleet.Rule) (fleet.Rule, error)
	RemoveRule(ctx context.Context, by fleet.Actor, name string) error
}

// NewRule says which alerts go to which targets. What is left out matches
// everything.
type NewRule struct {
	Kinds      []string          `json:"kinds,omitempty" maxItems:"100" doc:"of these kinds"`
	Severity   fleet.Severity    `json:"severity,omitempty" enum:"info,warning,critical" doc:"at least so severe"`
	Hosts      []string          `json:"hosts,omitempty" maxItems:"10000" doc:"of these hosts: names, or globs such as web*"`
	Plans      []string          `json:"plans,omitempty" maxItems:"10000" doc:"of these plans: names, or globs"`
	Labels     map[string]string `json:"labels,omitempty" maxProperties:"64" doc:"whose host or plan has all these labels"`
	Hours      string            `json:"hours,omitempty" maxLength:"20" doc:"only then, such as 08:00-18:00; what is raised outside waits"`
	Days       []string          `json:"days,omitempty" maxItems:"7" doc:"only then: mon, tue, wed, thu, fri, sat, sun"`
	Timezone   string            `json:"timezone,omitempty" maxLength:"100" doc:"IANA name, of hours and days; left out: UTC"`
	Targets    []string          `json:"targets" minItems:"1" maxItems:"100" doc:"where to, by name"`
	Group      fleet.Span        `json:"group,omitempty" maxLength:"20" doc:"wait so long for others that go into the same message; left out: 30s"`
	Repeat     fleet.Span        `json:"repeat,omitempty" maxLength:"20" doc:"tell again while it holds; left out: 24h; 0s: never"`
	NoResolved bool              `json:"no_resolved,omitempty" doc:"do not tell that it is over"`
	Runs       []string          `json:"runs,omitempty" maxItems:"3" doc:"tell these outcomes of plans' runs as well: start, success, failure"`
	Disabled   bool              `json:"disabled,omitempty" doc:"send nothing"`
}

func (n NewRule) named(name string) fleet.Rule {
	return fleet.Rule{
		Name: name, Kinds: n.Kinds, Severity: n.Severity, Hosts: n.Hosts, Plans: n.Plans, Labels: n.Labels,
		Hours: n.Hours, Days: n.Days, Timezone: n.Timezone, Targets: n.Targets, Group: n.Group, Repeat: n.Repeat,
		NoResolved: n.NoResolved, Runs: n.Runs, Disabled: n.Disabled,
	}
}

type ruleInput struct {
	TargetPath
	Body NewRule
}

type ruleOutput struct{ Body fleet.Rule }

type rulesOutput struct{ Body RuleList }

// RuleList is which alerts go where, by the rules' names.
type RuleList struct {
	Rules []fleet.Rule `json:"rules"`
}

func unknownRule(name string) *job.Failure {
	return job.Fail(job.NotFound, "there is no rule %q", name).WithHint("borgfleet notify rule list shows the rules")
}

func (a *API) registerRules() {
	show := operation{
		id: "list-rules", method: http.MethodGet, path: "/rules", tag: tagNotifications, status: http.StatusOK,
		summary: "List which alerts go where", answer: RuleList{Rules: []fleet.Rule{exampleRule()}},
	}
	huma.Register(a.huma, show.huma(a), func(ctx context.Context, _ *struct{}) (*rulesOutput, error) {
		rules, err := a.options.Notifications.Rules(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		page := slices.Clone(list(rules))
		for i := range page {
			page[i] = completeRule(page[i])
		}
		return &rulesOutput{Body: RuleList{Rules: page}}, nil
	})
	get := operation{
		id: "get-rule", method: http.MethodGet, path: "/rules/{name}", tag: tagNotifications, status: http.StatusOK,
		summary: "Show a rule of notifications", answer: exampleRule(), failures: []job.Failure{*unknownRule("ops")},
	}
	huma.Register(a.huma, get.huma(a), a.getRule)
	put := operation{
		id: "put-rule", method: http.MethodPut, path: "/rules/{name}", tag: tagNotifications, status: http.StatusOK,
		summary: "Add or change a rule of notifications", needs: bus.Admin, answer: exampleRule(),
		request:     NewRule{Severity: fleet.SeverityWarning, Hosts: []string{"web*"}, Targets: []string{"ops"}},
		description: "The rule is given as a whole.",
		failures:    []job.Failure{*unknownTarget("ops"), {Code: job.InvalidRequest, Message: `hours: "8-18" is not hours of the day`, Hint: "for example 08:00-18:00"}},
	}
	huma.Register(a.huma, put.huma(a), func(ctx context.Context, in *ruleInput) (*ruleOutput, error) {
		rule, err := a.options.Notifications.PutRule(ctx, fleet.ActorOf(ctx), in.Body.named(in.Name))
		if err != nil {
			return nil, a.problems(ctx, err)
		}
		return &ruleOutput{Body: completeRule(rule)}, nil
	})
	remove := operation{
		id: "remove-rule", method: http.MethodDelete, path: "/rules/{name}", tag: tagNotifications, status: http.StatusNoContent,
		summary: "Remove a rule of notifications", needs: bus.Admin, failures: []job.Failure{*unknownRule("ops")},
	}
	huma.Register(a.huma, remove.huma(a), answerNothing(a, func(ctx context.Context, in *TargetPath) error {
		return a.options.Notifications.RemoveRule(ctx, fleet.ActorOf(ctx), in.Name)
	}))
}

func completeRule(rule fleet.Rule) fleet.Rule {
	rule.Targets = list(rule.Targets)
	return rule
}

func (a *API) getRule(ctx context.Context, in *TargetPath) (*ruleOutput, error) {
	rules, err := a.options.Notifications.Rules(ctx)
	at := slices.IndexFunc(rules, func(r fleet.Rule) bool { return r.Name == in.Name })
	switch {
	case err != nil:
		return nil, a.problem(ctx, err)
	case at < 0:
		return nil, a.problem(ctx, unknownRule(in.Name))
	}
	return &ruleOutput{Body: completeRule(rules[at])}, nil
}

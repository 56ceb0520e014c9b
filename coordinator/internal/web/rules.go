package web

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

// ruleRow is one rule of who is told of what.
type ruleRow struct{ fleet.Rule }

// URL is where its forms are sent.
func (r ruleRow) URL() string { return "/notifications/rules/" + url.PathEscape(r.Name) }

// Of is which alerts it is about, in words.
func (r ruleRow) Of() string {
	var parts []string
	if len(r.Kinds) > 0 {
		parts = append(parts, strings.ReplaceAll(strings.Join(r.Kinds, ", "), "_", " "))
	}
	if r.Severity != "" {
		parts = append(parts, string(r.Severity)+given(r.Severity != fleet.SeverityCritical, " and above"))
	}
	for _, part := range []struct {
		word string
		list []string
	}{{"hosts ", r.Hosts}, {"plans ", r.Plans}, {"labels ", nonEmpty(pairsOf(r.Labels))}} {
		if len(part.list) > 0 {
			parts = append(parts, part.word+strings.Join(part.list, ", "))
		}
	}
	of := cmp.Or(strings.Join(parts, "; "), "every alert")
	if len(r.Runs) > 0 {
		of += "; and runs of plans: " + strings.Join(r.Runs, ", ")
	}
	return of
}

// When is at which times, and how often, in words.
func (r ruleRow) When() string {
	var parts []string
	if r.Hours != "" || len(r.Days) > 0 {
		parts = append(parts, strings.TrimSpace(strings.Join(r.Days, ", ")+" "+r.Hours)+" "+cmp.Or(r.Timezone, "UTC"))
	}
	switch r.Repeat {
	case "":
		parts = append(parts, "again every 24h")
	case "0s":
		parts = append(parts, "once")
	default:
		parts = append(parts, "again every "+string(r.Repeat))
	}
	if r.NoResolved {
		parts = append(parts, "not when it is over")
	}
	return strings.Join(parts, ", ")
}

// values are those of the form that would make it again.
func (r ruleRow) values() url.Values {
	v := url.Values{
		"name": {r.Name}, "kinds": {strings.Join(r.Kinds, " ")}, "severity": {string(r.Severity)}, "hosts": {strings.Join(r.Hosts, " ")}, "plans": {strings.Join(r.Plans, " ")},
		"labels": {strings.ReplaceAll(pairsOf(r.Labels), ", ", "\n")}, "hours": {r.Hours}, "days": {strings.Join(r.Days, " ")}, "timezone": {r.Timezone},
		"targets": {strings.Join(r.Targets, " ")}, "group": {string(r.Group)}, "repeat": {string(r.Repeat)}, "runs": {strings.Join(r.Runs, " ")},
	}
	for name, set := range map[string]bool{"no_resolved": r.NoResolved, "off": r.Disabled} {
		if set {
			v.Set(name, "1")
		}
	}
	return v
}

// ruleForm adds or changes a rule.
func ruleForm(v *typed, targets []string) *notifyForm {
	severities := choices(fleet.Severity(v.or("severity", string(fleet.SeverityWarning))), "any", fleet.Severities())
	for i := range severities[1:] {
		severities[i+1].Label += given(i+2 < len(severities), " and above")
	}
	words := func(name, label, placeholder, help string) field {
		return field{Name: name, Label: label, Kind: "text", Value: v.text(name), Placeholder: placeholder, Help: help}
	}
	to := words("targets", "To", "", "Names of targets, with blanks between.")
	to.Suggestions, to.Needed = targets, true
	if to.Value == "" && !v.sent && len(targets) == 1 {
		to.Value = targets[0]
	}
	return &notifyForm{Scope: "rule-", Fields: []field{
		{Name: "name", Label: "Name", Kind: "text", Value: v.text("name"), Needed: true, Help: "One that is there is changed, as a whole."},
		to,
		{Name: "severity", Label: "Severity", Kind: "select", Choices: severities},
		words("kinds", "Kinds", "any", "Such as `overdue failed`."),
		words("hosts", "Hosts", "any", "Names, or `web*`."), words("plans", "Plans", "any", "Names, or `web-*`."),
		{Name: "labels", Label: "Labels of host or plan", Kind: "area", Value: v.Get("labels"), Placeholder: "site=berlin", Help: "One a line, all of them."},
		words("runs", "Also runs of plans", "none", "Of `start success failure`: what Healthchecks is pinged with."),
		words("hours", "Only at", "any time", "Such as `08:00-18:00`. What comes outside waits."), words("days", "On", "any day", "Such as `mon tue wed`."),
		words("timezone", "Time zone", "UTC", ""), words("group", "Wait for others for", "30s", "They go into one message."),
		words("repeat", "Tell again every", "24h", "While it holds. `0s`: never."),
		checkField(v, "no_resolved", "Do not tell that it is over", ""), checkField(v, "off", "Off", ""),
	}}
}

// rule is what was typed.
func (v *typed) rule() fleet.Rule {
	list := func(name string) []string {
		return strings.FieldsFunc(v.Get(name), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' })
	}
	rule := fleet.Rule{
		Name: v.text("name"), Kinds: list("kinds"), Severity: fleet.Severity(v.Get("severity")), Hosts: list("hosts"), Plans: list("plans"),
		Hours: v.text("hours"), Days: list("days"), Timezone: v.text("timezone"), Targets: list("targets"), Group: fleet.Span(v.text("group")),
		Repeat: fleet.Span(v.text("repeat")), NoResolved: v.checked("no_resolved"), Runs: list("runs"), Disabled: v.checked("off"),
	}
	for _, line := range v.lines("labels") {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			v.wrong = append(v.wrong, job.Invalid("labels", "%.40q has no value", line).WithHint("write key=value"))
			continue
		}
		if rule.Labels == nil {
			rule.Labels = map[string]string{}
		}
		rule.Labels[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return rule
}

// putRule adds or changes a rule.
func (s *site) putRule(w http.ResponseWriter, r *http.Request) {
	if !s.parse(w, r) {
		return
	}
	v := &typed{Values: r.PostForm, sent: true}
	rule := v.rule()
	var err error
	if len(v.wrong) > 0 {
		err = v.wrong[0]
	} else {
		_, err = s.Notify.PutRule(r.Context(), fleet.ActorOf(r.Context()), rule)
	}
	form := ruleForm(v, rule.Targets)
	form.Faults, form.Open = faultsOf(err), true
	s.notified(w, r, notifyForms{Rule: form}, err, "")
}

func (s *site) confirmRule(r *http.Request) (*confirmation, error) {
	name := r.PathValue("rule")
	rules, err := s.Notify.Rules(r.Context())
	if err != nil {
		return nil, wrap("rules", err)
	}
	at := slices.IndexFunc(rules, func(rule fleet.Rule) bool { return rule.Name == name })
	if at < 0 {
		return nil, job.Fail(job.NotFound, "there is no rule %q", name).WithHint("See Notifications.")
	}
	happens := []string{human.Plural(len(rules[at].Targets), "target") + " no longer told of " + ruleRow{rules[at]}.Of() + ", unless another rule says so."}
	if len(rules) == 1 {
		happens = append(happens, "It is the only rule. Without any, everything of warning and above goes to every target.")
	}
	return &confirmation{
		Title: "Remove the rule " + name, Nav: "/alerts", Back: "/notifications", BackTo: "Notifications", Button: "Remove", Happens: happens,
		Command: s.commandsFor(r).borgfleet("notify", "rule", "remove", name), after: "/notifications",
		do: func(ctx context.Context, by fleet.Actor) error { return s.Notify.RemoveRule(ctx, by, name) },
	}, nil
}

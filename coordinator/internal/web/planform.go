package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/job"
)

// planForm is a plan as text, with the keys that it has in fleet.yaml: a new one,
// or one that is changed.
type planForm struct {
	commands
	Name   string // empty, until it is typed: a new one
	New    bool
	Text   string
	Faults []*job.Failure
}

// examplePlan is what the text of a new plan begins with.
const examplePlan = `hosts: [web1]
repositories: [main]
paths: [/etc, /srv]
schedule:
  cron: "0 2 * * *"
  timezone: Europe/Berlin
  jitter: 15m
retention:
  keep_daily: 7
  keep_weekly: 4
  keep_monthly: 6
after: [prune, compact]
check:
  every: 7d
restore_test:
  every: 30d
  canary: true
`

// planForm serves the text of a plan, and on POST stores it.
func (s *site) planForm(w http.ResponseWriter, r *http.Request) {
	if err := needRole(r.Context(), bus.Admin); err != nil {
		s.faultOf(w, r, err)
		return
	}
	form := &planForm{commands: s.commandsFor(r), Name: r.PathValue("plan")}
	form.New = form.Name == ""
	if r.Method == http.MethodPost {
		if !s.parse(w, r) {
			return
		}
		form.take(&typed{Values: r.PostForm, sent: true})
		err := s.storePlan(r.Context(), form)
		if err == nil {
			http.Redirect(w, r, planURL(form.Name), http.StatusSeeOther)
			return
		}
		form.Faults = failures(err)
		s.refuse(w, r, form.Faults[0], form.view())
		return
	}
	if err := s.fillPlan(r.Context(), form, r.URL.Query().Get("like")); err != nil {
		s.faultOf(w, r, err)
		return
	}
	s.render(w, r, form.view())
}

func (f *planForm) take(v *typed) {
	if f.New {
		f.Name = v.text("name")
	}
	f.Text = strings.ReplaceAll(v.Get("text"), "\r\n", "\n")
}

func (f *planForm) view() *view {
	v := &view{Title: "New plan", Nav: "/plans", Body: "plan-form", Data: f}
	if !f.New {
		v.Title = "Change " + f.Name
	}
	if len(f.Faults) > 0 {
		v.Status = f.Faults[0].Code.HTTPStatus()
	}
	return v
}

// fillPlan puts the text of a plan into the form: its own, or for a new one that of
// another, or an example.
func (s *site) fillPlan(ctx context.Context, form *planForm, like string) error {
	form.Text = examplePlan
	if !form.New {
		like = form.Name
	}
	if like == "" {
		return nil
	}
	plan, err := s.Plans.Plan(ctx, like)
	if err == nil {
		form.Text, err = planText(plan.PlanSpec)
	}
	return err
}

// planText is a plan as fleet.yaml has it.
func planText(spec fleet.PlanSpec) (string, error) {
	data, err := json.Marshal(spec)
	if err == nil {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return "", fmt.Errorf("writing the plan as YAML: %w", err)
	}
	return string(data), nil
}

// parsePlan reads a plan from its text.
func parsePlan(text string) (spec fleet.PlanSpec, err error) {
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return spec, job.Invalid("text", "is no YAML: %s", yaml.FormatError(err, false, false)).WithHint("indent with blanks, and quote what has a colon or an asterisk")
	}
	return spec, job.DecodeStrict(data, &spec)
}

func (s *site) storePlan(ctx context.Context, form *planForm) error {
	spec, err := parsePlan(form.Text)
	if err != nil {
		return err
	}
	by := fleet.ActorOf(ctx)
	if form.New {
		_, err = s.Plans.AddPlan(ctx, by, form.Name, spec)
	} else {
		_, err = s.Plans.ChangePlan(ctx, by, form.Name, spec)
	}
	return err
}

// Fault is what was wrong with a field.
func (f *planForm) Fault(name string) *job.Failure { return faultOf(f.Faults, name) }

// FromFile is the same on the command line.
func (f *planForm) FromFile() string {
	if f.New {
		name := f.Name
		if name == "" {
			name = "NAME"
		}
		return f.AboutPlan("add", name, "-f", "plan.yaml")
	}
	return f.AboutPlan("change", f.Name, "-f", "plan.yaml")
}

// ToFile prints the plan as it is.
func (f *planForm) ToFile() string { return f.AboutPlan("show", f.Name, "--yaml") }

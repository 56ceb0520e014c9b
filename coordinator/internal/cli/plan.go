package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
)

type planCommands struct {
	List      planList      `cmd:"" help:"List plans, and how they stand."`
	Show      planShow      `cmd:"" help:"Show one plan; with --yaml as a file has it."`
	Add       planAdd       `cmd:"" help:"Add a plan, by flags or from a file."`
	Change    planChange    `cmd:"" help:"Change a plan, from a file."`
	Run       planRun       `cmd:"" help:"Run a plan now."`
	Pause     planPause     `cmd:"" help:"Keep a plan from running by itself."`
	Resume    planResume    `cmd:"" help:"Let a plan run by itself again."`
	History   planHistory   `cmd:"" help:"List the runs of a plan, newest first."`
	Calendar  planCalendar  `cmd:"" help:"Show the runs that are to come."`
	Freshness planFreshness `cmd:"" help:"Show how each plan stands on each host and repository."`
	Accept    planAccept    `cmd:"" help:"Take a suspicious backup as right, so that it is pruned again."`
	Test      planTest      `cmd:"" name:"restore-test" help:"Restore a sample of the newest backup now, and compare it."`
	Remove    planRemove    `cmd:"" help:"Remove a plan. Its archives stay."`
}

type planList struct {
	State fleet.FreshState `help:"Only in this state: fresh, new, paused, suspicious, stale or overdue." enum:",fresh,new,paused,suspicious,stale,overdue" default:"" placeholder:"STATE"`
}

// Run runs the command.
func (c planList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	plans, err := api.Plans(s.ctx)
	if err != nil {
		return err
	}
	plans = slices.DeleteFunc(plans, func(p fleet.PlanView) bool { return c.State != "" && p.State != c.State })
	return s.show(plans, func() {
		if len(plans) == 0 && c.State == "" {
			s.printf("No plans yet. Add one with: borgfleet plan add NAME --host HOST --repo REPOSITORY --cron '0 2 * * *' PATH…\n")
			return
		}
		now := time.Now()
		t := newTable(s.Out, "PLAN", "STATE", "HOSTS", "REPOSITORIES", "OLDEST BACKUP", "NEXT RUN")
		for _, p := range plans {
			t.row(p.Name, planState(p), human.Count(len(p.On)), strings.Join(p.Repositories, ", "), oldestBackup(p, now), nextRun(p, now))
		}
		t.end()
	})
}

func planState(p fleet.PlanView) string {
	text := string(p.State)
	if p.Open != "" {
		text += ", runs now"
	}
	return text
}

// oldestBackup is when the host and repository were backed up that a plan has
// neglected most.
func oldestBackup(p fleet.PlanView, now time.Time) string {
	var oldest time.Time
	for _, f := range p.Freshness {
		if f.LastSuccess == nil {
			return "never"
		}
		if at := f.LastSuccess.FinishedAt; oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return human.None
	}
	return human.Ago(oldest, now)
}

func nextRun(p fleet.PlanView, now time.Time) string {
	switch {
	case p.Pause != nil && p.Pause.Until != nil:
		return "paused until " + date(*p.Pause.Until)
	case p.Pause != nil:
		return "paused"
	case len(p.Next) == 0:
		return "by hand only"
	}
	return soon(p.Next[0], now)
}

// soon is when something is to come.
func soon(at, now time.Time) string {
	if at.Before(now) {
		return "now"
	}
	return "in " + human.Duration(at.Sub(now).Truncate(time.Second)) + ", " + date(at)
}

// onePlan is what every command about one plan takes.
type onePlan struct {
	Name string `arg:"" help:"The plan's name."`
}

type planShow struct {
	onePlan
	YAML bool `name:"yaml" help:"Print it as plan add, plan change and fleet.yaml take it."`
}

// Run runs the command.
func (c planShow) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	plan, err := api.Plan(s.ctx, c.Name)
	if err != nil {
		return err
	}
	if c.YAML {
		text, err := specText(plan.PlanSpec)
		if err != nil {
			return err
		}
		s.printf("%s", text)
		return nil
	}
	return s.show(plan, func() { s.printPlan(plan, time.Now()) })
}

// specText is a plan's spec as YAML.
func specText(spec fleet.PlanSpec) ([]byte, error) {
	data, err := json.Marshal(spec)
	if err == nil {
		data, err = yaml.JSONToYAML(data)
	}
	if err != nil {
		return nil, fmt.Errorf("write the plan as YAML: %w", err)
	}
	return data, nil
}

func (s *session) printPlan(p fleet.PlanView, now time.Time) {
	t := newFacts(s.Out)
	t.row("plan", p.Name)
	if p.Description != "" {
		t.row("description", p.Description)
	}
	t.row("state", planState(p))
	t.row("hosts", orNone(strings.Join(p.On, ", ")))
	t.row("repositories", strings.Join(p.Repositories, ", "))
	t.row("backs up", planSource(p.PlanSpec))
	t.row("schedule", scheduleText(p.Schedule))
	t.row("next run", nextRun(p, now))
	if p.Pause != nil {
		t.row("paused", human.Ago(p.Pause.Since, now)+" by "+p.Pause.By+because(p.Pause.Reason))
	}
	if len(p.Runs) > 0 {
		t.row("last runs", runStrip(p.Runs))
	}
	t.end()
	if len(p.Freshness) > 0 {
		s.printf("\n")
		s.printFreshness(p.Freshness, now, false)
	}
}

func planSource(spec fleet.PlanSpec) string {
	sources := slices.Clone(spec.Paths)
	for _, hook := range []string{spec.ContentFrom, spec.PathsFrom} {
		if hook != "" {
			sources = append(sources, "what the hook "+hook+" says")
		}
	}
	for _, dump := range spec.Dumps {
		sources = append(sources, "the dump of "+dump.Hook)
	}
	return orNone(strings.Join(sources, ", "))
}

func scheduleText(schedule *fleet.Schedule) string {
	if schedule == nil {
		return "none: when somebody runs it"
	}
	text := schedule.Cron
	if schedule.Every != "" {
		text = "every " + string(schedule.Every)
	}
	for _, part := range []struct{ words, value string }{
		{", ", schedule.Timezone}, {", jitter ", string(schedule.Jitter)}, {", within ", schedule.Window},
	} {
		if part.value != "" {
			text += part.words + part.value
		}
	}
	return text
}

// runStrip shows runs as letters, the newest last.
func runStrip(runs []fleet.RunMark) string {
	letters := map[fleet.RunState]string{
		fleet.RunRunning: ">", fleet.RunSucceeded: ".", fleet.RunWarning: "w", fleet.RunFailed: "F",
		fleet.RunCancelled: "c", fleet.RunSkipped: "s", fleet.RunMissed: "M",
	}
	var strip strings.Builder
	for _, run := range runs {
		strip.WriteString(letters[run.State])
	}
	return strip.String() + "  (. good, w warning, F failed, c cancelled, s skipped, M missed, > runs)"
}

// changed does something with a plan, and shows what has become of it.
func (c onePlan) changed(s *session, words string, do func(*client.Client) (fleet.PlanView, error)) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	plan, err := do(api)
	if err != nil {
		return err
	}
	return s.show(plan, func() {
		s.printf("Plan %s %s. Next run: %s\n", console.Printable(plan.Name), words, nextRun(plan, time.Now()))
	})
}

type planPause struct {
	onePlan
	For    days   `help:"End the pause after this time, for example 12h or 7d. Default: when somebody resumes the plan." placeholder:"TIME"`
	Until  moment `help:"End it then: 2026-12-01 or 2026-12-01T14:00." placeholder:"TIME"`
	Reason string `help:"Why, for the audit and for others." placeholder:"TEXT"`
}

// Run runs the command.
func (c planPause) Run(s *session) error {
	until := c.Until.Time
	switch {
	case c.For > 0 && !until.IsZero():
		return console.Usage("--for and --until exclude each other")
	case c.For > 0:
		until = time.Now().Add(time.Duration(c.For)).Truncate(time.Second)
	case !until.IsZero() && until.Before(time.Now()):
		return console.Usage("--until is over already (give a time to come)")
	}
	return c.changed(s, "is paused", func(api *client.Client) (fleet.PlanView, error) {
		return api.PausePlan(s.ctx, c.Name, until, c.Reason)
	})
}

type planResume struct{ onePlan }

// Run runs the command.
func (c planResume) Run(s *session) error {
	return c.changed(s, "runs by itself again", func(api *client.Client) (fleet.PlanView, error) {
		return api.ResumePlan(s.ctx, c.Name)
	})
}

type planRemove struct {
	onePlan
	Yes bool `help:"Do not ask whether you are sure." short:"y"`
}

// Run runs the command.
func (c planRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if !c.Yes {
		err := s.confirm(
			fmt.Sprintf("Remove plan %s? Its hosts are backed up by it no more; its archives stay. [y/N] ", c.Name),
			"this ends the plan's backups (add --yes if you are sure)")
		if err != nil {
			return err
		}
	}
	if err := api.RemovePlan(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() { s.printf("Removed plan %s. Its archives stay.\n", c.Name) })
}

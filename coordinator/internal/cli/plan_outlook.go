package cli

import (
	"errors"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/client"
	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
)

type planCalendar struct {
	For  days   `help:"How far to look, for example 12h or 7d; at most 31d. Default: ${default}." default:"24h" placeholder:"TIME"`
	Plan string `help:"Only of this plan." placeholder:"PLAN"`
	Host string `help:"Only of this host." placeholder:"HOST"`
}

// Run runs the command.
func (c planCalendar) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	now := time.Now().Truncate(time.Second)
	calendar, err := api.Calendar(s.ctx, now, now.Add(time.Duration(c.For)))
	if err != nil {
		return err
	}
	wanted := []fleet.Occurrence{}
	for _, o := range calendar.Occurrences {
		if (c.Plan == "" || o.Plan == c.Plan) && (c.Host == "" || o.Host == c.Host) {
			wanted = append(wanted, o)
		}
	}
	calendar.Occurrences = wanted
	return s.show(calendar, func() {
		if len(wanted) == 0 {
			s.printf("Nothing is due within %s.\n", human.Duration(time.Duration(c.For)))
		} else {
			t := newTable(s.Out, "WHEN", "PLAN", "HOST", "TAKES ABOUT")
			for _, o := range wanted {
				takes := human.None
				if o.Seconds > 0 {
					takes = human.Seconds(o.Seconds)
				}
				t.row(date(o.At), o.Plan, o.Host, takes)
			}
			t.end()
		}
		if calendar.Omitted > 0 {
			s.printf("%s more later: look less far with --for\n", human.Count(calendar.Omitted))
		}
	})
}

type planFreshness struct {
	Plan  string           `help:"Only of this plan." placeholder:"PLAN"`
	Host  string           `help:"Only of this host." placeholder:"HOST"`
	Repo  string           `help:"Only on this repository." placeholder:"REPOSITORY" aliases:"repository"`
	State fleet.FreshState `help:"Only in this state: fresh, new, paused, suspicious, stale or overdue." enum:",fresh,new,paused,suspicious,stale,overdue" default:"" placeholder:"STATE"`
}

// Run runs the command.
func (c planFreshness) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	found, err := api.Freshness(s.ctx, client.FreshnessFilter{Plan: c.Plan, Host: c.Host, Repository: c.Repo, State: c.State})
	if err != nil {
		return err
	}
	return s.show(found, func() {
		if len(found) == 0 {
			s.printf("Nothing.\n")
			return
		}
		s.printFreshness(found, time.Now(), true)
	})
}

// printFreshness prints a row for each host and repository; of several plans also
// which plan it is.
func (s *session) printFreshness(all []fleet.Freshness, now time.Time, plans bool) {
	headings := []string{"HOST", "REPOSITORY", "STATE", "LAST BACKUP", "LAST CHECK", "RESTORE TESTED", "NEXT RUN", "REMARK"}
	if plans {
		headings = append([]string{"PLAN"}, headings...)
	}
	t := newTable(s.Out, headings...)
	ago := func(at *time.Time) string {
		if at == nil {
			return human.None
		}
		return human.Ago(*at, now)
	}
	for _, f := range all {
		var backup *time.Time
		if f.LastSuccess != nil {
			backup = &f.LastSuccess.FinishedAt
		}
		next := human.None
		if f.NextRun != nil {
			next = soon(*f.NextRun, now)
		}
		row := []string{f.Host, f.Repository, string(f.State), ago(backup), ago(f.LastCheck), ago(f.LastRestoreTest), next, f.Message}
		if plans {
			row = append([]string{f.Plan}, row...)
		}
		t.row(row...)
	}
	t.end()
}

// planPart is a host and a repository of a plan, which may go without saying.
type planPart struct {
	onePlan
	Host string `help:"The host. Default: the only one that there is to choose." placeholder:"HOST"`
	Repo string `help:"The repository. Default: the only one that there is to choose." placeholder:"REPOSITORY" aliases:"repository"`
}

// choose returns those that were asked for, of those that wanted says.
func (c planPart) choose(s *session, api *client.Client, wanted func(fleet.Freshness) bool) ([]fleet.Freshness, error) {
	plan, err := api.Plan(s.ctx, c.Name)
	if err != nil {
		return nil, err
	}
	var found []fleet.Freshness
	for _, f := range plan.Freshness {
		if (c.Host == "" || f.Host == c.Host) && (c.Repo == "" || f.Repository == c.Repo) && wanted(f) {
			found = append(found, f)
		}
	}
	return found, nil
}

type planAccept struct {
	planPart
	All    bool   `help:"All of the plan's suspicious backups."`
	Reason string `help:"Why, for the audit." placeholder:"TEXT"`
}

// Run runs the command.
func (c planAccept) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	found, err := c.choose(s, api, func(f fleet.Freshness) bool { return f.Suspicion != nil })
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return errors.New("no backup of this plan is suspicious")
	case len(found) > 1 && !c.All:
		return console.Usage("%d backups are suspicious (choose with --host and --repo, or --all)", len(found))
	}
	var plan fleet.PlanView
	for _, f := range found {
		if plan, err = api.AcceptBackup(s.ctx, c.Name, f.Host, f.Repository, c.Reason); err != nil {
			return err
		}
	}
	return s.show(plan, func() {
		for _, f := range found {
			s.printf("Accepted the backup of %s to %s: %s\n", f.Host, f.Repository, console.Printable(f.Suspicion.Message))
		}
	})
}

type planTest struct {
	planPart
	NoWatch bool `help:"Do not wait for the end."`
}

// Run runs the command.
func (c planTest) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	found, err := c.choose(s, api, func(fleet.Freshness) bool { return true })
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return console.Usage("the plan backs up no such host to no such repository (borgfleet plan show %s)", c.Name)
	case len(found) > 1:
		return console.Usage("the plan has %d hosts and repositories (choose with --host and --repo)", len(found))
	}
	submitted, err := api.TestRestore(s.ctx, c.Name, found[0].Host, found[0].Repository)
	if err != nil {
		return err
	}
	if c.NoWatch {
		return s.show(submitted, func() { s.printSubmitted(submitted) })
	}
	return s.watch(api, submitted.ID)
}

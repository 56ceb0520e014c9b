package cli

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
)

type alertCommands struct {
	List      alertList      `cmd:"" help:"List what needs a person: what still holds first."`
	Show      alertShow      `cmd:"" help:"Show one alert."`
	Silence   alertSilence   `cmd:"" help:"Keep alerts quiet for a time. They are shown all the same."`
	Silences  alertSilences  `cmd:"" help:"List the silences."`
	Unsilence alertUnsilence `cmd:"" help:"End a silence."`
}

// alertChoice is what alerts are chosen by.
type alertChoice struct {
	Kind string `help:"Only of this kind: overdue, failed, offline, …" placeholder:"KIND"`
	Host string `help:"Only of this host." placeholder:"HOST"`
	Repo string `help:"Only on this repository." placeholder:"REPOSITORY" aliases:"repository"`
	Plan string `help:"Only of this plan." placeholder:"PLAN"`
}

type alertList struct {
	alertChoice
	Severity fleet.Severity `help:"Only of this severity: info, warning or critical." enum:",info,warning,critical" default:"" placeholder:"SEVERITY"`
	All      bool           `help:"Also those that are over." short:"a"`
	Limit    int            `help:"At most this many. Default: ${default}." default:"50" placeholder:"N"`
	Cursor   string         `help:"Go on where the list before ended." placeholder:"CURSOR"`
}

// Run runs the command.
func (c alertList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	page, err := api.Alerts(s.ctx, fleet.AlertFilter{
		Kind: c.Kind, Host: c.Host, Repository: c.Repo, Plan: c.Plan, Severity: c.Severity, Open: !c.All, Limit: c.Limit, Cursor: c.Cursor,
	})
	if err != nil {
		return err
	}
	return s.show(page, func() {
		if len(page.Alerts) == 0 {
			s.printf("No alerts.\n")
			return
		}
		now := time.Now()
		t := newTable(s.Out, "ALERT", "SEVERITY", "KIND", "PLAN", "HOST", "REPOSITORY", "RAISED", "STATE", "MESSAGE")
		for _, a := range page.Alerts {
			t.row(a.ID, string(a.Severity), a.Kind, orNone(a.Plan), orNone(a.Host), orNone(a.Repository), human.Ago(a.RaisedAt, now),
				alertState(a, now), a.Message)
		}
		t.end()
		if page.Cursor != "" {
			s.printf("There are more: add --cursor %s\n", page.Cursor)
		}
	})
}

func alertState(a fleet.Alert, now time.Time) string {
	switch {
	case a.ResolvedAt != nil:
		return "over " + human.Ago(*a.ResolvedAt, now)
	case a.Silenced != "":
		return "silenced"
	default:
		return "open"
	}
}

type alertShow struct {
	ID string `arg:"" help:"The alert's id, as alert list shows it."`
}

// Run runs the command.
func (c alertShow) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	a, err := api.Alert(s.ctx, c.ID)
	if err != nil {
		return err
	}
	return s.show(a, func() {
		now := time.Now()
		s.printf("%s\n", console.Printable(a.Message))
		if a.Hint != "" {
			s.printf("  hint: %s\n", console.Printable(a.Hint))
		}
		t := newFacts(s.Out)
		for _, fact := range []struct{ name, value string }{
			{"alert", a.ID}, {"kind", a.Kind}, {"severity", string(a.Severity)}, {"state", alertState(a, now)}, {"host", a.Host},
			{"repository", a.Repository}, {"plan", a.Plan}, {"job", string(a.Job)}, {"silence", a.Silenced}, {"raised", human.Ago(a.RaisedAt, now)},
		} {
			if fact.value != "" {
				t.row(fact.name, fact.value)
			}
		}
		for _, target := range a.Told {
			t.row("told", target)
		}
		t.end()
	})
}

type alertSilence struct {
	alertChoice
	For    days   `help:"For how long, for example 8h or 7d. Default: ${default}." default:"8h" placeholder:"TIME"`
	Reason string `help:"Why, for the audit and for others." placeholder:"TEXT"`
	All    bool   `help:"Every alert there is."`
}

// Run runs the command.
func (c alertSilence) Run(s *session) error {
	if nothing := c.alertChoice == (alertChoice{}); nothing != c.All {
		return console.Usage("which alerts? (give --kind, --host, --repo or --plan; or --all)")
	}
	if c.All {
		c.Kind = "*"
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	silence, err := api.AddSilence(s.ctx, fleet.Silence{
		Kind: c.Kind, Host: c.Host, Repository: c.Repo, Plan: c.Plan, Reason: c.Reason,
		Until: time.Now().Add(time.Duration(c.For)).Truncate(time.Second),
	})
	if err != nil {
		return err
	}
	return s.show(silence, func() {
		s.printf("Silent until %s. To end it: borgfleet alert unsilence %s\n", date(silence.Until), silence.ID)
	})
}

type alertSilences struct{}

// Run runs the command.
func (alertSilences) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	silences, err := api.Silences(s.ctx)
	if err != nil {
		return err
	}
	return s.show(silences, func() {
		if len(silences) == 0 {
			s.printf("Nothing is silenced.\n")
			return
		}
		t := newTable(s.Out, "SILENCE", "UNTIL", "KIND", "HOST", "REPOSITORY", "PLAN", "BY", "REASON")
		for _, silence := range silences {
			t.row(silence.ID, date(silence.Until), orAll(silence.Kind), orAll(silence.Host), orAll(silence.Repository), orAll(silence.Plan), silence.By, silence.Reason)
		}
		t.end()
	})
}

func orAll(text string) string {
	if text == "" {
		return "all"
	}
	return text
}

type alertUnsilence struct {
	ID string `arg:"" help:"The silence's id, as alert silences shows it."`
}

// Run runs the command.
func (c alertUnsilence) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.RemoveSilence(s.ctx, c.ID); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.ID}, func() { s.printf("The silence is over.\n") })
}

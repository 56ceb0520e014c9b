package cli

import (
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/secret"
)

type notifyCommands struct {
	Target targetCommands `cmd:"" help:"Where notifications go: list, set, test, remove."`
	Rule   ruleCommands   `cmd:"" help:"Which alerts go where: list, set, remove."`
	Log    notifyLog      `cmd:"" help:"List what was sent to whom, newest first."`
}

type targetCommands struct {
	List   targetList   `cmd:"" help:"List where notifications go."`
	Set    targetSet    `cmd:"" aliases:"add" help:"Add a target, or change it."`
	Test   targetTest   `cmd:"" help:"Send a test message."`
	Remove targetRemove `cmd:"" help:"Remove a target."`
}

type targetList struct{}

// Run runs the command.
func (targetList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	targets, err := api.Targets(s.ctx)
	if err != nil {
		return err
	}
	return s.show(targets, func() {
		if len(targets) == 0 {
			s.printf("Nobody is notified. Say where to with: borgfleet notify target set NAME\n")
			return
		}
		now := time.Now()
		t := newTable(s.Out, "TARGET", "KIND", "ADDRESS", "STATE")
		for _, target := range targets {
			t.row(target.Name, target.Kind, target.Shown, targetState(target, now))
		}
		t.end()
	})
}

func targetState(target fleet.Target, now time.Time) string {
	switch {
	case target.Disabled:
		return "off"
	case target.Trouble != "" && target.TroubleSince != nil:
		return "fails since " + human.Ago(*target.TroubleSince, now) + ": " + target.Trouble
	case target.Trouble != "":
		return "fails: " + target.Trouble
	default:
		return "works"
	}
}

type targetSet struct {
	Name       string `arg:"" help:"The target's name."`
	URLFile    string `name:"url-file" help:"File with the address, which may hold secrets; - is standard input. Default: you are asked at the terminal." type:"path" placeholder:"FILE"`
	Kind       string `help:"What answers at an http or https address: webhook or healthchecks." enum:",webhook,healthchecks" default:"" placeholder:"KIND"`
	SecretFile string `help:"Of a webhook: file with the key of its signature; - is standard input." type:"path" placeholder:"FILE"`
	Off        bool   `help:"Send nothing."`
	Keep       bool   `help:"Keep the address that there is, and do not ask for it."`
}

// Help is the end of the command's help.
func (targetSet) Help() string {
	return `Examples of addresses:

    ntfy://ntfy.sh/TOPIC
    smtp://USER:PASSWORD@mail.example.net:587/?from=borgfleet@example.net&to=ops@example.net
    https://hc-ping.com/UUID            with --kind healthchecks
    https://hooks.example.net/borgfleet with --kind webhook, and --secret-file for its signature

An address is never shown again as a whole, and never given on the command line, which others can see.`
}

// Run runs the command.
func (c targetSet) Run(s *session) error {
	if c.URLFile == "-" && c.SecretFile == "-" {
		return console.Usage("--url-file and --secret-file cannot both be standard input")
	}
	asked := fleet.NewTarget{Name: c.Name, Kind: c.Kind, Disabled: c.Off}
	var err error
	if asked.Secret, err = optional(s, c.SecretFile, "secret"); err != nil {
		return err
	}
	if !c.Keep {
		if asked.URL, err = s.secret(c.URLFile, "Address: ", "url"); err != nil {
			return err
		}
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	target, err := api.PutTarget(s.ctx, asked)
	if err != nil {
		return err
	}
	return s.show(target, func() {
		s.printf("Target %s is %s. To try it: borgfleet notify target test %s\n", target.Name, target.Shown, target.Name)
	})
}

// optional reads a secret that may be left out.
func optional(s *session, file, what string) (secret.Value, error) {
	if file == "" {
		return secret.Value{}, nil
	}
	return s.secret(file, "", what)
}

type oneTarget struct {
	Name string `arg:"" help:"The target's name."`
}

type targetTest struct{ oneTarget }

// Run runs the command.
func (c targetTest) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	sent, err := api.TestTarget(s.ctx, c.Name)
	if err != nil {
		return err
	}
	if err := s.show(sent, func() {
		if sent.Error != "" {
			s.printf("It was not taken: %s\n", console.Printable(sent.Error))
			return
		}
		s.printf("Sent, and taken there.\n")
	}); err != nil {
		return err
	}
	if sent.Error != "" {
		return console.Exit{Code: console.ExitFailed}
	}
	return nil
}

type targetRemove struct{ oneTarget }

// Run runs the command.
func (c targetRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.RemoveTarget(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() { s.printf("Removed target %s.\n", c.Name) })
}

type notifyLog struct {
	Target string `help:"Only to this target." placeholder:"TARGET"`
	Limit  int    `help:"At most this many. Default: ${default}." default:"50" placeholder:"N"`
	Cursor string `help:"Go on where the list before ended." placeholder:"CURSOR"`
}

// Run runs the command.
func (c notifyLog) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	sent, cursor, err := api.Deliveries(s.ctx, c.Target, c.Limit, c.Cursor)
	if err != nil {
		return err
	}
	page := struct {
		Deliveries []fleet.Delivery `json:"deliveries"`
		Cursor     string           `json:"cursor"`
	}{sent, cursor}
	return s.show(page, func() {
		if len(sent) == 0 {
			s.printf("Nothing was sent.\n")
			return
		}
		t := newTable(s.Out, "WHEN", "TARGET", "RULE", "STATE", "SUBJECT")
		for _, d := range sent {
			rule := d.Rule
			if rule == "" {
				rule = "(test)"
			}
			t.row(date(d.At), d.Target, rule, deliveryState(d), d.Subject)
		}
		t.end()
		if cursor != "" {
			s.printf("There are more: add --cursor %s\n", cursor)
		}
	})
}

func deliveryState(d fleet.Delivery) string {
	switch {
	case d.SentAt != nil:
		return "sent"
	case d.GivenUp:
		return "given up after " + human.Plural(d.Tries, "try") + ": " + d.Error
	case d.Error != "":
		return "tried " + human.Count(d.Tries) + " times: " + d.Error
	default:
		return "waiting"
	}
}

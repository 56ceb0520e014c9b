package cli

import (
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

type hostCommands struct {
	List   hostList   `cmd:"" help:"List hosts."`
	Show   hostShow   `cmd:"" help:"Show one host."`
	Add    hostAdd    `cmd:"" help:"Make a host known: one whose agent will enrol, or with --ssh one without."`
	Token  hostToken  `cmd:"" help:"Let a host in: a one-time token, and the command to run there."`
	Verify hostVerify `cmd:"" help:"Look whether a host can do its work, and what to do where it cannot."`
	Set    hostSet    `cmd:"" help:"Change how a host without an agent is reached."`
	Enable hostEnable `cmd:"" help:"Back a host up that was switched off, if it has borg."`

	Disable hostDisable `cmd:"" help:"Back a host up no more."`
	Key     hostKey     `cmd:"" help:"Print a host's public key, or the one that the coordinator shows."`
	Convert hostConvert `cmd:"" help:"Give a host that is reached over SSH an agent."`
	Remove  hostRemove  `cmd:"" help:"Remove a host, and cut its agent off at once."`
}

type hostList struct{}

// Run runs the command.
func (hostList) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	hosts, err := api.Hosts(s.ctx)
	if err != nil {
		return err
	}
	return s.show(hosts, func() {
		if len(hosts) == 0 {
			s.printf("No hosts yet. Let one in with: borgfleet host token NAME\n")
			return
		}
		s.printHosts(hosts, time.Now())
	})
}

func (s *session) printHosts(hosts []fleet.HostView, now time.Time) {
	t := newTable(s.Out, "HOST", "PRESENCE", "LAST BACKUP", "NEW", "BORG", "AGENT")
	for _, h := range hosts {
		backup, added := human.None, human.None
		if h.LastBackup != nil {
			backup, added = human.Ago(h.LastBackup.FinishedAt, now), human.Bytes(h.LastBackup.DeduplicatedSize)
		}
		borg, agent := human.None, human.None
		if h.Facts != nil {
			borg, agent = orNone(h.Facts.BorgVersion), orNone(h.Facts.AgentVersion)
		}
		switch h.Mode {
		case fleet.ModeSSH:
			agent = "over SSH"
		case fleet.ModeLocal:
			agent = "the coordinator"
		}
		t.row(h.Name, presence(h, now), backup, added, borg, agent)
	}
	t.end()
}

func orNone(text string) string {
	if text == "" {
		return human.None
	}
	return text
}

func presence(h fleet.HostView, now time.Time) string {
	switch {
	case h.Problem != nil:
		return "not reached: " + string(h.Problem.Code)
	case h.Online && h.Disabled:
		return "online, switched off"
	case h.Online:
		return "online"
	case h.PublicKey == "" && h.Mode != fleet.ModeSSH && h.Mode != fleet.ModeLocal:
		return "not enrolled"
	case h.Since.IsZero():
		return "never connected"
	default:
		return "offline, seen " + human.Ago(h.Since, now)
	}
}

type hostToken struct {
	Name    string `arg:"" help:"The host's name, new or known: a-z, 0-9 and -."`
	Expires days   `help:"How long the token may be used, for example 15m or 2d; at most ${max_enrolment_days}d. Default: ${default}." default:"1h" placeholder:"TIME"`
	Replace bool   `help:"Let it replace the identity of a host that has one, for example after a new installation."`
}

// Help is the end of the command's help.
func (hostToken) Help() string {
	return `The token is one word. It holds the coordinator's address, the fingerprint of its certificate's authority and a secret that works once.`
}

// Run runs the command.
func (c hostToken) Run(s *session) error {
	if err := job.CheckHostName("name", c.Name); err != nil {
		return err
	}
	if err := c.Expires.check(maxEnrolmentDays); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	made, err := api.EnrolmentToken(s.ctx, fleet.NewEnrolmentToken{Host: c.Name, Lifetime: time.Duration(c.Expires), Replace: c.Replace})
	if err != nil {
		return err
	}
	if s.globals.JSON {
		return s.PrintJSON(struct {
			fleet.EnrolmentToken
			Token   string `json:"token"`
			URL     string `json:"url"`
			Command string `json:"command"`
		}{made.EnrolmentToken, string(made.Token.Reveal()), made.URL, made.Command})
	}
	s.printf("Run this on %s, as root, before %s; it works once:\n\n  %s\n", c.Name, made.ExpiresAt.Local().Format(time.DateTime), made.Command)
	return nil
}

type hostRemove struct {
	Name string `arg:"" help:"The host's name."`
	Yes  bool   `help:"Do not ask whether you are sure." short:"y"`
}

// Run runs the command.
func (c hostRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if !c.Yes {
		err := s.confirm(
			fmt.Sprintf("Remove host %s? Its agent is cut off at once, or the coordinator's key for it forgotten; its jobs that are not over end. [y/N] ", c.Name),
			"this cuts the host's agent off and ends its jobs (add --yes if you are sure)")
		if err != nil {
			return err
		}
	}
	if err := api.RemoveHost(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() {
		s.printf("Host %s is removed, and cut off. Its archives stay where they are.\n", c.Name)
	})
}

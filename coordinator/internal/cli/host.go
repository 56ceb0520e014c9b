package cli

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
	"github.com/borgfleet/borgfleet/coordinator/internal/human"
	"github.com/borgfleet/borgfleet/shared/job"
)

type hostCommands struct {
	List   hostList   `cmd:"" help:"List hosts."`
	Show   hostShow   `cmd:"" help:"Show one host."`
	Add    hostAdd    `cmd:"" help:"Add a host, and write the credentials for its agent."`
	Remove hostRemove `cmd:"" help:"Remove a host that has no open jobs."`
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
			s.printf("No hosts yet. Add one with: borgfleet host add NAME\n")
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
	case h.Online:
		return "online"
	case h.Since.IsZero():
		return "never connected"
	default:
		return "offline, seen " + human.Ago(h.Since, now)
	}
}

type hostShow struct {
	Name string `arg:"" help:"The host's name."`
}

// Run runs the command.
func (c hostShow) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	host, err := api.Host(s.ctx, c.Name)
	if err != nil {
		return err
	}
	return s.show(host, func() { s.printHost(host) })
}

func (s *session) printHost(host fleet.HostView) {
	now := time.Now()
	t := newFacts(s.Out)
	t.row("host", host.Name)
	t.row("presence", presence(host, now))
	t.row("running", human.Plural(host.Running, "job"))
	if f := host.Facts; f != nil {
		t.row("system", f.OS)
		t.row("borg", orNone(f.BorgVersion))
		if f.BorgFailure != nil {
			t.row("", f.BorgFailure.Error())
		}
		t.row("agent", f.AgentVersion+", started "+human.Ago(f.StartedAt, now))
		t.row("free space", human.Bytes(int64(min(f.FreeBytes, 1<<62)))+" where borg keeps its cache")
		t.row("journal", human.Plural(f.JournalDepth, "event")+" not yet stored here")
	}
	if b := host.LastBackup; b != nil {
		t.row("last backup", fmt.Sprintf("%s, %s (%s new)", human.Ago(b.FinishedAt, now), b.Archive, human.Bytes(b.DeduplicatedSize)))
	}
	t.end()
}

type hostAdd struct {
	Name  string            `arg:"" help:"The new host's name: a-z, 0-9 and -."`
	Label map[string]string `help:"A label, as key=value; may be repeated." placeholder:"KEY=VALUE"`
}

// Run runs the command.
func (c hostAdd) Run(s *session) error {
	if err := job.CheckHostName("name", c.Name); err != nil {
		return err
	}
	api, err := s.connect()
	if err != nil {
		return err
	}
	added, err := api.AddHost(s.ctx, c.Name, c.Label)
	if err != nil {
		return err
	}
	return s.show(added, func() {
		bus := "BUS"
		if endpoints, err := readEndpoints(filepath.Dir(filepath.Dir(added.CredentialsDir))); err == nil {
			bus = endpoints.Bus
		}
		s.printf("Added host %s. Its agent's credentials are in %s.\nStart its agent, on this machine:\n", c.Name, added.CredentialsDir)
		s.printf("  borgfleet-agent run --host %s --bus %s --credentials %s\n", c.Name, bus, filepath.Join(added.CredentialsDir, "agent.creds"))
	})
}

type hostRemove struct {
	Name string `arg:"" help:"The host's name."`
}

// Run runs the command.
func (c hostRemove) Run(s *session) error {
	api, err := s.connect()
	if err != nil {
		return err
	}
	if err := api.RemoveHost(s.ctx, c.Name); err != nil {
		return err
	}
	return s.show(map[string]string{"removed": c.Name}, func() { s.printf("Host %s is removed. Its archives stay where they are.\n", c.Name) })
}

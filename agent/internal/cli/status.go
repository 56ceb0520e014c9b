package cli

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/borgfleet/borgfleet/agent/internal/daemon"
	"github.com/borgfleet/borgfleet/agent/internal/uplink"
)

type statusCommand struct {
	settings
	JSON bool `help:"Print JSON." name:"json"`
}

// Run shows the status of the running agent.
func (c statusCommand) Run(s *session) error {
	configuration, err := c.load()
	if err != nil {
		return err
	}
	status, err := daemon.Ask(s.ctx, configuration.Data)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.PrintJSON(status)
	}
	return printStatus(s.Out, status, time.Now())
}

func printStatus(out io.Writer, status daemon.Status, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	row("host", "%s", status.Host)
	row("agent", "%s, process %d, up %s", status.Version, status.PID, ago(status.StartedAt, now))
	row("data", "%s", status.Data)
	if status.BorgFailure != nil {
		row("borg", "%s", status.BorgFailure)
	} else {
		row("borg", "%s", status.BorgVersion)
	}
	switch {
	case !status.Bus.Connected:
		row("bus", "not connected for %s: %s", ago(status.Bus.Since, now), cmp.Or(status.Bus.Error, "trying"))
		if status.Bus.Hint != "" {
			row("", "%s", status.Bus.Hint)
		}
	case status.Bus.Duplicate:
		row("bus", "connected to %s, but refused: %s", status.Bus.URL, status.Bus.Error)
		row("", "%s", status.Bus.Hint)
	case status.Bus.Error != "":
		row("bus", "connected to %s, but the coordinator does not answer: %s", status.Bus.URL, status.Bus.Error)
	case status.Bus.HelloAt.IsZero():
		row("bus", "connected to %s; the coordinator has not answered yet", status.Bus.URL)
	default:
		row("bus", "connected to %s for %s, coordinator heard %s ago", status.Bus.URL, ago(status.Bus.Since, now), ago(status.Bus.HelloAt, now))
		row("clock", "%s", uplink.DescribeSkew(status.Bus.ClockSkew))
	}
	row("journal", "%d events not stored by the coordinator yet", status.JournalDepth)
	for _, file := range status.Damaged {
		row("", "was damaged and set aside as %s", file)
	}
	for _, id := range status.Orphans {
		row("orphan", "%s runs, and the journal does not know it; it is being ended, and no job begins before that", id)
	}
	for _, point := range status.Mounts {
		row("mounted", "%s", point)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return printAttempts(out, status)
}

func printAttempts(out io.Writer, status daemon.Status) error {
	if len(status.Attempts) == 0 {
		_, err := fmt.Fprintf(out, "\nno jobs (%d at once)\n", status.Slots)
		return err
	}
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprint(table, "\nJOB\tATTEMPT\tKIND\tREPOSITORY\tSTATE\tUNTOLD\n")
	for _, a := range status.Attempts {
		state := a.State
		if a.Cancelled && state != "finished" {
			state += ", to be cancelled"
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%d\n", a.Job, a.Attempt, cmp.Or(string(a.Kind), "-"), cmp.Or(a.Repository, "-"), state, a.Unstored)
	}
	return table.Flush()
}

func ago(since, now time.Time) time.Duration { return max(now.Sub(since), 0).Round(time.Second) }

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/agent/internal/daemon"
	"github.com/borgfleet/borgfleet/agent/internal/depot"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
	"github.com/borgfleet/borgfleet/shared/mount"
	"github.com/borgfleet/borgfleet/shared/probe"
)

const (
	littleSpace = 1 << 30   // borg's cache may not fit: a warning
	noSpace     = 100 << 20 // nothing fits: a failure
)

type doctorCommand struct {
	settings
	JSON bool `help:"Print JSON." name:"json"`
}

// check is one thing that was looked at.
type check struct {
	Name    string `json:"name"`
	State   string `json:"state"` // ok, warning, failed
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

func ok(name, format string, args ...any) check {
	return check{Name: name, State: "ok", Message: fmt.Sprintf(format, args...)}
}

func failed(name string, err error) check {
	failure := job.AsFailure(err)
	if failure.Code == job.Internal {
		failure.Hint = ""
	}
	return check{Name: name, State: "failed", Message: failure.Message, Fix: failure.Hint}
}

// Run looks at everything that the agent needs, and fails when something that
// it cannot do without is wrong.
func (c doctorCommand) Run(s *session) error {
	configuration, err := c.load()
	if err != nil {
		return err
	}
	running, err := daemon.Ask(s.ctx, configuration.Data)
	checks := examine(s.ctx, configuration, running, err)
	bad := false
	for _, check := range checks {
		bad = bad || check.State == "failed"
	}
	if c.JSON {
		err = s.PrintJSON(struct {
			OK     bool    `json:"ok"`
			Checks []check `json:"checks"`
		}{!bad, checks})
	} else {
		err = printChecks(s, checks)
	}
	if err == nil && bad {
		err = console.Exit{Code: console.ExitFailed}
	}
	return err
}

func printChecks(s *session, checks []check) error {
	table := tabwriter.NewWriter(s.Out, 0, 4, 2, ' ', 0)
	for _, check := range checks {
		fmt.Fprintf(table, "%s\t%s\t%s\n", check.State, check.Name, check.Message)
		if check.Fix != "" {
			fmt.Fprintf(table, "\t\tfix: %s\n", check.Fix)
		}
	}
	return table.Flush()
}

func examine(ctx context.Context, c config.Config, running daemon.Status, notRunning error) []check {
	checks := append([]check{checkAgent(running, notRunning)}, checkHost(ctx, c)...)
	if notRunning != nil {
		return append(checks, tryBus(c)...)
	}
	checks = append(checks, checkSession(c, running)...)
	if n := len(running.Orphans); n > 0 {
		checks = append(checks, check{Name: "orphans", State: "warning",
			Message: fmt.Sprintf("%d runs that the journal does not know are being ended; no job begins before that", n)})
	}
	if !running.Bus.HelloAt.IsZero() {
		checks = append(checks, checkClock(running.Bus.ClockSkew))
	}
	return checks
}

// checkHost looks at what is on this host, whether an agent runs or not.
func checkHost(ctx context.Context, c config.Config) []check {
	checks := []check{
		checkBorg(ctx, c), checkMount(ctx, c), checkData(c.Data), checkJournal(c.Data), checkSpace(c.Data),
		checkCredentials(c), checkSigner(c), checkSealKey(c),
	}
	checks = append(checks, checkDepot(ctx, c)...)
	return append(checks, checkPaths(c)...)
}

func checkAgent(running daemon.Status, notRunning error) check {
	if notRunning != nil {
		result := failed("agent", notRunning)
		result.State = "warning"
		return result
	}
	return ok("agent", "%s runs as process %d, with %d events to tell", running.Version, running.PID, running.JournalDepth)
}

func checkBorg(ctx context.Context, c config.Config) check {
	version, failure := probe.NewBorg(c.Borg.Binary).Version(ctx)
	if failure != nil {
		return failed("borg", failure)
	}
	return ok("borg", "%s is %s", c.Borg.Binary, version.Text)
}

// checkMount says whether archives can be mounted, which not every host needs.
func checkMount(ctx context.Context, c config.Config) check {
	support := mount.Verify(ctx, c.Borg.Binary)
	if !support.Good {
		return check{Name: "mount", State: "warning", Message: "archives cannot be mounted: " + support.Detail, Fix: support.Hint}
	}
	return ok("mount", "archives can be mounted with %s", support.Detail)
}

func checkData(dir string) check {
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return check{Name: "data", State: "warning", Message: dir + " does not exist yet; the agent makes it when it starts"}
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return check{Name: "data", State: "failed", Message: fmt.Sprintf("%s is open to others (mode %04o)", dir, info.Mode().Perm()),
			Fix: "chmod 700 " + dir}
	}
	var file *os.File
	if err == nil {
		file, err = os.CreateTemp(dir, "doctor-*")
	}
	if err != nil {
		return failed("data", job.Fail(job.PermissionDenied, "%s cannot be written: %s", dir, err).
			WithHint("run this as the agent's user, usually root; the file system may also be full or read-only"))
	}
	if err := errors.Join(file.Close(), os.Remove(file.Name())); err != nil {
		return failed("data", err)
	}
	return ok("data", "%s can be written", dir)
}

func checkJournal(dir string) check {
	files := daemon.DamagedJournals(dir)
	if len(files) == 0 {
		return ok("journal", "none was found damaged")
	}
	return check{Name: "journal", State: "warning",
		Message: "it was found damaged, set aside, and begun anew: " + strings.Join(files, ", "),
		Fix:     "look at the disk of " + dir + " (dmesg, smartctl), then remove these files",
	}
}

func checkSpace(dir string) check {
	for filepath.Dir(dir) != dir { // of the nearest directory that exists
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	free := probe.FreeBytes(dir)
	result := ok("space", "%.1f GiB free under %s", float64(free)/(1<<30), dir)
	if free < littleSpace {
		result.State, result.Fix = "warning", "free some, or move data: to another file system; borg's cache is kept there"
	}
	if free < noSpace {
		result.State = "failed"
	}
	return result
}

// checkDepot looks whether the coordinator's depot can be reached, once an order
// has said where it is.
func checkDepot(ctx context.Context, c config.Config) []check {
	address, err := depot.New(c.Data).Check(ctx)
	switch {
	case err != nil:
		return []check{failed("depot", err)}
	case address == "":
		return nil
	default:
		return []check{ok("depot", "the coordinator's depot answers at %s, with the key that it should have", address)}
	}
}

func checkPaths(c config.Config) []check {
	var checks []check
	for _, root := range c.Policy.Read {
		name := "read " + root
		if _, err := os.ReadDir(root); err != nil {
			checks = append(checks, failed(name, job.Fail(job.PermissionDenied, "cannot be read: %s", err).
				WithHint("run the agent as root, or take it out of policy.read in agent.yaml")))
			continue
		}
		checks = append(checks, ok(name, "can be read, and may be backed up"))
	}
	return checks
}

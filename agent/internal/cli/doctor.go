package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go"

	"github.com/borgfleet/borgfleet/agent/internal/config"
	"github.com/borgfleet/borgfleet/agent/internal/daemon"
	"github.com/borgfleet/borgfleet/agent/internal/probe"
	"github.com/borgfleet/borgfleet/shared/bus"
	"github.com/borgfleet/borgfleet/shared/console"
	"github.com/borgfleet/borgfleet/shared/job"
)

const (
	littleSpace = 1 << 30   // borg's cache may not fit: a warning
	noSpace     = 100 << 20 // nothing fits: a failure
	busWait     = 5 * time.Second
	maxSkew     = bus.OrderLifetime / 2
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
	checks := []check{
		checkAgent(running, notRunning), checkBorg(ctx, c), checkData(c.Data), checkSpace(c.Data),
		checkCredentials(c), checkSigner(c), checkBus(ctx, c, running, notRunning),
	}
	if notRunning == nil && !running.Bus.HelloAt.IsZero() {
		checks = append(checks, checkClock(running.Bus.ClockSkew))
	}
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

func checkSpace(dir string) check {
	for filepath.Dir(dir) != dir { // of the nearest directory that exists
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	free := probe.FreeBytes(dir)
	result := ok("space", "%s free under %s", humanize.IBytes(free), dir)
	if free < littleSpace {
		result.State, result.Fix = "warning", "free some, or move data: to another file system; borg's cache is kept there"
	}
	if free < noSpace {
		result.State = "failed"
	}
	return result
}

func checkCredentials(c config.Config) check {
	if err := daemon.CheckCredentials(c.Bus.CredentialsFile, c.Host); err != nil {
		return failed("credentials", err)
	}
	return ok("credentials", "%s can be read, by its owner only", c.Bus.CredentialsFile)
}

func checkSigner(c config.Config) check {
	if _, err := daemon.Signer(c.Bus.SignerFile, c.Host); err != nil {
		return failed("signer", err)
	}
	return ok("signer", "%s holds the coordinator's signing key", c.Bus.SignerFile)
}

// checkBus asks the running agent, or tries to connect.
func checkBus(ctx context.Context, c config.Config, running daemon.Status, notRunning error) check {
	if notRunning == nil {
		if !running.Bus.Connected || running.Bus.Error != "" {
			return unreachable(c, cmp.Or(running.Bus.Error, "not connected yet"), running.Bus.Refused)
		}
		return ok("bus", "the agent is connected to %s", running.Bus.URL)
	}
	if daemon.CheckCredentials(c.Bus.CredentialsFile, c.Host) != nil {
		return check{Name: "bus", State: "failed", Message: "not tried, since there are no usable credentials"}
	}
	if err := tryBus(ctx, c); err != nil {
		return unreachable(c, err.Error(), errors.Is(err, nats.ErrAuthorization))
	}
	return ok("bus", "%s can be reached with these credentials", strings.Join(c.Bus.URLs, ", "))
}

func unreachable(c config.Config, why string, refused bool) check {
	fix := "see that the coordinator runs, that bus.urls is its address, and that no firewall is between"
	if refused {
		fix = "the coordinator does not know these credentials: get them again with \"borgfleet host add " + c.Host + "\""
	}
	return check{Name: "bus", State: "failed", Message: strings.Join(c.Bus.URLs, ", ") + ": " + why, Fix: fix}
}

func tryBus(ctx context.Context, c config.Config) error {
	tls, err := daemon.Trust(c.Bus.CAFile)
	if err != nil {
		return err
	}
	options := bus.ConnectOptions{Name: c.Host, Credentials: c.Bus.CredentialsFile, TLS: tls}.Options()
	options = append(options, nats.RetryOnFailedConnect(false), nats.MaxReconnects(0), nats.Timeout(busWait))
	var last error
	for _, url := range c.Bus.URLs {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		conn, err := nats.Connect(url, options...)
		if err == nil {
			conn.Close()
			return nil
		}
		last = err
	}
	return last
}

func checkClock(skew time.Duration) check {
	if skew.Abs() <= maxSkew {
		return ok("clock", "%s from the coordinator's", skew)
	}
	return check{Name: "clock", State: "failed", Message: fmt.Sprintf("%s from the coordinator's; orders are refused above %s", skew, bus.OrderLifetime),
		Fix: "set both clocks, for example with systemd-timesyncd or chrony"}
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

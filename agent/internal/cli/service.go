package cli

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/borgfleet/borgfleet/agent/internal/identity"
	"github.com/borgfleet/borgfleet/shared/job"
)

// unitText is a copy of the unit in deploy, from where it cannot be embedded.
//
//go:embed borgfleet-agent.service
var unitText string

const (
	unitName = "borgfleet-agent.service"
	unitPath = "/usr/local/bin/borgfleet-agent" // of the binary, in the unit
)

// service is the machine's service manager.
type service struct {
	runtime   string   // a directory that is there when systemd runs
	units     []string // directories of units; a missing one is written to the first
	control   string   // systemctl
	uid       int
	ourselves func() (string, error) // path of the agent's binary
}

// systemd is this machine's.
var systemd = service{
	runtime: "/run/systemd/system",
	units:   []string{"/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"},
	control: "systemctl", uid: os.Geteuid(), ourselves: os.Executable,
}

// available reports whether the agent can be made a service here.
func (s service) available() bool {
	_, err := os.Stat(s.runtime)
	return err == nil && s.uid == 0
}

// start installs the unit if there is none, and (re)starts the agent: one that
// runs already has to read its configuration again, and borg outlives it.
func (s service) start(ctx context.Context, out io.Writer) error {
	if err := s.install(out); err != nil {
		return err
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "--quiet", unitName}, {"restart", unitName}} {
		said, err := exec.CommandContext(ctx, s.control, args...).CombinedOutput()
		if err != nil {
			return job.Fail(job.Internal, "systemctl %s: %s", strings.Join(args, " "), strings.TrimSpace(string(said)+" "+err.Error())).
				WithHint("the host is enrolled; see systemctl status borgfleet-agent, or start borgfleet-agent run another way")
		}
	}
	_, err := fmt.Fprintln(out, "The agent runs, and starts with this machine (systemctl status borgfleet-agent).")
	return err
}

func (s service) install(out io.Writer) error {
	for _, dir := range s.units {
		if _, err := os.Stat(filepath.Join(dir, unitName)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	binary, err := s.ourselves()
	if err != nil {
		return fmt.Errorf("find the agent's own binary: %w", err)
	}
	path := filepath.Join(s.units[0], unitName)
	if err := identity.WriteFile(path, []byte(strings.ReplaceAll(unitText, unitPath, binary)), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Wrote %s.\n", path)
	return err
}
